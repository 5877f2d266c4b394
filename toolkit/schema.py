"""The records of a store (pairs, images, votes) as Arrow schemas that document themselves.

A pair keeps image_0 and image_1 in the order its source gave them, for ever; `chosen` and
`rejected` follow from a label. A label is a preference for image_0 from 0 to 1: 1 (image_0), 0
(image_1), .5 (tie), .7 (say, seven of ten people), or null (no label). A column's meaning and unit
are in its field's metadata and nowhere else, so that documentation, data cards and tests all read
the same words.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

MEANING = b"meaning"
SPAN, WHOLE_RUN = b"span", b"run"
"""Metadata of a score that is the same in every window of a run."""


def column(name: str, kind: pa.DataType, meaning: str, *, nullable: bool = True) -> pa.Field:
    """A field with its meaning (one sentence, with the unit) attached."""
    return pa.field(name, kind, nullable=nullable, metadata={MEANING: meaning.encode()})


def meaning_of(field: pa.Field) -> str:
    """The sentence that `column` attached, or an empty string."""
    return (field.metadata or {}).get(MEANING, b"").decode()


def conform(table: pa.Table, schema: pa.Schema, *, keep_extra: bool = False) -> pa.Table:
    """`table` with exactly the schema's columns, cast; absent nullable ones become null.

    With `keep_extra` other columns follow, unchanged.
    Raises KeyError for an absent column that may not be null.
    """
    arrays, fields = [], []
    for field in schema:
        if field.name in table.column_names:
            arrays.append(table[field.name].cast(field.type))
        elif field.nullable:
            arrays.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
        else:
            raise KeyError(field.name)
        fields.append(field)
    if keep_extra:
        known = set(schema.names)
        for field in table.schema:
            if field.name not in known:
                arrays.append(table[field.name])
                fields.append(field)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def missing_columns(present: Iterable[str], needed: Iterable[str]) -> list[str]:
    """The needed names that are absent, in the order they are needed."""
    have = set(present)
    return [name for name in needed if name not in have]


SOURCE_PREFIX = "src_"
"""A source's own column NAME is kept in the pairs table as src_NAME."""


EXPORTED = frozenset(("original_label_0", "pair_id"))
"""A table with these columns was exported from a store."""

AXIS, AXIS_WEIGHT = "axis_", "axis_weight_of_"
"""An exported table has the label on the axis NAME as axis_NAME, and its weight."""

STATED = ("label", "label_weight", "split")
"""What an exported table states in the store's own terms (not in those of earlier versions)."""

OURS = EXPORTED | {
    *STATED,
    *("sample_weight", "minority", "confidence", "stability", "verdict"),
    *("prompt", "chosen", "rejected", "label_0", "created_at", "ranking_id", "user_id"),
    *("chosen_uid", "rejected_uid", "chosen_model", "rejected_model"),
    *("img_win", "img_lose", "win_score", "lose_score", "data_source", "extra_info"),
}
"""Columns of exported tables; a source's own column of such a name is kept as src_NAME there."""


def source_names(names: Iterable[str]) -> dict[str, str]:
    """What a source's columns are called in the pairs table: NAME -> src_NAME.

    An exported table has src_NAME where NAME is one of OURS: it is read as the source's NAME, and
    the table's own NAME is left out.
    """
    there = set(names)
    ours = OURS if there >= EXPORTED else frozenset()
    return {
        name: name if name.removeprefix(SOURCE_PREFIX) in ours - {name} else SOURCE_PREFIX + name
        for name in names
        if name not in ours or SOURCE_PREFIX + name not in there
    }


LABEL = "preference for image_0: 1: image_0, 0: image_1, .5: tie, .7: seven of ten; null: none"
WEIGHT = "how many votes, or how much trust, the label rests on; null: not known"

