"""Pick-a-Pic: tables in the 19 columns of its second version, or the 18 of its first.

Every row is one person's vote on two images. Files are read a few rows at a time, whatever their
size. Files without the image columns (the *_no_images edition) give pairs without images.

Pick-a-Pic's files, found and checked: which columns there are, and of what kind.

Pick-a-Pic by columns, where no image is read: the rules of `pickapic.pickapic_rows`.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from toolkit.errors import InputError
from toolkit.ingest.columnar import SourceColumns, ingest_columns
from toolkit.ingest.records import Reference, SourceImage, SourceRow, Summary, check_split, utc
from toolkit.ingest.tabular import (
    Table,
    batches,
    find_tables,
    kept_types,
    need_columns,
    plain,
    records,
)
from toolkit.ingest.writer import ImageMode, ingest_rows
from toolkit.sharding import Shard
from toolkit.store import Store

NEEDED = ("caption", "image_0_uid", "image_1_uid", "label_0", "label_1")
IMAGES = ("jpg_0", "jpg_1")
OURS = {*NEEDED, *IMAGES}
"""Columns that become the store's own."""


@dataclass(frozen=True)
class PickapicFiles:
    """Files whose footers and columns were checked; nothing was read from them yet."""

    tables: tuple[Table, ...]
    rows: int
    images: bool
    types: dict[str, pa.DataType]
    """Arrow types of the columns that are kept as src_NAME."""


def open_pickapic(paths: Sequence[str | Path], *, shard: Shard | None = None) -> PickapicFiles:
    """Find and check the files. InputError (one sentence) on the first that will not do."""
    tables = find_tables(paths, allowed=("parquet", "arrow"), what="Pick-a-Pic", shard=shard)
    for table in tables:
        _check(table)
    with_images = {all(name in table.schema.names for name in IMAGES) for table in tables}
    if len(with_images) > 1:
        raise InputError(
            "Some of the files have the columns jpg_0 and jpg_1 and some have not; ingest the two "
            "kinds one after the other."
        )
    rows = sum(table.rows for table in tables)
    return PickapicFiles(tables, rows, with_images.pop(), kept_types(tables, tuple(OURS)))


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
                "anew with that type, or name another file."
            )


def _fits(name: str, kind: pa.DataType) -> bool:
    test = pa.types
    if test.is_dictionary(kind):
        kind = kind.value_type
    if name in IMAGES:
        if test.is_struct(kind):  # the {bytes, path} of `datasets`' image feature
            return kind.get_field_index("bytes") >= 0
        return bool(test.is_binary(kind) or test.is_large_binary(kind))
    if name.startswith("label"):
        numbers = (test.is_integer, test.is_floating, test.is_null, test.is_boolean)
        return any(is_kind(kind) for is_kind in numbers)
    return any(is_kind(kind) for is_kind in (test.is_string, test.is_large_string))


def split_of(table: Table) -> str | None:
    """The split a file name begins with, or holds between signs: train-00000-of-00645.parquet."""
    found = re.search(r"(?:^|[^a-z])(train|validation|test)(?:[^a-z]|$)", table.path.stem.lower())
    return table.split or (found[1] if found else None)


_FAST_BATCH = 50_000
"""Rows read together where no image is."""


def pickapic_columns(
    source: PickapicFiles, *, split: str | None = None, limit: int | None = None
) -> Iterator[SourceColumns]:
    """The same rows by columns, their images as references or absent."""
    left = limit
    for table in source.tables:
        names = [name for name in table.schema.names if name not in IMAGES]
        for first, batch in batches(table, names, _FAST_BATCH):
            if left is not None:
                batch = batch.slice(0, left)
                left -= batch.num_rows
            if not batch.num_rows:
                return
            yield _columns(table, batch, first, split or split_of(table), source.images)


def _columns(
    table: Table, batch: pa.RecordBatch, first: int, split: str | None, images: bool
) -> SourceColumns:
    rows = pa.Table.from_batches([batch])
    rows = pa.table({name: plain_chunks(rows[name]) for name in rows.column_names})
    size = rows.num_rows
    label, problem = _labels(rows)
    times = _told(rows, "created_at", size)
    moments = [utc(time) for time in times]
    users = _told(rows, "user_id", size)
    rankings = _told(rows, "ranking_id", size)
    stamps = [None if time is None else time.isoformat() for time in moments]
    own = {
        "prompt": rows["caption"],
        "image_0": rows["image_0_uid"],
        "image_1": rows["image_1_uid"],
        "label": label,
        "annotator": pa.array([None if u is None else str(u) for u in users], pa.string()),
        "time": pa.array(moments, pa.timestamp("us", tz="UTC")),
        "problem": problem,
    }
    told = zip(rankings, users, stamps, strict=True)
    return SourceColumns(
        own=pa.table(own),
        told=[tuple("" if part is None else str(part) for part in parts) for parts in told],
        extra=rows.drop_columns([name for name in rows.column_names if name in OURS]),
        split=split,
        file=str(table.path.resolve()),
        first_row=first,
        image_columns=IMAGES if images else None,
    )


