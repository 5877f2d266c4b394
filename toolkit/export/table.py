"""Rows of the pairs table, as decided by the plan, turned into exported ones.

The columns of an exported set: Pick-a-Pic's nineteen with their types, then ours.

What a source said beyond the columns of an exported set: it follows behind, as it was.

A source's column NAME leaves as NAME; where the set has a column of that name, as src_NAME, which
is taken in again as NAME. Nested columns and bytes stay behind: persons may be named inside them.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit.errors import InputError
from toolkit.export.decisions import Floats, Plan
from toolkit.export.policy import Policy
from toolkit.files.remote import readable
from toolkit.pairs import EXPORTED, SOURCE_PREFIX
from toolkit.schema import column
from toolkit.store import Store
from toolkit.store.images import ImageReader
from toolkit.store.pseudonyms import namer

PICKAPIC = pa.schema(
    [
        column("are_different", pa.bool_(), "whether the two images differ"),
        column("best_image_uid", pa.string(), "uid of the preferred image; null for a tie of ours"),
        column("caption", pa.string(), "the prompt"),
        column("created_at", pa.timestamp("ns"), "when the vote was given, UTC"),
        column("has_label", pa.bool_(), "whether anybody judged the pair"),
        column("image_0_uid", pa.string(), "name of the first image"),
        column("image_0_url", pa.string(), "where it came from, if the source says"),
        column("image_1_uid", pa.string(), "name of the second image"),
        column("image_1_url", pa.string(), "where it came from, if the source says"),
        column("jpg_0", pa.binary(), "the first image, encoded as the source had it"),
        column("jpg_1", pa.binary(), "the second image"),
        column("label_0", pa.float64(), "1: image 0 preferred, 0: image 1, .5: tie, null: none"),
        column("label_1", pa.float64(), "1 - label_0"),
        column("model_0", pa.string(), "the model that made the first image"),
        column("model_1", pa.string(), "the model that made the second image"),
        column("ranking_id", pa.int64(), "the source's number of the judgement"),
        column("user_id", pa.int64(), "the annotator, by a keyed pseudonym unless said otherwise"),
        column("num_example_per_prompt", pa.int64(), "the source's count, else rows here"),
        column("__index_level_0__", pa.int64(), "the source's row number, else the store's"),
    ]
)

OURS = pa.schema(
    [
        column(
            "sample_weight", pa.float64(), "weight in a loss; W of Eq. 15 if reweighted, else 1"
        ),
        column("minority", pa.float32(), "u of Eq. 13, large = likely a minority label; or null"),
        column("confidence", pa.float32(), "c of Eq. 11, large = suspicious; or null"),
        column("stability", pa.float32(), "s of Eq. 12, large = unstable; or null"),
        column("verdict", pa.string(), "keep, flip, tie, drop, unsure, or null: not judged"),
        column("original_label_0", pa.float64(), "label_0 as the source had it"),
        column("pair_id", pa.string(), "name of the pair in the store and in curation.json"),
    ]
)

IMAGES = ("jpg_0", "jpg_1")


def schema(*, images: bool = True, further: Iterable[pa.Field] = ()) -> pa.Schema:
    """All columns in order, with or without the two that hold images, the source's last."""
    fields = [f for f in (*PICKAPIC, *OURS) if images or f.name not in IMAGES]
    return pa.schema([*fields, *further])


