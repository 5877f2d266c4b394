"""Tables that contain a source's rows: Parquet, Arrow, CSV, TSV, JSON or Excel.

`find_tables` finds files and reads their columns before a store is touched. `batches` and `records`
then read a few rows at a time, whatever the size of a file; rows that cannot be read go to the
ingest that runs, which quarantines them. `cell_image` is the image in a cell.

A unit is what `--shard` distributes: a row group of Parquet, a batch of Arrow or CSV, a record of
JSON or Excel. JSON is a list of records, or one record a line; its nested values are Python's.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from toolkit.errors import InputError, OutvotedError
from toolkit.files.remote import place
from toolkit.ingest.column_types import Unreadable, Wanted, as_typed, kept_type, whole_rows
from toolkit.ingest.source import Batch, ImageMode, Reference, SourceImage, SourceRow, as_batches
from toolkit.ingest.table_formats import (
    FORMATS,
    UNREADABLE,
    Kind,
    first_look,
    kinds_text,
    table_files,
)
from toolkit.schema import as_column, missing_columns
from toolkit.sharding import Shard
from toolkit.store.images import is_inside, real_path

BATCH = 32
"""Rows that are read together where they bring images, about a megabyte each."""

ALL_KINDS: tuple[Kind, ...] = tuple(FORMATS)


@dataclass(frozen=True)
class Table:
    """One file whose columns were checked; no row has been read."""

    path: Path
    kind: Kind
    schema: pa.Schema
    """Its columns as they are read; of type null where values have no single type (JSON)."""
    rows: int
    """Of the shard, where there is one."""
    split: str | None = None
    """The split that the file's place or name says: see `split_by_name`."""
    number: int = 0
    """Among the files of the source."""
    shard: Shard | None = None
    encoding: str | None = None
    """Of a text file, where the user named one."""

    def deals(self, unit: int) -> bool:
        """Whether a unit is in the shard."""
        return self.shard is None or self.shard.has(self.number + unit)


_rejected: ContextVar[list[SourceRow] | None] = ContextVar("rejected", default=None)


@contextmanager
def rejected_rows() -> Iterator[list[SourceRow]]:
    """Collect the rows that cannot be read, while tables are read inside the block.

    Without it such a row is an InputError.
    """
    rows: list[SourceRow] = []
    token = _rejected.set(rows)
    try:
        yield rows
    finally:
        _rejected.reset(token)


def with_rejected(batches: Iterable[Batch]) -> Iterator[Batch]:
    """A source's batches, and behind each the rows that could not be read meanwhile."""
    with rejected_rows() as rejected:
        try:
            for batch in batches:
                yield batch
                yield from as_batches(rejected)
                rejected.clear()
        except OutvotedError:
            yield from as_batches(rejected)
            raise
        yield from as_batches(rejected)


def _reject(table: Table, number: int, reason: str) -> None:
    rejected = _rejected.get()
    if rejected is None:
        raise InputError(f"{table.path}, row {number:,}: {reason}; correct the file.")
    row = SourceRow(
        *(None, SourceImage("?"), SourceImage("?"), None),
        distinguishing=(table.path.name, str(number)),
        source_file=real_path(table.path),
        source_row=number,
        problem=reason,
    )
    rejected.append(row)


def find_tables(
    paths: Sequence[str | Path],
    *,
    allowed: Sequence[Kind] = ALL_KINDS,
    what: str = "a table of pairs",
    shard: Shard | None = None,
    encoding: str | None = None,
) -> tuple[Table, ...]:
    """Every file named, and of folders every file of an allowed kind, sorted by name.

    A shard gets every n-th unit; the first unit of each file goes to another shard.

    InputError (one sentence) on the first file that is absent, empty, damaged, of another kind or
    with two columns of one name, and where all of them together have no row.
    """
    files = [file for path in paths for file in table_files(place(path), allowed, what)]
    opened = [first_look(path, kind, encoding) for path, kind, _ in files]
    if not any(any(units) for _, units in opened):
        raise InputError(
            f"{files[0][0]} holds no rows; name a {kinds_text(allowed)} with pairs in it."
        )
    tables = []
    for number, (file, (schema, units)) in enumerate(zip(files, opened, strict=True)):
        path, kind, split = file
        kept = pa.schema([field.with_type(kept_type(field.type)) for field in schema])
        table = Table(path, kind, kept, 0, split, number, shard, encoding)
        rows = sum(size for unit, size in enumerate(units) if table.deals(unit))
        tables.append(replace(table, rows=rows))
    return tuple(tables)


def count_rows(tables: Iterable[Table]) -> int:
    """Rows of all tables together (of the shard, where there is one)."""
    return sum(table.rows for table in tables)