def plain_chunks(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column with its times cut to the microsecond, and dictionaries spelt out."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return plain(column)


def _told(rows: pa.Table, name: str, size: int) -> list[Any]:
    return rows[name].to_pylist() if name in rows.column_names else [None] * size


def _labels(rows: pa.Table) -> tuple[pa.Array, pa.Array]:
    """`_label` over columns: labels as ours, and the problem of each row or null."""
    first, second = (
        pc.if_else(pc.is_nan(column), None, column)
        for column in (rows[name].cast(pa.float64()) for name in ("label_0", "label_1"))
    )
    silent = pc.and_(pc.is_null(first), pc.is_null(second))
    if "has_label" in rows.column_names:
        unsaid = pc.fill_null(pc.equal(rows["has_label"], False), False)
        silent = pc.or_(silent, unsaid)
    fits = pc.and_(pc.is_in(first, pa.array([0.0, 0.5, 1.0])), pc.equal(pc.add(first, second), 1.0))
    wrong = pc.and_(pc.invert(silent), pc.invert(pc.fill_null(fits, False)))
    label = pc.if_else(pc.or_(silent, wrong), None, first)
    problems: list[str | None] = [None] * rows.num_rows
    for row in pc.indices_nonzero(wrong).to_pylist():
        problems[row] = unlike(first[row].as_py(), second[row].as_py())
    return label, pa.array(problems, pa.string())


def unlike(first: float | None, second: float | None) -> str:
    """Why two labels that do not add up are none."""
    found = f"label_0 is {first}, label_1 is {second}"
    return f"the labels are none of 1 and 0, 0 and 1, .5 and .5 ({found})"


SOURCE = "pickapic"
PERSONAL = ("user_id",)
"""Columns that name a person."""


def ingest_pickapic(
    store: Store,
    source: PickapicFiles,
    *,
    images: ImageMode = "copy",
    split: str | None = None,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    flush_rows: int = 20_000,
    pseudonyms: Callable[[str], int] | None = None,
) -> Summary:
    """Add the files' rows (the first `limit` of them) to the store.

    `split` overrides what the file names say; `pseudonyms` replaces annotators on the way in.
    InputError where a file turns out to be damaged further in; the rows before the damage are in
    the store then.
    """
    check_split(split)
    if not source.images or images == "reference":  # no image is read: by columns, and fast
        columns = pickapic_columns(source, split=split, limit=limit)
        return ingest_columns(
            store,
            SOURCE,
            columns,
            progress=progress,
            pseudonyms=pseudonyms,
            personal=PERSONAL,
        )
    rows = pickapic_rows(source, images=images, split=split, limit=limit)
    return ingest_rows(
        store,
        SOURCE,
        rows,
        images=images,
        progress=progress,
        extra_types=source.types,
        flush_rows=flush_rows,
        pseudonyms=pseudonyms,
        personal=PERSONAL,
    )


def pickapic_rows(
    source: PickapicFiles, *, images: ImageMode, split: str | None = None, limit: int | None = None
) -> Iterator[SourceRow]:
    """The files' rows in order. Under `reference` the image columns are not read at all."""
    left = math.inf if limit is None else limit
    blobs = source.images and images == "copy"
    for table in source.tables:
        place = str(table.path.resolve())
        names = [name for name in table.schema.names if blobs or name not in IMAGES]
        for number, row in records(table, names):
            if left <= 0:
                return
            left -= 1
            sides = [_image(row, slot, place, number, source.images, images) for slot in (0, 1)]
            yield _row(row, sides, split or split_of(table), place, number)


def _image(
    row: dict[str, Any], slot: int, file: str, number: int, present: bool, mode: ImageMode
) -> SourceImage:
    uid = row[f"image_{slot}_uid"] or ""
    if not present:
        return SourceImage(uid, None)
    if mode == "reference":
        return SourceImage(uid, Reference(file, number, f"jpg_{slot}"))
    value = row[f"jpg_{slot}"]
    if isinstance(value, dict):
        value = value.get("bytes")
    return SourceImage(uid, value or b"")  # no bytes is a fault here, not an absent image


def _row(
    row: dict[str, Any], sides: list[SourceImage], split: str | None, file: str, number: int
) -> SourceRow:
    label, problem = _label(row)
    time = utc(row.get("created_at"))
    user = row.get("user_id")
    told = (row.get("ranking_id"), user, time.isoformat() if time else None)
    return SourceRow(
        prompt=row["caption"],
        image_0=sides[0],
        image_1=sides[1],
        label=label,
        split=split,
        annotator=None if user is None else str(user),
        time=time,
        extra={name: value for name, value in row.items() if name not in OURS},
        distinguishing=tuple("" if part is None else str(part) for part in told),
        source_file=file,
        source_row=number,
        problem=problem,
    )


def _label(row: dict[str, Any]) -> tuple[float | None, str | None]:
    """label_0 as ours, and what is wrong with the two labels together."""
    first, second = (_number(row[name]) for name in ("label_0", "label_1"))
    if row.get("has_label") is False or (first is None and second is None):
        return None, None
    if first not in (0.0, 0.5, 1.0) or second is None or first + second != 1:
        return None, unlike(first, second)
    return first, None


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
