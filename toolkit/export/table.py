"""The table of an exported set: its columns, which of the source's follow, and its rows.

First Pick-a-Pic's nineteen columns with their types, then ours, then the source's own. A source's
column NAME is exported as NAME, or as src_NAME where the set has a column NAME; ingesting the set
again reads it as NAME.

Only columns that are known to name nobody are exported: Pick-a-Pic's, ours, and those that the
source declares (`Source.safe_columns`). The others stay behind unless the policy names them, in
`keep` or `pseudonymize`. Nested columns and bytes always stay behind.
"""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from toolkit.errors import InputError
from toolkit.export.decisions import Plan
from toolkit.export.policy import ANNOTATOR, Policy
from toolkit.files.remote import readable
from toolkit.ingest import SOURCES
from toolkit.preference import Floats, differs, reverse, side, values_of
from toolkit.schema import AXIS, EXPORTED, LABEL, SOURCE_PREFIX, STATED, WEIGHT, column
from toolkit.store import Store
from toolkit.store.connection import read_pairs
from toolkit.store.images import ImageReader
from toolkit.store.pseudonyms import namer, renamer

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
        column("user_id", pa.int64(), "the annotator: a keyed pseudonym, unless --keep user_id"),
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
        column("verdict", pa.string(), "keep, flip, tie, drop, unsure, or null: no verdict"),
        column("original_label_0", pa.float64(), "the label as the source had it"),
        column("label", pa.float64(), LABEL),
        column("label_weight", pa.float64(), WEIGHT),
        column("split", pa.string(), "the split that the source names; null: none"),
        column(
            "pair_id", pa.string(), "keyed name of the pair, as in curation.json; outvoted finds it"
        ),
    ]
)

IMAGES = ("jpg_0", "jpg_1")


def schema(*, images: bool = True, further: Iterable[pa.Field] = ()) -> pa.Schema:
    """All columns in order, with or without the two that hold images, the source's last."""
    fields = [f for f in (*PICKAPIC, *OURS) if images or f.name not in IMAGES]
    return pa.schema([*fields, *further])


_EARLIER = frozenset(
    (
        *("minority", "stability", "verdict", "original_label_0", "pair_id"),
        *STATED,
        *("chosen_uid", "rejected_uid", "chosen_model", "rejected_model"),
        *("img_win", "img_lose", "win_score", "lose_score", "data_source", "extra_info"),
    )
)
"""What an earlier export said: out of date beside this one's. A confidence may be the source's."""


