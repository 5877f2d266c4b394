"""Tables of prompt, chosen and rejected: Parquet, JSON, CSV, or a folder that `datasets` saved.

image_0 is the chosen image, so every label is 1, unless a label column says which was preferred
(the column `label_0` of our own exports: 0 puts the chosen image second again).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa

from toolkit.errors import InputError
from toolkit.ingest.sides import SIDES
from toolkit.ingest.source import (
    ROWS,
    Batch,
    ListOptions,
    Opened,
    Source,
    SourceImage,
    as_exported,
    no_columns,
    utc,
)
from toolkit.ingest.tabular import (
    BATCH,
    Table,
    all_batches,
    cell_image,
    checked_folder,
    count_rows,
    find_tables,
    holds_bytes,
    is_image_column,
    need_columns,
    origin,
    unread_votes,
)
from toolkit.ingest.writer import open_pairs
from toolkit.schema import EXPORTED, conform

ROWS_TOGETHER = 2000
"""Rows that are read together where no image is."""

CHOSEN, REJECTED, LABEL = "chosen", "rejected", "label_0"

REMEDY = (
    "name yours with --prompt-column, --chosen-column and --rejected-column (and, where there is "
    "one, --label-column)"
)


@dataclass(frozen=True, kw_only=True)
class ChosenRejectedOptions(ListOptions):
    """Options of `outvoted ingest chosen-rejected`; the label column and those behind it may be
    absent."""

    prompt_column: Annotated[str, "Column of the prompt."] = "prompt"
    chosen_column: Annotated[str, "Column of the chosen image."] = CHOSEN
    rejected_column: Annotated[str, "Column of the rejected image."] = REJECTED
    label_column: Annotated[
        str | None,
        "Column that is 0 where the chosen image came second, .5 for a tie; default: label_0 "
        "beside chosen and rejected.",
    ] = None
    annotator_column: Annotated[str, "Column of the annotator."] = "user_id"
    time_column: Annotated[str, "Column of the vote's time."] = "created_at"
    chosen_uid_column: Annotated[str, "Column that names the chosen image."] = "chosen_uid"
    rejected_uid_column: Annotated[str, "Column that names the rejected image."] = "rejected_uid"

    @property
    def needed(self) -> tuple[str, str, str]:
        """The columns without which there is no pair."""
        return self.prompt_column, self.chosen_column, self.rejected_column

    @property
    def label(self) -> str:
        """The label column, which may be absent."""
        return self.label_column or LABEL


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
    tables = find_tables(options.paths, what=what, shard=options.part, encoding=options.encoding)
    for table in tables:
        need_columns(table, options.needed, REMEDY)
        _refuse_sides(table, options)
        for name in (options.chosen_column, options.rejected_column):
            if not is_image_column(table, name):
                kind = table.schema.field(name).type
                raise InputError(
                    f"{table.path} holds {kind} in column {name}, where images or paths to them "
                    f"are needed; {REMEDY}."
                )
    checked_folder(options.images_dir)
    return open_pairs(
        source,
        options,
        partial(side_batches, tables, options),
        rows=count_rows(tables),
        personal=(options.annotator_column,),
        labels_are_votes=source == CHOSEN_REJECTED.name,
        notes=unread_votes(tables, (options.annotator_column, options.label)),
    )


def _refuse_sides(table: Table, options: ChosenRejectedOptions) -> None:
    """InputError where a label says which of two images won: then neither column is the chosen."""
    images, label = (options.chosen_column, options.rejected_column), options.label
    if label not in table.schema.names or images == (CHOSEN, REJECTED):
        return
    by_place = images in SIDES or images[::-1] in SIDES
    exported = set(table.schema.names) >= EXPORTED  # and read as what it is
    if by_place or (options.label_column is None and not exported):
        command = (
            f"`outvoted ingest pairwise {table.path} --store STORE --image-columns "
            f"{','.join(images)} --share-column {label}`"
        )
        otherwise = f", or give --label-column {label} if it says that {images[0]} came first"
        raise InputError(
            f"{table.path} has a column {label} beside {images[0]} and {images[1]}: where it says "
            f"which of the two won, {images[0]} is not always the chosen one. Read such a table by "
            f"{command}{'' if by_place else otherwise}."
        )


def side_batches(tables: Sequence[Table], options: ChosenRejectedOptions) -> Iterator[Batch]:
    """The tables' rows in order. Under `reference` columns of bytes are not read."""

    def plan(table: Table) -> tuple[list[str], int]:
        sides = (options.chosen_column, options.rejected_column)
        unread = [n for n in sides if options.images == "reference" and _only_bytes(table, n)]
        names = [name for name in table.schema.names if name not in unread]
        return names, ROWS_TOGETHER if options.images == "reference" else BATCH

    for table, first, rows in all_batches(tables, plan, options.limit):
        yield as_exported(_batch(options, table, first, rows), options)


