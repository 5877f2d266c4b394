"""Pick-a-Pic: tables in the 19 columns of its second version, or the 18 of its first.

Every row is one person's vote on two images. Rows stay columns on their way into the store, and
images are read only where they are copied. Files without the image columns (the *_no_images
edition) give pairs without images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc

from toolkit.errors import InputError
from toolkit.ingest.source import ROWS, Batch, Cells, Opened, PairOptions, Source, as_exported, utc
from toolkit.ingest.tabular import (
    BATCH,
    Table,
    all_batches,
    count_rows,
    find_tables,
    need_columns,
    origin,
)
from toolkit.ingest.writer import open_pairs
from toolkit.schema import conform
from toolkit.store.images import real_path

NEEDED = ("caption", "image_0_uid", "image_1_uid", "label_0", "label_1")
IMAGES = ("jpg_0", "jpg_1")
OURS = {*NEEDED, *IMAGES}
"""Columns that become the store's own."""
PERSONAL = ("user_id",)
"""Columns that name a person."""

WITHOUT_IMAGES = 50_000
"""Rows that are read together where no image is."""


@dataclass(frozen=True)
class PickapicOptions(PairOptions):
    """Options of `outvoted ingest pickapic`."""

    paths: Annotated[Sequence[str | Path], "Parquet files, folders of them, or saved `datasets`."]


def open_pickapic(options: PickapicOptions) -> Opened:
    """Find and check the files. InputError (one sentence) on the first that cannot be used."""
    tables = find_tables(
        options.paths, allowed=("parquet", "arrow"), what="Pick-a-Pic", shard=options.part
    )
    for table in tables:
        _check(table)
    if len({IMAGES[0] in table.schema.names for table in tables}) > 1:
        raise InputError(
            "Some of the files have the columns jpg_0 and jpg_1 and some have not; ingest the two "
            "kinds one after the other."
        )
    return open_pairs(
        PICKAPIC.name,
        options,
        partial(pickapic_batches, tables, options),
        rows=count_rows(tables),
        personal=PERSONAL,
        labels_are_votes=True,
    )


PICKAPIC = Source(
    "pickapic",
    "Pick-a-Pic v1 and v2, with or without images",
    PickapicOptions,
    open_pickapic,
    stored_as="pickapic",
    details="Parquet files, folders of them, saved `datasets`",
    cards=("pickapic_v2",),
)


def _check(table: Table) -> None:
    need_columns(table, NEEDED, "name files in Pick-a-Pic's columns")
    schema = table.schema
    if len(lone := [name for name in IMAGES if name in schema.names]) == 1:
        raise InputError(
            f"{table.path} has {lone[0]} without its partner; it needs both or neither."
        )
    for name in (*NEEDED, *IMAGES):
        if name in schema.names and not _fits(name, kind := schema.field(name).type):
            wanted = {"label": "a number", "jpg_0": "bytes", "jpg_1": "bytes"}
            need = wanted.get(name if name in IMAGES else name[:5], "text")
            raise InputError(
                f"{table.path} holds {kind} in column {name}, where {need} is needed; write it "
                "again with that type, or name another file."
            )


def _fits(name: str, kind: pa.DataType) -> bool:
    test = pa.types
    if name in IMAGES:
        if test.is_struct(kind):  # the {bytes, path} of `datasets`' image feature
            return kind.get_field_index("bytes") >= 0
        return bool(test.is_binary(kind))
    if name.startswith("label"):
        numbers = (test.is_integer, test.is_floating, test.is_null, test.is_boolean)
        return any(is_kind(kind) for is_kind in numbers)
    return bool(test.is_string(kind))


def pickapic_batches(tables: Sequence[Table], options: PickapicOptions) -> Iterator[Batch]:
    """The files' rows in order, at most `options.limit`; image columns are read only to be copied.

    InputError where a file turns out to be damaged further in.
    """

    def plan(table: Table) -> tuple[list[str], int]:
        copied = IMAGES[0] in table.schema.names and options.images == "copy"
        names = [name for name in table.schema.names if copied or name not in IMAGES]
        return names, BATCH if copied else WITHOUT_IMAGES

    for table, first, rows in all_batches(tables, plan, options.limit):
        yield as_exported(_batch(table, rows, first, options), options)


def _batch(table: Table, batch: pa.RecordBatch, first: int, options: PickapicOptions) -> Batch:
    columns = {name: batch[name] for name in batch.schema.names}
    size = batch.num_rows
    nothing = [None] * size
    times, users, rankings = (
        columns[name].to_pylist() if name in columns else nothing
        for name in ("created_at", "user_id", "ranking_id")
    )
    moments = [utc(time) for time in times]
    label, problem = _labels(columns)
    rows = {
        "prompt": columns["caption"],
        "image_0": pc.fill_null(columns["image_0_uid"].cast(pa.string()), ""),
        "image_1": pc.fill_null(columns["image_1_uid"].cast(pa.string()), ""),
        "label": label,
        "split": pa.array([options.split or table.split] * size, pa.string()),
        "annotator": pa.array([None if u is None else str(u) for u in users], pa.string()),
        "time": pa.array(moments, pa.timestamp("us", tz="UTC")),
        "problem": problem,
    } | origin(table, first, size)
    stamps = [None if time is None else time.isoformat() for time in moments]
    distinguishing = zip(rankings, users, stamps, strict=True)
    return Batch(
        rows=conform(pa.table(rows), ROWS),
        distinguishing=[tuple("" if v is None else str(v) for v in row) for row in distinguishing],
        extra=pa.table({name: column for name, column in columns.items() if name not in OURS}),
        images=_images(table, columns, first, size),
    )


def _images(table: Table, columns: dict[str, pa.Array], first: int, size: int) -> Any:
    if IMAGES[0] not in table.schema.names:
        return None
    if IMAGES[0] not in columns:
        file = real_path(table.path)
        return tuple(Cells(file, first, name, size) for name in IMAGES)
    return tuple([_bytes(value) for value in columns[name].to_pylist()] for name in IMAGES)


def _bytes(value: Any) -> bytes:
    if isinstance(value, dict):
        value = value.get("bytes")
    return value or b""  # no bytes is a fault here, not an absent image


def _labels(columns: dict[str, pa.Array]) -> tuple[pa.Array, pa.Array]:
    """The label of each row, and what is wrong with its two labels together, or null."""
    first, second = (
        pc.if_else(pc.is_nan(column), None, column)
        for column in (columns[name].cast(pa.float64()) for name in ("label_0", "label_1"))
    )
    open_ = pc.and_(pc.is_null(first), pc.is_null(second))
    if "has_label" in columns:
        unlabelled = pc.fill_null(pc.equal(columns["has_label"], False), False)
        open_ = pc.or_(open_, unlabelled)
    fits = pc.and_(pc.is_in(first, pa.array([0.0, 0.5, 1.0])), pc.equal(pc.add(first, second), 1.0))
    wrong = pc.and_(pc.invert(open_), pc.invert(pc.fill_null(fits, False)))
    label = pc.if_else(pc.or_(open_, wrong), None, first)
    problems: list[str | None] = [None] * len(label)
    for row in pc.indices_nonzero(wrong).to_pylist():
        labels = f"label_0 is {first[row].as_py()}, label_1 is {second[row].as_py()}"
        problems[row] = f"the labels are none of 1 and 0, 0 and 1, .5 and .5 ({labels})"
    return label, pa.array(problems, pa.string())
