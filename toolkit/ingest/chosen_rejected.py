"""Tables of prompt, chosen and rejected: Parquet, JSON, CSV, or a folder that `datasets` saved.

image_0 is the chosen image, so every label is 1, unless a label column says which was preferred
(the column `label_0` of our own exports: 0 puts the chosen image second again).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from toolkit.errors import InputError
from toolkit.ingest.records import SourceRow, Summary, check_split, utc
from toolkit.ingest.tabular import (
    Table,
    cell_image,
    checked_folder,
    find_tables,
    holds_bytes,
    is_image_column,
    kept_types,
    need_columns,
    records,
)
from toolkit.ingest.writer import ImageMode, ingest_rows
from toolkit.sharding import Shard
from toolkit.store import Store

SOURCE = "chosen-rejected"
REMEDY = (
    "name yours with --prompt-column, --chosen-column and --rejected-column (and, where there is "
    "one, --label-column)"
)


@dataclass(frozen=True)
class Columns:
    """Which column holds what. A label or annotator column that is absent is done without."""

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    label: str = "label_0"
    chosen_uid: str = "chosen_uid"
    rejected_uid: str = "rejected_uid"
    annotator: str = "user_id"
    time: str = "created_at"

    @property
    def needed(self) -> tuple[str, str, str]:
        """Those without which there is no pair."""
        return self.prompt, self.chosen, self.rejected


@dataclass(frozen=True)
class ChosenRejected:
    """Tables whose columns were checked; nothing was read from them yet."""

    tables: tuple[Table, ...]
    columns: Columns
    images_dir: Path | None
    """Where paths in the tables begin; None: each table's own folder."""
    rows: int
    source: str = SOURCE


def open_chosen_rejected(
    paths: Sequence[str | Path],
    columns: Columns = Columns(),
    *,
    images_dir: str | Path | None = None,
    source: str = SOURCE,
    shard: Shard | None = None,
) -> ChosenRejected:
    """Find and check the tables. InputError (one sentence) on the first that will not do."""
    tables = find_tables(paths, what="a table of chosen and rejected images", shard=shard)
    for table in tables:
        need_columns(table, columns.needed, REMEDY)
        for name in (columns.chosen, columns.rejected):
            if not is_image_column(table, name):
                kind = table.schema.field(name).type
                raise InputError(
                    f"{table.path} holds {kind} in column {name}, where images or paths to them "
                    f"are needed; {REMEDY}."
                )
    folder = checked_folder(images_dir)
    return ChosenRejected(tables, columns, folder, sum(table.rows for table in tables), source)


def ingest_chosen_rejected(
    store: Store,
    source: ChosenRejected,
    *,
    images: ImageMode = "copy",
    split: str | None = None,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    pseudonyms: Callable[[str], int] | None = None,
) -> Summary:
    """Add the tables' rows (the first `limit` of them) to the store."""
    check_split(split)
    rows = chosen_rejected_rows(source, images=images, split=split)
    return ingest_rows(
        store,
        source.source,
        islice(rows, limit),
        images=images,
        progress=progress,
        extra_types=_types(source),
        pseudonyms=pseudonyms,
        personal=(source.columns.annotator,),
    )


def chosen_rejected_rows(
    source: ChosenRejected, *, images: ImageMode = "copy", split: str | None = None
) -> Iterator[SourceRow]:
    """The tables' rows in order. Under `reference` columns of bytes are not read at all."""
    names = source.columns
    for table in source.tables:
        unread = [
            name
            for name in (names.chosen, names.rejected)
            if images == "reference" and _only_bytes(table, name)
        ]
        read = [name for name in table.schema.names if name not in unread]
        for number, row in records(table, read):
            yield _row(source, table, number, row, images, split)


def _only_bytes(table: Table, name: str) -> bool:
    kind = table.schema.field(name).type
    return holds_bytes(table, name) and not pa.types.is_struct(kind)  # a struct may hold a path


def _row(
    source: ChosenRejected,
    table: Table,
    number: int,
    row: dict[str, Any],
    mode: ImageMode,
    split: str | None,
) -> SourceRow:
    names = source.columns
    folder = source.images_dir or table.path.parent
    sides = [
        cell_image(table, number, column, row.get(column), folder, mode, _text(row.get(uid)))
        for column, uid in ((names.chosen, names.chosen_uid), (names.rejected, names.rejected_uid))
    ]
    label, problem = _label(row, names)
    if label == 0:
        sides.reverse()
    annotator = _text(row.get(names.annotator))
    time = utc(row.get(names.time))
    told = (annotator, time.isoformat()) if annotator and time else (annotator or "",)
    ours = {*names.needed, names.chosen_uid, names.rejected_uid}
    return SourceRow(
        prompt=_text(row.get(names.prompt)),
        image_0=sides[0],
        image_1=sides[1],
        label=label,
        split=split or _text(row.get("split")) or table.split,
        annotator=annotator,
        time=time,
        extra={name: value for name, value in row.items() if name not in ours},
        distinguishing=tuple(filter(None, told)),
        source_file=str(table.path.resolve()),
        source_row=number,
        problem=problem,
    )


def _label(row: dict[str, Any], names: Columns) -> tuple[float | None, str | None]:
    """1 where nothing else is said; null in a label column means that nobody judged."""
    if names.label not in row:
        return 1.0, None
    value = row[names.label]
    if value is None or value != value:
        return None, None
    if value not in (0, 0.5, 1) or isinstance(value, str):
        return None, f"the label is none of 1, 0, 0.5 (it is {value})"
    return float(value), None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _types(source: ChosenRejected) -> dict[str, pa.DataType]:
    return kept_types(source.tables, source.columns.needed)