PAIRS = pa.schema(
    [
        column("pair_id", pa.string(), "stable name of the pair, 12 characters", nullable=False),
        column(
            "comparison_id",
            pa.string(),
            "same for every pair of the same prompt and the same two images, in either order",
            nullable=False,
        ),
        column("prompt", pa.string(), "the text both images were made from", nullable=False),
        column("image_0", pa.string(), "image_id of the first image, as the source ordered them"),
        column("image_1", pa.string(), "image_id of the second image"),
        column("label", pa.float64(), LABEL),
        column("split", pa.string(), "train, validation or test, as the source says"),
        column("source", pa.string(), "what the label comes from: a data set's name, or mos"),
        column("label_weight", pa.float64(), WEIGHT),
    ]
)

AXES = pa.schema(
    [
        column("pair_id", pa.string(), "the pair that was judged", nullable=False),
        column("axis", pa.string(), "what was judged: alignment, coherence ...", nullable=False),
        column("label", pa.float64(), LABEL),
        column("label_weight", pa.float64(), WEIGHT),
    ]
)
"""Labels of pairs on single axes; each axis is a label set under its own name."""

IMAGES = pa.schema(
    [
        column("image_id", pa.string(), "the source's uid, else the sha256", nullable=False),
        column("content_hash", pa.string(), "sha256 of the bytes; null until they were read"),
        column("format", pa.string(), "PNG, JPEG, WEBP ... as decoded; null until read"),
        column("width", pa.int32(), "pixels"),
        column("height", pa.int32(), "pixels"),
        column("bytes", pa.binary(), "the encoded image, or null where it is a reference"),
        column("ref_file", pa.string(), "absolute path of the file that contains the image"),
        column("ref_row", pa.int64(), "row in that file; null where the file is the image"),
        column("ref_column", pa.string(), "column of that row with the encoded image"),
    ]
)

THUMBNAILS = pa.schema(
    [
        column("image_id", pa.string(), "the image it shows", nullable=False),
        column("bytes", pa.binary(), "an encoded JPEG", nullable=False),
        column("width", pa.int32(), "pixels"),
        column("height", pa.int32(), "pixels"),
    ]
)

VOTES = pa.schema(
    [
        column("pair_id", pa.string(), "the pair that was voted on", nullable=False),
        column("annotator", pa.string(), "who voted, as the source names them; null: not known"),
        column("choice", pa.float64(), "1: image_0, 0: image_1, .5: tie; between: a graded choice"),
        column("time", pa.timestamp("us", tz="UTC"), "when, if the source says"),
        column("axis", pa.string(), "what was judged; null: which image is preferred overall"),
        column("weight", pa.float64(), "trust in the vote; null: not known"),
        column("grade", pa.string(), "the answer in the source's own words or number"),
        column("both_are", pa.string(), "good or bad: what a tie says of both images, if it does"),
    ]
)

QUARANTINE = pa.schema(
    [
        column("pair_id", pa.string(), "the pair that was left out", nullable=False),
        column("source_file", pa.string(), "the file it was read from"),
        column("source_row", pa.int64(), "row in that file"),
        column("reason", pa.string(), "why it was rejected", nullable=False),
    ]
)


def from_tuples(schema: pa.Schema, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """A table of the schema from its rows."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(values, f.type) for values, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def as_column(values: list[Any], kind: pa.DataType | None = None) -> pa.Array:
    """The values as one Arrow array, NaN as null; values of mixed types become text."""
    values = [None if isinstance(value, float) and value != value else value for value in values]
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def stacked(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of all rows, absent columns as null. Where the types of a column cannot be joined,
    they are inferred again from all values."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pass
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    columns: dict[str, Any] = {}
    for name in names:
        parts = [
            table[name] if name in table.column_names else pa.chunked_array([pa.nulls(len(table))])
            for table in tables
        ]
        if len({part.type for part in parts}) == 1:
            columns[name] = pa.chunked_array([c for part in parts for c in part.chunks])
        else:
            columns[name] = as_column([value for part in parts for value in part.to_pylist()])
    return pa.table(columns)
