"""Tables that contain a source's rows: Parquet, JSON, CSV, or Arrow as `datasets` saves it.

`find_tables` finds files and reads their columns before a store is touched. `batches` and `records`
then read a few rows at a time, whatever the size of a file. `cell_image` is the image in a cell.

A unit is what `--shard` distributes: a row group of Parquet, a batch of Arrow or CSV, a record of
JSON. JSON is a list of records, or one record a line; its types are Python's.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from toolkit.errors import InputError
from toolkit.files.remote import is_local, place, readable
from toolkit.ingest.source import ImageMode, Reference, SourceImage
from toolkit.schema import missing_columns
from toolkit.sharding import Shard

Kind = Literal["parquet", "arrow", "json", "csv"]
Columns: TypeAlias = tuple[pa.Schema, list[int]]
"""A file's columns, and the number of rows in each unit."""
Numbered: TypeAlias = Iterator[tuple[int, pa.RecordBatch]]
"""(number of the first row, rows), in order."""

BATCH = 32
"""Rows that are read together where they bring images, about a megabyte each."""


@dataclass(frozen=True)
class Table:
    """One file whose columns were checked; no row has been read."""

    path: Path
    kind: Kind
    schema: pa.Schema
    rows: int
    """Of the shard, where there is one."""
    split: str | None = None
    """The split of a saved DatasetDict whose folder contains the file."""
    number: int = 0
    """Among the files of the source."""
    shard: Shard | None = None

    def deals(self, unit: int) -> bool:
        """Whether a unit (row group, batch or JSON record) is in the shard."""
        return self.shard is None or self.shard.has(self.number + unit)


class Format(NamedTuple):
    """How one kind of file is read."""

    name: str
    suffixes: tuple[str, ...]
    columns: Callable[[Path], Columns]
    batches: Callable[[Table, list[str], int], Numbered] | None
    """The named columns, at most so many rows at a time; None for JSON: see `json_records`."""


def _parquet_columns(path: Path) -> Columns:
    about = pq.read_metadata(readable(path))
    units = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
    return pq.read_schema(readable(path)), units


def _parquet_batches(table: Table, names: list[str], size: int) -> Numbered:
    first = 0
    with pq.ParquetFile(readable(table.path), pre_buffer=False) as opened:
        for group in range(opened.num_row_groups):  # damage in one group spares the others
            if table.deals(group):
                start = first
                for batch in opened.iter_batches(size, row_groups=[group], columns=names):
                    yield start, batch
                    start += batch.num_rows
            first += opened.metadata.row_group(group).num_rows


@contextmanager
def _arrow(path: Path) -> Iterator[Iterable[pa.RecordBatch]]:
    source = pa.memory_map(str(path)) if is_local(path) else path.open("rb")
    with source, pa.ipc.open_stream(source) as stream:
        yield stream


@contextmanager
def _csv(path: Path) -> Iterator[Iterable[pa.RecordBatch]]:
    quoted = csv.ParseOptions(newlines_in_values=True)
    with csv.open_csv(readable(path), parse_options=quoted) as stream:
        yield stream


def _stream(name: str, suffix: str, opened: Callable[[Path], Any]) -> Format:
    """A format that is a stream of record batches."""

    def columns(path: Path) -> Columns:
        with opened(path) as stream:
            return stream.schema, [batch.num_rows for batch in stream]

    def batches(table: Table, names: list[str], size: int) -> Numbered:
        first = 0
        with opened(table.path) as stream:
            for unit, batch in enumerate(stream):
                for start in range(0, batch.num_rows if table.deals(unit) else 0, size):
                    yield first + start, batch.slice(start, size).select(names)
                first += batch.num_rows

    return Format(name, (suffix,), columns, batches)


def _json_columns(path: Path) -> Columns:
    names: dict[str, None] = {}
    rows = 0
    for record in json_records(path):
        rows += 1
        names.update(dict.fromkeys(record))
    return pa.schema([(name, pa.null()) for name in names]), [1] * rows


FORMATS: dict[Kind, Format] = {
    "parquet": Format("Parquet", (".parquet",), _parquet_columns, _parquet_batches),
    "arrow": _stream("Arrow (datasets.save_to_disk)", ".arrow", _arrow),
    "json": Format("JSON", (".json", ".jsonl"), _json_columns, None),
    "csv": _stream("CSV", ".csv", _csv),
}
KINDS = {suffix: kind for kind, form in FORMATS.items() for suffix in form.suffixes}
_ABOUT_JSON = ("dataset_info.json", "state.json", "dataset_dict.json", "curation.json")
"""Files of a data set that contain no rows."""

_CHUNK = 1 << 20
_BETWEEN = re.compile(r"[\s,]*")


