"""What a source said beyond the columns of an exported set: it follows behind, as it was.

A source's column NAME leaves as NAME; where the set has a column of that name, as src_NAME, which
is taken in again as NAME. Nested columns and bytes stay behind: persons may be named inside them.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.export.columns import PICKAPIC
from toolkit.pairs import SOURCE_PREFIX
from toolkit.places import readable
from toolkit.schema import column

_PERSON = re.compile(r"annotator|user|worker|rater|voter|judge|person|author", re.IGNORECASE)
"""Names of columns that may tell persons from each other."""
_EARLIER = frozenset(
    name
    for name in (
        *("minority", "stability", "verdict", "original_label_0", "pair_id"),
        *("chosen_uid", "rejected_uid", "chosen_model", "rejected_model"),
    )
)
"""What another curation said: stale behind this one's. A confidence may be the source's own."""
_EXPORTED = frozenset(("original_label_0", "pair_id"))
"""Who has these columns was exported before."""


@dataclass(frozen=True)
class Further:
    """Which columns follow, and how they are filled."""

    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    """As exported."""
    rename: Callable[[str], int] | None = None
    """What becomes of a name in a column that may tell persons; None: it leaves as it is."""

    def columns(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """The columns of a batch of the pairs table; null where a part lacks one."""
        made = {}
        for one in self.schema:
            own = SOURCE_PREFIX + one.name.removeprefix(SOURCE_PREFIX)
            if own not in batch.schema.names:
                made[one.name] = pa.nulls(batch.num_rows, one.type)
            elif self.rename and _PERSON.search(one.name):
                names = batch.column(own).to_pylist()
                renamed = [None if name is None else self.rename(str(name)) for name in names]
                made[one.name] = pa.array(renamed, one.type)
            else:
                made[one.name] = batch.column(own).cast(one.type)
        return made


def further_columns(
    files: Sequence[Path], taken: Sequence[str], rename: Callable[[str], int] | None
) -> Further:
    """The flat source columns of the pairs' parts that are none of Pick-a-Pic's.

    `taken`: names of the set's own columns. A type that differs from part to part becomes text.
    """
    kinds: dict[str, pa.DataType] = {}
    for file in files:
        for one in pq.read_schema(readable(file)):
            if one.name.startswith(SOURCE_PREFIX) and _flat(one.type):
                bare = one.name.removeprefix(SOURCE_PREFIX)
                same = kinds.setdefault(bare, one.type) == one.type
                kinds[bare] = one.type if same else pa.string()
    said = {"sample_weight", *PICKAPIC.names}
    if set(kinds) >= _EXPORTED:
        said |= _EARLIER
    fields = []
    for bare in sorted(set(kinds) - said):
        kind, meaning = kinds[bare], "as the source had it"
        if rename and _PERSON.search(bare):
            kind, meaning = pa.int64(), f"{meaning}, by a keyed pseudonym"
        name = SOURCE_PREFIX + bare if bare in taken else bare
        fields.append(column(name, kind, meaning))
    return Further(pa.schema(fields), rename)


def _flat(kind: pa.DataType) -> bool:
    test = pa.types
    texts = test.is_string(kind) or test.is_large_string(kind) or test.is_boolean(kind)
    numbers = test.is_integer(kind) or test.is_floating(kind)
    return bool(texts or numbers or test.is_timestamp(kind) or test.is_date(kind))
