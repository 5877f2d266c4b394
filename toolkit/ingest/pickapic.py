"""Pick-a-Pic: tables in the 19 columns of its second version, or the 18 of its first.

Every row is one person's vote on two images. Files are read a few rows at a time, whatever their
size. Files without the image columns (the *_no_images edition) give pairs without images.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from toolkit.ingest.columnar import ingest_columns
from toolkit.ingest.pickapic_columns import pickapic_columns, unlike
from toolkit.ingest.pickapic_files import IMAGES, OURS, PickapicFiles, split_of
from toolkit.ingest.rows import Reference, SourceImage, SourceRow, Summary, check_split, utc
from toolkit.ingest.tables import records
from toolkit.ingest.writer import ImageMode, ingest_rows
from toolkit.store import Store

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
