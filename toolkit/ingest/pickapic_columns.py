"""Pick-a-Pic by columns, where no image is read: the rules of `pickapic.pickapic_rows`."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from toolkit.ingest.columnar import SourceColumns
from toolkit.ingest.pickapic_files import IMAGES, OURS, PickapicFiles, split_of
from toolkit.ingest.rows import utc
from toolkit.ingest.tables import Table, batches, plain

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
