"""What a source said beyond the columns of an exported set: it follows behind, as it was.

A source's column NAME leaves as NAME; where the set has a column of that name, as src_NAME, which
is taken in again as NAME. Nested columns and bytes stay behind: persons may be named inside them.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit.export.columns import PICKAPIC
from toolkit.pairs import EXPORTED, SOURCE_PREFIX
from toolkit.places import readable
from toolkit.schema import column

_PERSON = (
    r"(annotat\w*|label(l)?er|mail|user|worker|rater|voter|judge|review\w*|evaluator|participant"
    r"|person|author|curator|expert|mturk|prolific|account|session|login|phone|address"
    r"|(first|last|full|given|sur|nick)_?name|^name|^who|^uid|^ip|_ip|_by$)"
)
_TEXT = re.compile(_PERSON, re.IGNORECASE)
"""Names of columns of texts that may tell persons from each other: rather too many than too few,
since a pseudonym still tells them apart."""
_NUMBER = re.compile(
    r"^(?!num|n_|count|total).*" + _PERSON + r"(s?$|.*(id|uid|key|code|hash)$)", re.IGNORECASE
)
"""The same of whole numbers, which more often count or score: num_raters, expert_score."""
_EARLIER = frozenset(
    name
    for name in (
        *("minority", "stability", "verdict", "original_label_0", "pair_id"),
        *("chosen_uid", "rejected_uid", "chosen_model", "rejected_model"),
    )
)
"""What another curation said: stale behind this one's. A confidence may be the source's own."""


@dataclass(frozen=True)
class Further:
    """Which columns follow, and how they are filled."""

    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    """As exported."""
    stored: tuple[str, ...] = ()
    """Their names in the pairs table."""
    renamed: frozenset[str] = frozenset()
    """Those whose values leave as pseudonyms."""
    rename: Callable[[str], int] | None = None

    def columns(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """The columns of a batch of the pairs table; null where a part lacks one."""
        made = {}
        for one, own in zip(self.schema, self.stored, strict=True):
            if own not in batch.schema.names:
                made[one.name] = pa.nulls(batch.num_rows, one.type)
            elif self.rename and one.name in self.renamed:
                names = batch.column(own).to_pylist()
                told = [None if name is None else self.rename(_as_text(name)) for name in names]
                made[one.name] = pa.array(told, one.type)
            else:
                made[one.name] = batch.column(own).cast(one.type)
        return made


def further_columns(
    files: Sequence[Path],
    taken: Sequence[str],
    annotators: pa.ChunkedArray,
    rename: Callable[[str], int] | None,
) -> Further:
    """The flat source columns of the pairs' parts that are none of Pick-a-Pic's.

    `taken`: names of the set's own columns. `annotators`: of every row of the parts; a column that
    says the same, whatever its name, leaves as pseudonyms with those that may name persons. Types
    that differ from part to part become the one that holds both, else text.
    """
    kinds = _kinds([pq.read_schema(readable(file)) for file in files])
    bare = {own: own.removeprefix(SOURCE_PREFIX) for own in sorted(kinds)}
    said = {"sample_weight", *PICKAPIC.names}
    if set(bare.values()) >= EXPORTED:
        said |= _EARLIER
    fields, stored, renamed = [], [], set()
    for own, name in bare.items():
        if name in said:
            continue
        kind, meaning = kinds[own], "as the source had it"
        shown = own if name in taken else name
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            # pandas makes doubles of whole numbers where one is missing.
            tells = pa.int64() if rename and _whole(files, own) else kind
        else:
            tells = kind
        if rename and (_may_name(tells, name) or _says(files, own, tells, annotators)):
            kind, meaning = pa.int64(), f"{meaning}, by a keyed pseudonym"
            renamed.add(shown)
        fields.append(column(shown, kind, meaning))
        stored.append(own)
    return Further(pa.schema(fields), tuple(stored), frozenset(renamed), rename)


def _says(files: Sequence[Path], own: str, kind: pa.DataType, annotators: pa.ChunkedArray) -> bool:
    """Whether a stored column names the annotator wherever both are known."""
    if not _tells(kind):
        return False
    pieces = [chunk.cast(pa.string()) for chunk in _stored(files, own)]
    same = pc.equal(
        _plain(pa.chunked_array(pieces, pa.string())), _plain(annotators.cast(pa.string()))
    )
    return same.null_count < len(same) and bool(pc.all(same).as_py())


def _as_text(name: Any) -> str:
    """A person's name or number as the annotators' are written: 101.0 is 101."""
    whole = isinstance(name, float | Decimal) and name % 1 == 0
    return str(int(name)) if whole else str(name)


def _plain(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts in which 101.0 is 101, as another type has it."""
    return pc.replace_substring_regex(texts, r"\.0+$", "")


def _whole(files: Sequence[Path], own: str) -> bool:
    """Whether a stored column of numbers has whole ones only, and any."""
    found = False
    for chunk in _stored(files, own):
        known = pc.drop_null(chunk.cast(pa.float64()))
        known = known.filter(pc.is_finite(known))
        if len(known) and not pc.all(pc.equal(known, pc.floor(known))).as_py():
            return False
        found = found or len(known) > 0
    return found


def _stored(files: Sequence[Path], own: str) -> Iterator[pa.Array]:
    """A column of the parts, a chunk at a time; nulls where a part lacks it."""
    for file in files:
        with pq.ParquetFile(readable(file)) as opened:
            if own in opened.schema_arrow.names:
                yield from opened.read([own])[own].chunks
            else:
                yield pa.nulls(opened.metadata.num_rows)


def _kinds(schemas: Sequence[pa.Schema]) -> dict[str, pa.DataType]:
    """The source's flat columns and a type that every part's values fit."""
    kinds: dict[str, pa.DataType] = {}
    nested = set()
    for one in (one for schema in schemas for one in schema):
        if not one.name.startswith(SOURCE_PREFIX) or one.type == pa.null():
            continue
        if not _flat(one.type):
            nested.add(one.name)
        kinds[one.name] = _both(kinds.get(one.name, one.type), one.type)
    return {name: kind for name, kind in kinds.items() if name not in nested}


def _both(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    try:
        fields = [pa.schema([pa.field("x", kind)]) for kind in (one, other)]
        return pa.unify_schemas(fields, promote_options="permissive").field("x").type
    except pa.ArrowException:  # such as a number and a text
        return pa.string()


def _may_name(kind: pa.DataType, name: str) -> bool:
    words = _NUMBER if pa.types.is_integer(kind) else _TEXT
    return _tells(kind) and bool(words.search(name))


def _tells(kind: pa.DataType) -> bool:
    """A text or a whole number: what a person is told by."""
    test = pa.types
    return bool(test.is_string(kind) or test.is_large_string(kind) or test.is_integer(kind))


def _flat(kind: pa.DataType) -> bool:
    test = pa.types
    if test.is_dictionary(kind):
        return False
    held = test.is_binary(kind) or test.is_large_binary(kind) or test.is_fixed_size_binary(kind)
    return not (test.is_nested(kind) or held)