@dataclass(frozen=True)
class SourceColumns:
    """Which of the source's own columns are exported, and how they are filled."""

    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    """As exported; after the source's columns, the labels on its axes."""
    stored: tuple[str, ...] = ()
    """Their names in the pairs table."""
    pseudonyms: frozenset[str] = frozenset()
    """The exported columns whose values are replaced by keyed pseudonyms."""
    left_behind: tuple[str, ...] = ()
    """Columns that are not known to name nobody, and that the policy does not name."""
    nested: tuple[str, ...] = ()
    """Columns that no policy can keep: nested ones and bytes."""
    rename: Callable[[str], int] | None = None

    def columns(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """The columns of a batch of the pairs table; null where a part lacks one."""
        made = {}
        for exported, own in zip(self.schema, self.stored, strict=False):  # axes come last
            if own not in batch.schema.names:
                made[exported.name] = pa.nulls(batch.num_rows, exported.type)
            elif exported.name in self.pseudonyms:
                assert self.rename is not None
                values = batch.column(own).to_pylist()
                names = [None if v is None else self.rename(_as_text(v)) for v in values]
                made[exported.name] = pa.array(names, exported.type)
            else:
                made[exported.name] = batch.column(own).cast(exported.type)
        return made

    def lines(self) -> list[str]:
        """What stays behind, as a sentence; nothing where all is exported."""
        if not self.left_behind and not self.nested:
            return []
        option = "--keep COLUMN exports one as it is, --pseudonymize COLUMN as keyed pseudonyms"
        left = f"{', '.join(self.left_behind)} ({option})" if self.left_behind else ""
        nested = f"{', '.join(self.nested)} (nested or bytes)" if self.nested else ""
        return [f"Columns that stay behind: {'; '.join(filter(None, (left, nested)))}."]


def source_columns(store: Store, plan: Plan, policy: Policy, taken: Sequence[str]) -> SourceColumns:
    """The source's columns under a policy; `taken`: names of the set's own columns.

    Types that differ from part to part become a type of both, else text. InputError where
    the policy names a column that is not there, or is nested.
    """
    kinds = _kinds([pq.read_schema(readable(file)) for file in plan.files])
    stored = {name.removeprefix(SOURCE_PREFIX): name for name in sorted(kinds)}
    replaced = {"sample_weight", *PICKAPIC.names}
    if stored.keys() >= EXPORTED:
        replaced |= _EARLIER
    stored = {
        name: own
        for name, own in stored.items()
        if name not in replaced and not (name.startswith(AXIS) and replaced >= EXPORTED)
    }
    flat = {name: own for name, own in stored.items() if _is_flat(kinds[own])}
    nested = tuple(name for name in stored if name not in flat)
    _check_names(policy, [*flat, *replaced], nested)
    safe = _safe(store, flat)
    pseudonyms = [name for name in flat if name in policy.pseudonymize]
    leaving = {
        name: own
        for name, own in flat.items()
        if name in safe or name in policy.keep or name in pseudonyms
    }
    taken = [*taken, *plan.axes]
    shown = {name: own if name in taken else name for name, own in leaving.items()}
    meaning = "as the source has it"
    fields = [
        column(shown[name], pa.int64(), f"{meaning}, by a keyed pseudonym")
        if name in pseudonyms
        else column(shown[name], kinds[own], meaning)
        for name, own in leaving.items()
    ]
    axes = [
        column(name, pa.float64(), "of one axis: the label, or its weight") for name in plan.axes
    ]
    return SourceColumns(
        schema=pa.schema([*fields, *axes]),
        stored=tuple(leaving.values()),
        pseudonyms=frozenset(shown[name] for name in pseudonyms),
        left_behind=tuple(name for name in flat if name not in leaving),
        nested=nested,
        rename=renamer(store) if pseudonyms else None,
    )


def _check_names(policy: Policy, known: Sequence[str], nested: Sequence[str]) -> None:
    for option, names in (("--keep", policy.keep), ("--pseudonymize", policy.pseudonymize)):
        for name in names:
            if name in nested:
                raise InputError(
                    f"{option} names {name}, which is nested or holds bytes; only columns of "
                    "numbers, texts, flags and times can be exported."
                )
            if name not in known:
                raise InputError(
                    f"{option} names {name}, which is no column of the source (columns: "
                    f"{', '.join(sorted(set(known) - set(PICKAPIC.names)))}); name one of them."
                )


def _safe(store: Store, columns: Mapping[str, str]) -> set[str]:
    """Those of the columns that every source which fills them declares to name nobody."""
    safe_of = {entry.stored_as: entry.safe_columns for entry in SOURCES.values()}
    declared = {name for names in safe_of.values() for name in names} & set(columns)
    if not declared:
        return set()
    table = read_pairs(store, ["source", *(columns[name] for name in declared)])
    safe = set()
    for name in declared:
        filled = table.filter(table[columns[name]].is_valid())
        sources = filled["source"].unique().to_pylist()
        if all(name in safe_of.get(source, ()) for source in sources):
            safe.add(name)
    return safe


def _as_text(value: Any) -> str:
    """A person's name or number as the annotators' are written: 101.0 is 101."""
    whole = isinstance(value, float | Decimal) and value % 1 == 0
    return str(int(value)) if whole else str(value)


def _kinds(schemas: Sequence[pa.Schema]) -> dict[str, pa.DataType]:
    """The source's columns and a type that every part's values fit; nested wins over flat."""
    kinds: dict[str, pa.DataType] = {}
    for stored in (stored for schema in schemas for stored in schema):
        if not stored.name.startswith(SOURCE_PREFIX) or stored.type == pa.null():
            continue
        known = kinds.setdefault(stored.name, stored.type)
        if _is_flat(known):
            both = _is_flat(stored.type)
            kinds[stored.name] = _both(known, stored.type) if both else stored.type
    return kinds


def _both(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    try:
        fields = [pa.schema([pa.field("x", kind)]) for kind in (first, second)]
        return pa.unify_schemas(fields, promote_options="permissive").field("x").type
    except pa.ArrowException:  # such as a number and a text
        return pa.string()


def _is_flat(kind: pa.DataType) -> bool:
    test = pa.types
    binary = test.is_binary(kind) or test.is_large_binary(kind) or test.is_fixed_size_binary(kind)
    return not (test.is_dictionary(kind) or test.is_nested(kind) or binary)


BATCH, WIDE_BATCH = 100, 20_000
"""Pairs that are in memory together, with their images and without."""


def exported_tables(
    store: Store,
    plan: Plan,
    policy: Policy,
    splits: Sequence[str],
    into: pa.Schema,
    source: SourceColumns,
) -> Iterator[tuple[str, pa.Table]]:
    """(split, rows) of the kept pairs in the store's order, a few at a time, as `into` says.

    `splits`: of every row of the plan.
    """
    rows = _Rows(store, plan, policy, source)
    names = np.array(splits, np.str_)
    start = 0
    for file in plan.files:
        with pq.ParquetFile(readable(file)) as opened:
            for batch in opened.iter_batches(batch_size=BATCH if policy.images else WIDE_BATCH):
                here = np.arange(start, start + batch.num_rows)
                start += batch.num_rows
                for split in dict.fromkeys(names[here].tolist()):
                    chosen = plan.kept[here] & (names[here] == split)
                    if chosen.any():
                        part = batch.filter(pa.array(chosen))
                        yield split, _table(rows.columns(part, here[chosen]), into)


def _table(columns: Mapping[str, Any], into: pa.Schema) -> pa.Table:
    """A table of the schema from lists and arrays (NaN becomes null)."""
    made = []
    for into_field in into:
        value = columns[into_field.name]
        if isinstance(value, np.ndarray):
            value = pa.array(value, from_pandas=True).cast(into_field.type)
        elif not isinstance(value, pa.Array):
            value = pa.array(value, into_field.type)
        made.append(value)
    return pa.Table.from_arrays(made, schema=into)


def _stored(
    batch: pa.RecordBatch, name: str, kind: pa.DataType, otherwise: Sequence[Any]
) -> pa.Array:
    """src_NAME of the pairs where it fits `kind`; nulls, and all else, filled from `otherwise`."""
    values = pa.array(otherwise, kind)
    own = SOURCE_PREFIX + name
    if own not in batch.schema.names:
        return values
    try:
        return pc.coalesce(batch.column(own).cast(kind), values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return values


class _Rows:
    """Turns rows of the pairs table into exported ones."""

    def __init__(self, store: Store, plan: Plan, policy: Policy, source: SourceColumns) -> None:
        kept = plan.rows.filter(pa.array(plan.kept))
        annotators = kept["annotator"].unique().to_pylist()
        self._plan, self._source = plan, source
        self._user_id = namer(store, annotators, keyed=ANNOTATOR not in policy.keep)
        self._per_prompt = Counter(kept["prompt"].to_pylist())
        self._reader = ImageReader(store) if policy.images else None

    def columns(self, batch: pa.RecordBatch, rows: npt.NDArray[np.integer]) -> dict[str, Any]:
        """Every exported column of the batch, whose rows are the plan's `rows`."""
        plan = self._plan
        whole = len(rows) and rows[-1] - rows[0] == len(rows) - 1
        facts = plan.rows.slice(rows[0], len(rows)) if whole else plan.rows.take(pa.array(rows))
        final = plan.final[rows]
        sides = side(final)
        ids = [facts[f"image_{slot}"].to_pylist() for slot in (0, 1)]
        prompts = facts["prompt"].to_pylist()
        users = facts["annotator"].to_pylist()
        none = [None] * len(rows)
        made: dict[str, Any] = {
            "are_different": _stored(
                batch, "are_different", pa.bool_(), [a != b for a, b in zip(*ids, strict=True)]
            ),
            "best_image_uid": self._best(batch, facts, sides, ids),
            "caption": prompts,
            "created_at": facts["time"].cast(pa.timestamp("ns")).combine_chunks(),
            "has_label": ~np.isnan(final),
            "label_0": sides,
            "label_1": reverse(sides),
            "label": final,
            "label_weight": np.where(final == plan.label[rows], plan.label_weight[rows], np.nan),
            "split": facts["split"].combine_chunks(),
            **{name: values[rows] for name, values in plan.axes.items()},
            "ranking_id": _stored(batch, "ranking_id", pa.int64(), none),
            "user_id": [None if user is None else self._user_id(user) for user in users],
            "num_example_per_prompt": _stored(
                batch, "num_example_per_prompt", pa.int64(), [self._per_prompt[p] for p in prompts]
            ),
            "__index_level_0__": _stored(batch, "__index_level_0__", pa.int64(), rows.tolist()),
            "sample_weight": plan.weight[rows],
            **{name: values[rows] for name, values in plan.scores.items()},
            "verdict": [plan.verdict[row] for row in rows],
            "original_label_0": facts["original_label"].combine_chunks(),
            "pair_id": facts["pair_id"].combine_chunks(),
            **self._source.columns(batch),
        }
        for slot in (0, 1):
            url = _stored(batch, f"image_{slot}_url", pa.string(), none)
            made |= {f"image_{slot}_uid": ids[slot], f"image_{slot}_url": url}
            made[f"model_{slot}"] = facts[f"model_{slot}"].combine_chunks()
            if self._reader:
                made[f"jpg_{slot}"] = [self._image(image_id) for image_id in ids[slot]]
        return made

    def _best(
        self, batch: pa.RecordBatch, facts: pa.Table, sides: Floats, ids: list[list[str]]
    ) -> list[str | None]:
        """The preferred image's uid; the source's own value where the label is the source's."""
        stored = _stored(batch, "best_image_uid", pa.string(), [None] * len(sides)).to_pylist()
        same = ~differs(sides, side(values_of(facts["original_label"])))
        best: list[str | None] = []
        for row, label in enumerate(sides.tolist()):
            chosen = {1.0: ids[0][row], 0.0: ids[1][row]}.get(label)
            best.append(stored[row] if same[row] and stored[row] is not None else chosen)
        return best

    def _image(self, image_id: str) -> bytes:
        assert self._reader is not None
        try:
            data = self._reader.read(image_id)
            with Image.open(io.BytesIO(data)):  # a file may have been replaced by any other
                return data
        except UnidentifiedImageError as problem:
            raise InputError(
                f"The export stopped and left nothing: image {image_id} is no image any more. Put "
                "the source back, or ingest it again with --images copy."
            ) from problem
        except InputError as problem:
            raise InputError(
                f"The export stopped and left nothing: {problem}. Put the source back, or ingest "
                "it again with --images copy."
            ) from problem