def source_column(
    batch: pa.RecordBatch, name: str, kind: pa.DataType, otherwise: Sequence[Any]
) -> pa.Array:
    """src_NAME of the pairs where it fits `kind`; holes, and all else, filled from `otherwise`."""
    values = pa.array(otherwise, kind)
    own = SOURCE_PREFIX + name
    if own not in batch.schema.names:
        return values
    try:
        return pc.coalesce(batch.column(own).cast(kind), values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return values


def arrays(columns: Mapping[str, Any], into: pa.Schema) -> pa.Table:
    """A table of the schema from lists and numpy arrays (NaN becomes null)."""
    made = []
    for into_field in into:
        value = columns[into_field.name]
        if isinstance(value, np.ndarray):
            value = pa.array(value, from_pandas=True).cast(into_field.type)
        elif not isinstance(value, pa.Array):
            value = pa.array(value, into_field.type)
        made.append(value)
    return pa.Table.from_arrays(made, schema=into)


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


BATCH, WIDE_BATCH = 100, 20_000
"""Pairs that are in memory together, with their images and without."""


def exported_tables(
    store: Store,
    plan: Plan,
    policy: Policy,
    splits: list[str],
    into: pa.Schema,
    further: Further,
) -> Iterator[tuple[str, pa.Table]]:
    """The kept rows in the store's order, a few at a time, each table of one split."""
    annotators = plan.rows["annotator"].filter(pa.array(plan.kept)).unique().to_pylist()
    maker = _Maker(
        plan,
        namer(store, annotators, keyed=policy.pseudonyms),
        Counter(plan.rows["prompt"].filter(pa.array(plan.kept)).to_pylist()),
        ImageReader(store) if policy.images else None,
        further,
    )
    names = np.array(splits, np.str_)
    start = 0
    for file in plan.files:
        with pq.ParquetFile(readable(file)) as opened:
            size = BATCH if policy.images else WIDE_BATCH
            for batch in opened.iter_batches(batch_size=size):
                rows = np.arange(start, start + batch.num_rows)
                start += batch.num_rows
                for split in dict.fromkeys(names[rows].tolist()):
                    chosen = plan.kept[rows] & (names[rows] == split)
                    if chosen.any():
                        part = batch.filter(pa.array(chosen))
                        yield split, arrays(maker.columns(part, rows[chosen]), into)


@dataclass(frozen=True)
class _Maker:
    """Turns rows of the pairs table into exported ones."""

    plan: Plan
    user_id: Callable[[str], int]
    per_prompt: Counter[str]
    reader: ImageReader | None
    further: Further

    def columns(self, batch: pa.RecordBatch, rows: npt.NDArray[np.integer]) -> dict[str, Any]:
        """Every exported column of the batch, whose rows are the plan's `rows`."""
        plan, text = self.plan, pa.string()
        whole = len(rows) and rows[-1] - rows[0] == len(rows) - 1
        facts = plan.rows.slice(rows[0], len(rows)) if whole else plan.rows.take(pa.array(rows))
        final = plan.final[rows]
        ids = [facts[f"image_{slot}"].to_pylist() for slot in (0, 1)]
        prompts = facts["prompt"].to_pylist()
        users = facts["annotator"].to_pylist()
        made: dict[str, Any] = {
            "are_different": source_column(
                batch, "are_different", pa.bool_(), [a != b for a, b in zip(*ids, strict=True)]
            ),
            "best_image_uid": self._best(batch, facts, final, ids),
            "caption": prompts,
            "created_at": facts["time"].cast(pa.timestamp("ns")).combine_chunks(),
            "has_label": ~np.isnan(final),
            "label_0": final,
            "label_1": 1 - final,
            "ranking_id": source_column(batch, "ranking_id", pa.int64(), [None] * len(rows)),
            "user_id": [None if user is None else self.user_id(user) for user in users],
            "num_example_per_prompt": source_column(
                batch, "num_example_per_prompt", pa.int64(), [self.per_prompt[p] for p in prompts]
            ),
            "__index_level_0__": source_column(
                batch, "__index_level_0__", pa.int64(), rows.tolist()
            ),
            "sample_weight": plan.weight[rows],
            **{name: values[rows] for name, values in plan.scores.items()},
            "verdict": [plan.verdict[row] for row in rows],
            "original_label_0": facts["original_label"].combine_chunks(),
            "pair_id": facts["pair_id"].combine_chunks(),
            **self.further.columns(batch),
        }
        for slot in (0, 1):
            url = source_column(batch, f"image_{slot}_url", text, [None] * len(rows))
            made |= {f"image_{slot}_uid": ids[slot], f"image_{slot}_url": url}
            made[f"model_{slot}"] = facts[f"model_{slot}"].combine_chunks()
            if self.reader:
                made[f"jpg_{slot}"] = [self._image(image_id) for image_id in ids[slot]]
        return made

    def _best(
        self, batch: pa.RecordBatch, facts: pa.Table, final: Floats, ids: list[list[str]]
    ) -> list[str | None]:
        """The preferred image's uid; the source's own word where the label is the source's."""
        nothing = [None] * len(final)
        said = source_column(batch, "best_image_uid", pa.string(), nothing).to_pylist()
        original = facts["original_label"].to_pylist()
        best: list[str | None] = []
        for row, label in enumerate(final.tolist()):
            chosen = {1.0: ids[0][row], 0.0: ids[1][row]}.get(label)
            as_it_was = label == original[row] or (math.isnan(label) and original[row] is None)
            best.append(said[row] if as_it_was and said[row] is not None else chosen)
        return best

    def _image(self, image_id: str) -> bytes:
        assert self.reader is not None
        try:
            return self.reader.read(image_id)
        except InputError as problem:
            raise InputError(
                f"The export stopped and left nothing: {problem}. Put the source back, or ingest "
                "it anew with --images copy."
            ) from problem