def need_columns(table: Table, needed: Sequence[str], remedy: str) -> None:
    """InputError naming the columns that the table lacks, those it has, and the remedy."""
    if missing := missing_columns(table.schema.names, needed):
        raise InputError(
            f"{table.path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} (found: "
            f"{', '.join(table.schema.names)}); {remedy}."
        )


VOTE_WORDS = re.compile(
    r"vote|voter|annotat|rater|worker|response|winner|choice_dist|human_preference|"
    r"(detailed|weighted)_results|(left|right)_\w*score"
)


def unread_votes(tables: Iterable[Table], read: Iterable[str]) -> list[str]:
    """A sentence on columns that look like votes and are not among those that a source reads."""
    names = dict.fromkeys(name for table in tables for name in table.schema.names)
    unread = [name for name in names if name not in set(read) and VOTE_WORDS.search(name.lower())]
    if not unread:
        return []
    return [
        f"not read as votes, only kept as columns: {', '.join(unread)}; `outvoted ingest --help` "
        "lists the sources that read votes"
    ]


def batches(
    table: Table, columns: Sequence[str] | None = None, size: int = BATCH
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(number of the first row, rows) in order, in the types of `kept_type`.

    Nested values of JSON have the type that fits those read together. InputError where the file
    turns out to be damaged further in.
    """
    form, done = FORMATS[table.kind], 0
    names = table.schema.names if columns is None else list(columns)
    schema = pa.schema([table.schema.field(name) for name in names])
    if form.batches is None:
        yield from _grouped(_entries(table, names), schema, size)
        return
    wanted = Wanted(table.path, schema, size, table.deals, table.encoding)
    with _damage(table, lambda: done):
        for start, read in form.batches(wanted):
            done = start
            whole = [(start, read)] if isinstance(read, Unreadable) else whole_rows(start, read)
            for first, rows in whole:
                if isinstance(rows, Unreadable):
                    _reject(table, first, rows.reason)
                else:
                    yield first, rows
                    done = first + rows.num_rows


def all_batches(
    tables: Iterable[Table], plan: Callable[[Table], tuple[list[str], int]], limit: int | None
) -> Iterator[tuple[Table, int, pa.RecordBatch]]:
    """(table, number of the first row, rows) of all tables, at most `limit` rows.

    `plan` says which columns of a table are read, and how many rows at a time.
    """
    left = limit
    for table in tables:
        for first, rows in batches(table, *plan(table)):
            if left is not None:
                rows = rows.slice(0, left)
                left -= rows.num_rows
            if not rows.num_rows:
                return
            yield table, first, rows


def origin(table: Table, first: int, size: int) -> dict[str, pa.Array]:
    """Where `size` rows were read: the batch's columns source_file and source_row."""
    return {
        "source_file": pa.array([real_path(table.path)] * size, pa.string()),
        "source_row": pa.array(range(first, first + size), pa.int64()),
    }


def _entries(table: Table, names: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of a file that is no stream of batches, their values in their columns' types."""
    fields = [table.schema.field(name) for name in names]
    read, number = FORMATS[table.kind].entries, 0
    assert read is not None
    with _damage(table, lambda: number):
        for number, record in enumerate(read(table.path, table.encoding)):
            if not table.deals(number):
                continue
            if not isinstance(record, Unreadable):
                row = {field.name: as_typed(record.get(field.name), field) for field in fields}
                odd = next((v for v in row.values() if isinstance(v, Unreadable)), None)
                if odd is None:
                    yield number, row
                    continue
                record = odd
            _reject(table, number, record.reason)


def _grouped(
    entries: Iterator[tuple[int, dict[str, Any]]], schema: pa.Schema, size: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Records in batches of consecutive rows."""
    waiting: list[tuple[int, dict[str, Any]]] = []
    while True:
        waiting += islice(entries, size - len(waiting))
        if not waiting:
            return
        first = waiting[0][0]
        run = [row for place_, (number, row) in enumerate(waiting) if number == first + place_]
        waiting = waiting[len(run) :]
        kinds = [None if pa.types.is_null(field.type) else field.type for field in schema]
        arrays = [
            as_column([row[name] for row in run], kind)
            for name, kind in zip(schema.names, kinds, strict=True)
        ]
        yield first, pa.RecordBatch.from_arrays(arrays, schema.names)


def records(
    table: Table, columns: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number, its values by column), times to the microsecond. InputError as `batches`."""
    names = table.schema.names if columns is None else list(columns)
    if FORMATS[table.kind].batches is None:
        yield from _entries(table, names)
        return
    for first, batch in batches(table, names):
        values = [column.to_pylist() for column in batch.columns]
        for number, row in enumerate(zip(*values, strict=True), first):
            yield number, dict(zip(names, row, strict=True))


def with_problems(table: Table) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """`records`, and what is wrong with the rows that cannot be read, each by its number."""
    with rejected_rows() as rejected:
        for number, row in records(table):
            yield from ((bad.source_row or 0, bad.problem or "") for bad in rejected)
            rejected.clear()
            yield number, row
        yield from ((bad.source_row or 0, bad.problem or "") for bad in rejected)


@contextmanager
def _damage(table: Table, done: Callable[[], int]) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as problem:
        raise InputError(
            f"{table.path} is damaged after row {done():,}; the rows before it are in the store. "
            "Fetch the file again and run the same command."
        ) from problem


def kept_types(tables: Sequence[Table], without: Sequence[str]) -> dict[str, pa.DataType]:
    """Types of the tables' other columns, for the store's src_ columns."""
    return {
        field.name: field.type
        for table in tables
        for field in table.schema
        if field.name not in without and not pa.types.is_null(field.type)
    }


ADDRESS = ("http://", "https://")


def cell_image(
    table: Table,
    number: int,
    column: str,
    value: Any,
    folder: Path,
    mode: ImageMode,
    uid: str | None = None,
    *,
    outside: bool = False,
) -> SourceImage:
    """The image that a cell names or contains; `value` is None where bytes were left unread.

    Without a uid a copied image is named by its sha256, a referenced file by its whole path, and a
    referenced cell by its file's name, row and column: nothing of it is read. A web address is a
    name only; nothing is fetched. A file outside `folder` is a fault, unless `outside` allows it.
    """
    if isinstance(value, dict):
        unread = value.get("bytes") is None and value.get("path")
        value = value["path"] if unread else value.get("bytes")
    if isinstance(value, str):
        if value.startswith(ADDRESS):
            return SourceImage(uid or value, None)
        if value.startswith("data:"):
            return _data_image(value, uid)
        problem = path_problem(value, folder, outside)
        return (
            SourceImage(value, None, problem) if problem else file_image(folder / value, mode, uid)
        )
    if mode == "reference" and holds_bytes(table, column):
        name = uid or f"{table.path.name}:{number}:{column}"
        return SourceImage(name, Reference(real_path(table.path), number, column))
    try:
        return SourceImage(uid, bytes(value or b""))  # JSON may list the bytes as numbers
    except (TypeError, ValueError):
        return SourceImage(uid, None, f"the cell is no image (it is {str(value)[:60]})")


def _data_image(uri: str, uid: str | None) -> SourceImage:
    """The image of data:image/png;base64,..."""
    about, _, text = uri.partition(",")
    try:
        if not about.endswith(";base64"):
            raise ValueError
        return SourceImage(uid, base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return SourceImage(uid, None, f"the data URI is not in base64 (it begins {uri[:40]})")


def path_problem(path: str, folder: Path, outside: bool) -> str | None:
    """What is wrong with the path of an image, as its source gives it."""
    if "\0" in path:
        return "the path has a NUL character"
    if "\\" in path and not (folder / path).exists():
        return f"the path is written with backslashes; write it with / ({path})"
    if not outside and not is_inside(folder, real_path(folder / path)):
        return (
            "the file is outside the folder of its source; name its folder with --images-dir, or "
            f"type --allow-outside ({path})"
        )
    return None


def file_image(path: Path, mode: ImageMode, uid: str | None = None) -> SourceImage:
    """An image file whose path is not the name that its source gave it: see `cell_image`."""
    whole = Reference(real_path(path))
    if uid or mode == "reference":
        return SourceImage(uid or whole.file, whole)
    try:
        return SourceImage(None, path.read_bytes())
    except OSError:  # the writer says which file, and why not
        return SourceImage(whole.file, whole)


def path_image(path: str, folder: Path, *, outside: bool = False) -> SourceImage:
    """An image that its source names by its path below `folder`, or by a web address alone."""
    if path.startswith(ADDRESS) or not path:
        return SourceImage(path, None)
    if problem := path_problem(path, folder, outside):
        return SourceImage(path, None, problem)
    return SourceImage(path, Reference(real_path(folder / path)))


def checked_folder(images_dir: str | Path | None) -> Path | None:
    """The folder of the images. InputError where it is none."""
    if images_dir is not None and not Path(images_dir).is_dir():
        raise InputError(f"{images_dir} is no folder; name the images' with --images-dir.")
    return None if images_dir is None else Path(images_dir)


def holds_bytes(table: Table, column: str) -> bool:
    """Whether the column contains encoded images rather than paths or addresses."""
    if column not in table.schema.names:
        return False
    kind = table.schema.field(column).type
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return bool(pa.types.is_binary(kind))


def is_image_column(table: Table, column: str) -> bool:
    """Whether the column can contain images in any form; of JSON, any column can."""
    if table.kind == "json" or holds_bytes(table, column):
        return True
    kind = table.schema.field(column).type
    kinds = (pa.types.is_string, pa.types.is_struct, pa.types.is_null)
    return any(is_kind(kind) for is_kind in kinds)