def json_records(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, or of a file with one a line; ValueError on anything else."""
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8") as stream:
        text = stream.read(_CHUNK).lstrip("\ufeff \t\r\n")
        listed = text.startswith("[")
        start = int(listed)
        while True:
            start = _BETWEEN.match(text, start).end()  # type: ignore[union-attr]
            if listed and text.startswith("]", start):
                return
            try:
                record, start = decoder.raw_decode(text, start)
            except ValueError:
                if not (more := stream.read(_CHUNK)):
                    break
                text, start = text[start:] + more, 0
                continue
            if not isinstance(record, dict):
                raise ValueError("an entry is no object")
            yield record
        if listed or text[start:].strip():
            raise ValueError("the list does not end")


def find_tables(
    paths: Sequence[str | Path],
    *,
    allowed: Sequence[Kind] = ("parquet", "arrow", "json", "csv"),
    what: str = "a table of pairs",
    shard: Shard | None = None,
) -> tuple[Table, ...]:
    """Every file named, and of folders every file of an allowed kind, sorted by name.

    A shard gets every n-th unit; the first unit of each file goes to another shard.

    InputError (one sentence) on the first file that is absent, empty, damaged or of another kind,
    and where all of them together have no row.
    """
    files = [file for path in paths for file in _files(place(path), allowed, what)]
    opened = [_opened(path, kind) for path, kind, _ in files]
    if not any(any(units) for _, units in opened):
        raise InputError(f"{files[0][0]} holds no rows; name a {_kinds(allowed)} with pairs in it.")
    tables = []
    for number, (file, (schema, units)) in enumerate(zip(files, opened, strict=True)):
        path, kind, split = file
        table = Table(path, kind, schema, 0, split, number, shard)
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


def batches(
    table: Table, columns: Sequence[str] | None = None, size: int = BATCH
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(number of the first row, rows) in order, of any kind but JSON.

    InputError where the file turns out to be damaged further in.
    """
    names = table.schema.names if columns is None else list(columns)
    read = FORMATS[table.kind].batches
    assert read is not None
    done = 0
    with _damage(table, lambda: done):
        for first, batch in read(table, names, size):
            done = first
            yield first, batch
            done += batch.num_rows


def records(
    table: Table, columns: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number, its values by column), times to the microsecond. InputError as `batches`."""
    names = table.schema.names if columns is None else list(columns)
    if table.kind == "json":
        number = 0
        with _damage(table, lambda: number):
            for number, record in enumerate(json_records(table.path)):
                if table.deals(number):
                    yield number, {name: record.get(name) for name in names}
        return
    for first, batch in batches(table, names):
        values = [plain(column).to_pylist() for column in batch.columns]
        for number, row in enumerate(zip(*values, strict=True), first):
            yield number, dict(zip(names, row, strict=True))


@contextmanager
def _damage(table: Table, done: Callable[[], int]) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise InputError(
            f"{table.path} is damaged after row {done():,}; the rows before it are in the store. "
            "Fetch the file again and run the same command."
        ) from problem


def kept_type(kind: pa.DataType) -> pa.DataType:
    """Times are kept to the microsecond: Python's own clock goes no finer."""
    return pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else kind


def plain(column: pa.Array) -> pa.Array:
    """A column with its times cut to the microsecond."""
    return column.cast(kept_type(column.type), safe=False)


def kept_types(tables: Sequence[Table], without: Sequence[str]) -> dict[str, pa.DataType]:
    """Types of the tables' other columns, for the store's src_ columns."""
    return {
        field.name: kept_type(field.type)
        for table in tables
        if table.kind != "json"
        for field in table.schema
        if field.name not in without and not pa.types.is_null(field.type)
    }


def _files(path: Path, allowed: Sequence[Kind], what: str) -> list[tuple[Path, Kind, str | None]]:
    if not path.exists():
        raise InputError(f"{path} does not exist; name a {_kinds(allowed)} or a folder of them.")
    if path.is_file():
        kind = KINDS.get(path.suffix.lower(), "parquet")
        if kind not in allowed:
            name = FORMATS[kind].name
            raise InputError(f"{path} is a {name} file; {what} is a {_kinds(allowed)}.")
        return [(path, kind, None)]
    splits = _saved_splits(path)
    files = sorted(
        p
        for p in path.rglob("*")
        if p.is_file()
        and KINDS.get(p.suffix.lower()) in allowed
        and not p.name.startswith(".")
        and p.name not in _ABOUT_JSON
    )
    if not files:
        suffixes = [suffix for suffix, kind in KINDS.items() if kind in allowed]
        wanted = suffixes[0] if len(allowed) <= 2 else " or ".join(suffixes)
        raise InputError(f"The folder {path} holds no {wanted} file; name one that does.")
    return [(file, KINDS[file.suffix.lower()], splits.get(file.parent)) for file in files]


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


def _opened(path: Path, kind: Kind) -> Columns:
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); fetch it again.")
    try:
        return FORMATS[kind].columns(path)
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise InputError(_unreadable(path, kind)) from problem


def _unreadable(path: Path, kind: Kind) -> str:
    name = "a Parquet file" if kind == "parquet" else f"a file of {FORMATS[kind].name}"
    with path.open("rb") as stream:
        begun = kind != "parquet" or stream.read(4) == b"PAR1"
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
