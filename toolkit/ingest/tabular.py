"""Tables that contain a source's rows: Parquet, Arrow, CSV, TSV, JSON or Excel.

`find_tables` finds files and reads their columns before a store is touched. `batches` and `records`
then read a few rows at a time, whatever the size of a file; rows that cannot be read go to the
ingest that runs, which quarantines them. `cell_image` is the image in a cell.

A unit is what `--shard` distributes: a row group of Parquet, a batch of Arrow or CSV, a record of
JSON or Excel. JSON is a list of records, or one record a line; its nested values are Python's.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from toolkit.errors import InputError
from toolkit.files.remote import place
from toolkit.image_files import mistaken
from toolkit.ingest.column_types import (
    Columns,
    Unreadable,
    Wanted,
    as_typed,
    bad_values,
    kept_type,
    plain,
    refuse_doubled,
)
from toolkit.ingest.source import ImageMode, Reference, SourceImage
from toolkit.ingest.table_formats import FORMATS, UNREADABLE, Kind, kind_by_name
from toolkit.schema import as_column, missing_columns
from toolkit.sharding import Shard

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


class Rejected(NamedTuple):
    """A row of a file that cannot be read."""

    file: str
    row: int
    reason: str


_rejected: ContextVar[list[Rejected] | None] = ContextVar("rejected", default=None)


@contextmanager
def rejected_rows() -> Iterator[list[Rejected]]:
    """Collect the rows that cannot be read, while tables are read inside the block.

    Without it such a row is an InputError.
    """
    token = _rejected.set(rows := [])
    try:
        yield rows
    finally:
        _rejected.reset(token)


def _reject(table: Table, number: int, row: Unreadable) -> None:
    rejected = _rejected.get()
    if rejected is None:
        raise InputError(f"{table.path}, row {number:,}: {row.reason}; correct the file.")
    rejected.append(Rejected(os.path.realpath(table.path), number, row.reason))


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
    files = [file for path in paths for file in _files(place(path), allowed, what)]
    opened = [_opened(path, kind, encoding) for path, kind, _ in files]
    if not any(any(units) for _, units in opened):
        raise InputError(f"{files[0][0]} holds no rows; name a {_kinds(allowed)} with pairs in it.")
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
    r"(detailed|weighted)_results"
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
        for first, rows in form.batches(wanted):
            done = first
            if isinstance(rows, Unreadable):
                _reject(table, first, rows)
                continue
            try:
                arrays = [plain(column) for column in rows.columns]
            except (pa.ArrowException, OverflowError):  # a value that no text or time can be
                for place_, reason in bad_values(rows).items():
                    _reject(table, first + place_, reason)
                continue
            yield first, pa.RecordBatch.from_arrays(arrays, names)
            done += rows.num_rows


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
            _reject(table, number, record)


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


def _files(path: Path, allowed: Sequence[Kind], what: str) -> list[tuple[Path, Kind, str | None]]:
    if not path.exists():
        raise InputError(f"{path} does not exist; name a {_kinds(allowed)} or a folder of them.")
    if path.is_file():
        kind = kind_by_name(path) or "parquet"
        if kind not in allowed:
            name = FORMATS[kind].name
            raise InputError(f"{path} is a {name} file; {what} is a {_kinds(allowed)}.")
        return [(path, kind, split_by_name(path, path.parent.parent))]
    splits = _saved_splits(path)
    files = [
        (file, kind)
        for file in sorted(path.rglob("*"))
        if (kind := kind_by_name(file)) in allowed
        and file.is_file()
        and not file.name.startswith(".")
        and file.name not in _ABOUT_JSON
    ]
    if not files:
        suffixes = [suffix for kind in allowed for suffix in FORMATS[kind].suffixes]
        wanted = suffixes[0] if len(allowed) <= 2 else " or ".join(suffixes)
        raise InputError(f"The folder {path} holds no {wanted} file; name one that does.")
    return [
        (file, kind, splits.get(file.parent) or split_by_name(file, path)) for file, kind in files
    ]


_ABOUT_JSON = ("dataset_info.json", "state.json", "dataset_dict.json", "curation.json")
"""Files of a data set that contain no rows."""

_SPLIT = re.compile(r"(?:^|[^a-z])(train|validation|test)(?:[^a-z]|$)")


def split_by_name(file: Path, root: Path) -> str | None:
    """The split that a file is of: by its name (test-00000-of-00002), or a folder below `root`
    called that or split=test, the nearest first."""
    if named := _SPLIT.search(file.name.split(".")[0].lower()):
        return named[1]
    folders = file.parts[len(root.parts) : -1]
    words = (folder.lower().removeprefix("split=") for folder in reversed(folders))
    return next((word for word in words if _SPLIT.fullmatch(word)), None)


def _saved_splits(folder: Path) -> dict[Path, str]:
    """Folder to split below every dataset_dict.json."""
    return {
        about.parent / name: name
        for about in folder.rglob("dataset_dict.json")
        for name in json.loads(about.read_text(encoding="utf-8")).get("splits", [])
    }


def _kinds(allowed: Sequence[Kind]) -> str:
    if "json" not in allowed:  # Arrow comes as a folder, and is seldom named
        return "Parquet file"
    names = [FORMATS[kind].name for kind in allowed]
    return ", ".join(names[:-1]) + f" or {names[-1]} file"


def _opened(path: Path, kind: Kind, encoding: str | None) -> Columns:
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); fetch it again.")
    try:
        columns = FORMATS[kind].columns(path, encoding)
    except UNREADABLE as problem:
        raise InputError(_unreadable(path, kind, problem)) from problem
    refuse_doubled(path, columns.schema.names)
    return columns


def _unreadable(path: Path, kind: Kind, problem: Exception) -> str:
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith(b"PARE") or "encrypt" in str(problem).lower():
        return f"{path} is an encrypted Parquet file; decrypt it, or name another file."
    if what := mistaken(head):
        return f"{path} is {what}; name the file itself."
    name = "a Parquet file" if kind == "parquet" else f"a file of {FORMATS[kind].name}"
    begun = kind != "parquet" or head.startswith(b"PAR1")
    what = f"is {name} cut short or damaged" if begun else f"is not {name}"
    return f"{path} {what}; fetch it again or name another file."


ADDRESS = ("http://", "https://")


def cell_image(
    table: Table,
    number: int,
    column: str,
    value: Any,
    folder: Path,
    mode: ImageMode,
    uid: str | None = None,
) -> SourceImage:
    """The image that a cell names or contains; `value` is None where bytes were left unread.

    Without a uid a copied image is named by its sha256, a referenced file by its whole path, and a
    referenced cell by its file's name, row and column: nothing of it is read. A web address is a
    name only; nothing is fetched.
    """
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            return file_image(folder / value["path"], mode, uid)
        value = value.get("bytes")
    if isinstance(value, str):
        if value.startswith(ADDRESS):
            return SourceImage(uid or value, None)
        return file_image(folder / value, mode, uid)
    if mode == "reference" and holds_bytes(table, column):
        name = uid or f"{table.path.name}:{number}:{column}"
        return SourceImage(name, Reference(str(table.path.resolve()), number, column))
    return SourceImage(uid, value or b"")


def file_image(path: Path, mode: ImageMode, uid: str | None = None) -> SourceImage:
    """An image file whose path is not the name that its source gave it: see `cell_image`."""
    whole = Reference(str(path.resolve()))
    if uid or mode == "reference":
        return SourceImage(uid or whole.file, whole)
    try:
        return SourceImage(None, path.read_bytes())
    except OSError:  # the writer says which file, and why not
        return SourceImage(whole.file, whole)


def path_image(path: str, folder: Path) -> SourceImage:
    """An image that its source names by its path below `folder`, or by a web address alone."""
    if path.startswith(ADDRESS):
        return SourceImage(path, None)
    return SourceImage(path, Reference(str((folder / path).resolve())) if path else None)


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
    test = pa.types
    if test.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return bool(test.is_binary(kind) or test.is_large_binary(kind))


def is_image_column(table: Table, column: str) -> bool:
    """Whether the column can contain images in any form; of JSON, any column can."""
    if table.kind == "json" or holds_bytes(table, column):
        return True
    kind = table.schema.field(column).type
    test = pa.types
    kinds = (test.is_string, test.is_large_string, test.is_struct, test.is_null)
    return any(is_kind(kind) for is_kind in kinds)