def _only_bytes(table: Table, name: str) -> bool:
    kind = table.schema.field(name).type
    return holds_bytes(table, name) and not pa.types.is_struct(kind)  # a struct may hold a path


def _batch(options: ChosenRejectedOptions, table: Table, first: int, rows: pa.RecordBatch) -> Batch:
    columns = {name: rows[name] for name in rows.schema.names}
    size = rows.num_rows
    values = _Values(columns, size)
    prompts, problems = _prompts(values.of(options.prompt_column))
    labels = _labels(columns, options.label, size, problems)
    chosen, rejected = (
        _images(options, table, first, name, values.of(name), values.texts(uid))
        for name, uid in (
            (options.chosen_column, options.chosen_uid_column),
            (options.rejected_column, options.rejected_uid_column),
        )
    )
    second = [label is not None and label < 0.5 for label in labels]  # the chosen one is image_1
    sides = [
        [b if last else a for a, b, last in zip(*pair, second, strict=True)]
        for pair in ((chosen, rejected), (rejected, chosen))
    ]
    for slot, side in enumerate(sides):
        for row, image in enumerate(side):
            problems[row] = problems[row] or (image.problem and f"image_{slot}: {image.problem}")
    annotators = values.texts(options.annotator_column)
    times = _times(values.of(options.time_column), problems)
    splits = values.texts("split")
    own = {
        "prompt": pa.array(prompts, pa.string()),
        "image_0": pa.array([image.uid for image in sides[0]], pa.string()),
        "image_1": pa.array([image.uid for image in sides[1]], pa.string()),
        "label": pa.array(labels, pa.float64()),
        "split": pa.array([options.split or s or table.split for s in splits], pa.string()),
        "annotator": pa.array(annotators, pa.string()),
        "time": pa.array(times, pa.timestamp("us", tz="UTC")),
        "problem": pa.array(problems, pa.string()),
    } | origin(table, first, size)
    ours = {*options.needed, options.chosen_uid_column, options.rejected_uid_column}
    extra = {name: column for name, column in columns.items() if name not in ours}
    return Batch(
        rows=conform(pa.table(own), ROWS),
        distinguishing=[
            tuple(filter(None, (name, time.isoformat() if name and time else None)))
            for name, time in zip(annotators, times, strict=True)
        ],
        extra=pa.table(extra) if extra else no_columns(size),
        images=([image.data for image in sides[0]], [image.data for image in sides[1]]),
    )


@dataclass(frozen=True)
class _Values:
    """Columns that may be absent, as Python's values."""

    columns: dict[str, pa.Array]
    size: int

    def of(self, name: str) -> list[Any]:
        """The values; nothing where the column is absent."""
        return self.columns[name].to_pylist() if name in self.columns else [None] * self.size

    def texts(self, name: str) -> list[str | None]:
        """The values as text."""
        return [None if value is None else str(value) for value in self.of(name)]


def _prompts(values: list[Any]) -> tuple[list[str | None], list[str | None]]:
    """The prompts, and what is wrong with each."""
    wrong = [isinstance(value, list | dict | bytes) for value in values]
    return (
        [None if bad or v is None else str(v) for v, bad in zip(values, wrong, strict=True)],
        [
            f"the prompt is no text (it is {str(v)[:60]})" if bad else None
            for v, bad in zip(values, wrong, strict=True)
        ],
    )


def _images(
    options: ChosenRejectedOptions,
    table: Table,
    first: int,
    column: str,
    values: list[Any],
    uids: list[str | None],
) -> list[SourceImage]:
    folder = Path(options.images_dir or table.path.parent)
    return [
        cell_image(
            *(table, number, column, value, folder, options.images, uid),
            outside=options.allow_outside,
        )
        for number, (value, uid) in enumerate(zip(values, uids, strict=True), first)
    ]


def _labels(
    columns: dict[str, pa.Array], name: str, size: int, problems: list[str | None]
) -> list[float | None]:
    """The labels: 1 where there is no such column, None where it is null. Faults are noted."""
    if name not in columns:
        return [1.0] * size
    labels: list[float | None] = []
    for row, value in enumerate(columns[name].to_pylist()):
        try:
            labels.append(None if value is None or value != value else float(value))
        except (TypeError, ValueError):
            labels.append(None)
            problems[row] = problems[row] or f"the label is no number (it is {str(value)[:60]})"
    return labels


def _times(values: list[Any], problems: list[str | None]) -> list[datetime | None]:
    times: list[datetime | None] = []
    for row, value in enumerate(values):
        try:
            times.append(utc(value))
        except OverflowError:
            times.append(None)
            problems[row] = problems[row] or f"the time is out of range (it is {value})"
    return times
