"""Tables of prompt, chosen and rejected: Parquet, JSON, CSV, or a folder that `datasets` saved.

image_0 is the chosen image, so every label is 1, unless a label column says which was preferred
(the column `label_0` of our own exports: 0 puts the chosen image second again).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa

from toolkit.errors import InputError
from toolkit.ingest.source import ListOptions, Opened, Source, SourceRow, as_batches, utc
from toolkit.ingest.tabular import (
    Table,
    cell_image,
    checked_folder,
    count_rows,
    find_tables,
    holds_bytes,
    is_image_column,
    kept_types,
    need_columns,
    records,
)
from toolkit.ingest.writer import open_pairs

REMEDY = (
    "name yours with --prompt-column, --chosen-column and --rejected-column (and, where there is "
    "one, --label-column)"
)


@dataclass(frozen=True, kw_only=True)
class ChosenRejectedOptions(ListOptions):
    """Options of `outvoted ingest chosen-rejected`; the label column and those behind it may be
    absent."""

    prompt_column: Annotated[str, "Column of the prompt."] = "prompt"
    chosen_column: Annotated[str, "Column of the chosen image."] = "chosen"
    rejected_column: Annotated[str, "Column of the rejected image."] = "rejected"
    label_column: Annotated[
        str, "Column that is 0 where the chosen image came second, .5 for a tie."
    ] = "label_0"
    annotator_column: Annotated[str, "Column of the annotator."] = "user_id"
    time_column: Annotated[str, "Column of the vote's time."] = "created_at"
    chosen_uid_column: Annotated[str, "Column that names the chosen image."] = "chosen_uid"
    rejected_uid_column: Annotated[str, "Column that names the rejected image."] = "rejected_uid"

    @property
    def needed(self) -> tuple[str, str, str]:
        """The columns without which there is no pair."""
        return self.prompt_column, self.chosen_column, self.rejected_column


def open_chosen_rejected(options: ChosenRejectedOptions) -> Opened:
    """Find and check the tables. InputError (one sentence) on the first that cannot be used."""
    return open_sides(CHOSEN_REJECTED.name, options)


CHOSEN_REJECTED = Source(
    "chosen-rejected",
    "Any table of prompt, chosen and rejected image",
    ChosenRejectedOptions,
    open_chosen_rejected,
    stored_as="chosen-rejected",
    details="Parquet, JSON, CSV or saved `datasets`; columns by option",
)


def open_sides(source: str, options: ChosenRejectedOptions) -> Opened:
    """The tables as a source of that name."""
    what = "a table of chosen and rejected images"
    tables = find_tables(options.paths, what=what, shard=options.part)
    for table in tables:
        need_columns(table, options.needed, REMEDY)
        for name in (options.chosen_column, options.rejected_column):
            if not is_image_column(table, name):
                kind = table.schema.field(name).type
                raise InputError(
                    f"{table.path} holds {kind} in column {name}, where images or paths to them "
                    f"are needed; {REMEDY}."
                )
    checked_folder(options.images_dir)
    types = kept_types(tables, options.needed)

    def rows() -> Iterator[SourceRow]:
        return islice(chosen_rejected_rows(tables, options), options.limit)

    return open_pairs(
        source,
        options,
        lambda: as_batches(rows(), options, types=types),
        rows=count_rows(tables),
        personal=(options.annotator_column,),
        labels_are_votes=source == CHOSEN_REJECTED.name,
    )


def chosen_rejected_rows(
    tables: Sequence[Table], options: ChosenRejectedOptions
) -> Iterator[SourceRow]:
    """The tables' rows in order. Under `reference` columns of bytes are not read."""
    for table in tables:
        unread = [
            name
            for name in (options.chosen_column, options.rejected_column)
            if options.images == "reference" and _only_bytes(table, name)
        ]
        read = [name for name in table.schema.names if name not in unread]
        for number, row in records(table, read):
            yield _row(options, table, number, row)


def _only_bytes(table: Table, name: str) -> bool:
    kind = table.schema.field(name).type
    return holds_bytes(table, name) and not pa.types.is_struct(kind)  # a struct may hold a path


def _row(
    options: ChosenRejectedOptions, table: Table, number: int, row: dict[str, Any]
) -> SourceRow:
    folder = Path(options.images_dir or table.path.parent)
    columns = (
        (options.chosen_column, options.chosen_uid_column),
        (options.rejected_column, options.rejected_uid_column),
    )
    sides = [
        cell_image(table, number, name, row.get(name), folder, options.images, _text(row.get(uid)))
        for name, uid in columns
    ]
    label, problem = _label(row, options.label_column)
    if label == 0:
        sides.reverse()
    annotator = _text(row.get(options.annotator_column))
    time = utc(row.get(options.time_column))
    vote = (annotator, time.isoformat()) if annotator and time else (annotator or "",)
    ours = {*options.needed, options.chosen_uid_column, options.rejected_uid_column}
    return SourceRow(
        prompt=_text(row.get(options.prompt_column)),
        image_0=sides[0],
        image_1=sides[1],
        label=label,
        split=options.split or _text(row.get("split")) or table.split,
        annotator=annotator,
        time=time,
        extra={name: value for name, value in row.items() if name not in ours},
        distinguishing=tuple(filter(None, vote)),
        source_file=str(table.path.resolve()),
        source_row=number,
        problem=problem,
    )


def _label(row: dict[str, Any], column: str) -> tuple[float | None, str | None]:
    """1 where there is no label column; null in it means unlabelled."""
    if column not in row:
        return 1.0, None
    value = row[column]
    if value is None or value != value:
        return None, None
    if value not in (0, 0.5, 1) or isinstance(value, str):
        return None, f"the label is none of 1, 0, 0.5 (it is {value})"
    return float(value), None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
