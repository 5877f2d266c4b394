"""Tables that hold a source's rows: Parquet, Arrow as `datasets.save_to_disk` leaves it, JSON, CSV.

Files are found and their columns read before a store is touched; rows come a few at a time,
whatever a file's size. JSON is a list of records in one file, or a record a line.

Each kind of table: its columns, the rows of its units, and its rows, a few at a time.

A unit is what `--shard` deals out: a Parquet file's row group, an Arrow or CSV file's batch, a JSON
file's record.

Images as tables hold them: bytes, the {bytes, path} of image features, a path or an address.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from toolkit.errors import InputError
from toolkit.files.remote import is_local, place, readable
from toolkit.ingest.records import Reference, SourceImage
from toolkit.ingest.writer import ImageMode
from toolkit.schema import missing_columns
from toolkit.sharding import Shard

Kind = Literal["parquet", "arrow", "json", "csv"]
Deals: TypeAlias = Callable[[int], bool]
"""Whether a unit, by its number, is read at all."""
Numbered: TypeAlias = Iterator[tuple[int, pa.RecordBatch]]
"""(number of the first row, rows)."""

_CHUNK = 1 << 20
_BETWEEN = re.compile(r"[\s,]*")


def json_records(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, or of a file with one a line; ValueError on anything else."""
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8") as stream:
        held = stream.read(_CHUNK).lstrip("\ufeff \t\r\n")
        listed = held.startswith("[")
        place = int(listed)
        while True:
            place = _between(held, place)
            if listed and held.startswith("]", place):
                return
            try:
                found, place = decoder.raw_decode(held, place)
            except ValueError:
                if not (more := stream.read(_CHUNK)):
                    break
                held, place = held[place:] + more, 0
                continue
            if not isinstance(found, dict):
                raise ValueError("an entry is no object")
            yield found
        if listed or held[place:].strip():
            raise ValueError("the list does not end")


def _between(text: str, place: int) -> int:
    """The next place that holds neither space nor comma."""
    found = _BETWEEN.match(text, place)
    return found.end() if found else place


def _mapped(path: Path) -> Any:
    return pa.memory_map(str(path)) if is_local(path) else path.open("rb")


def _open_parquet(path: Path) -> tuple[pa.Schema, list[int]]:
    about = pq.read_metadata(readable(path))
    units = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
    return pq.read_schema(readable(path)), units


def _open_arrow(path: Path) -> tuple[pa.Schema, list[int]]:
    with _mapped(path) as source, pa.ipc.open_stream(source) as stream:
        return stream.schema, [batch.num_rows for batch in stream]


def _open_json(path: Path) -> tuple[pa.Schema, list[int]]:
    """Column names in order of their first appearance; types are Python's own, and stay open."""
    names: dict[str, None] = {}
    rows = 0
    for record in json_records(path):
        rows += 1
        names.update(dict.fromkeys(record))
    return pa.schema([(name, pa.null()) for name in names]), [1] * rows


def _csv(path: Path) -> csv.CSVStreamingReader:
    return csv.open_csv(readable(path), parse_options=csv.ParseOptions(newlines_in_values=True))


def _open_csv(path: Path) -> tuple[pa.Schema, list[int]]:
    with _csv(path) as stream:
        return stream.schema, [batch.num_rows for batch in stream]


def _read_parquet(path: Path, deals: Deals, names: list[str], size: int) -> Numbered:
    first = 0
    with pq.ParquetFile(readable(path), pre_buffer=False) as opened:
        for group in range(opened.num_row_groups):  # damage in one group spares the others
            if deals(group):
                start = first
                for batch in opened.iter_batches(size, row_groups=[group], columns=names):
                    yield start, batch
                    start += batch.num_rows
            first += opened.metadata.row_group(group).num_rows


def _read_arrow(path: Path, deals: Deals, names: list[str], size: int) -> Numbered:
    with _mapped(path) as source, pa.ipc.open_stream(source) as stream:
        yield from _sliced(deals, stream, names, size)


def _read_csv(path: Path, deals: Deals, names: list[str], size: int) -> Numbered:
    with _csv(path) as stream:
        yield from _sliced(deals, stream, names, size)


def _sliced(
    deals: Deals, stream: Iterable[pa.RecordBatch], names: list[str], size: int
) -> Numbered:
    first = 0
    for unit, batch in enumerate(stream):
        for start in range(0, batch.num_rows if deals(unit) else 0, size):
            yield first + start, batch.slice(start, size).select(names)
        first += batch.num_rows


OPENERS = {"parquet": _open_parquet, "arrow": _open_arrow, "json": _open_json, "csv": _open_csv}
"""Columns, and the rows of each unit, by kind."""
READERS = {"parquet": _read_parquet, "arrow": _read_arrow, "csv": _read_csv}
"""Rows in order, by kind: (path, deals, columns, rows together). JSON gives records instead."""


KINDS: dict[str, Kind] = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
}
NAMES: dict[Kind, str] = {
    "parquet": "Parquet",
    "arrow": "Arrow (datasets.save_to_disk)",
    "json": "JSON",
    "csv": "CSV",
}
BATCH = 32
"""Rows read together where they bring images, about a megabyte each."""

_ABOUT_JSON = ("dataset_info.json", "state.json", "dataset_dict.json", "curation.json")


@dataclass(frozen=True)
class Table:
    """One file whose columns were checked; its rows were not read yet."""

    path: Path
    kind: Kind
    schema: pa.Schema
    rows: int
    """Of the shard, where there is one."""
    split: str | None = None
    """Name of the split whose folder of a saved DatasetDict the file lies in."""
    number: int = 0
    """Among the files of the source."""
    shard: Shard | None = None

    def deals(self, unit: int) -> bool:
        """Whether a unit (row group, batch or JSON record) is read at all."""
        return self.shard is None or self.shard.has(self.number + unit)


def find_tables(
    paths: Sequence[str | Path],
    *,
    allowed: Sequence[Kind] = ("parquet", "arrow", "json", "csv"),
    what: str = "a table of pairs",
    shard: Shard | None = None,
) -> tuple[Table, ...]:
    """Every file named, and of folders every file of an allowed kind, in order of their names.

    Under a shard, units are dealt out: a Parquet file's row groups, an Arrow or CSV file's batches,
    a JSON file's records; the first unit of each file to another shard.

    InputError (one sentence) on the first that is absent, empty, damaged or of another kind, and
    where all of them together hold no row.
    """
    files = [found for path in paths for found in _files(place(path), allowed, what)]
    opened = [_opened(path, kind) for path, kind, _ in files]
    if not any(any(units) for _, units in opened):
        raise InputError(f"{files[0][0]} holds no rows; name a {_kinds(allowed)} with pairs in it.")
    tables = []
    for number, ((path, kind, split), (schema, units)) in enumerate(
        zip(files, opened, strict=True)
    ):
        table = Table(path, kind, schema, 0, split, number, shard)
        rows = sum(size for unit, size in enumerate(units) if table.deals(unit))
        tables.append(replace(table, rows=rows))
    return tuple(tables)


def checked_folder(images_dir: str | Path | None) -> Path | None:
    """The folder of the images. InputError where it is none."""
    if images_dir is not None and not Path(images_dir).is_dir():
        raise InputError(f"{images_dir} is no folder; name the images' with --images-dir.")
    return None if images_dir is None else Path(images_dir)


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
    done = 0
    with _damage(table, lambda: done):
        for first, batch in READERS[table.kind](table.path, table.deals, names, size):
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
            raise InputError(f"{path} is a {NAMES[kind]} file; {what} is a {_kinds(allowed)}.")
        return [(path, kind, None)]
    splits = _saved_splits(path)
    found = sorted(
        p
        for p in path.rglob("*")
        if p.is_file()
        and KINDS.get(p.suffix.lower()) in allowed
        and not p.name.startswith(".")
        and p.name not in _ABOUT_JSON
    )
    if not found:
        suffixes = [suffix for suffix, kind in KINDS.items() if kind in allowed]
        wanted = suffixes[0] if len(allowed) <= 2 else " or ".join(suffixes)
        raise InputError(f"The folder {path} holds no {wanted} file; name one that does.")
    return [(file, KINDS[file.suffix.lower()], splits.get(file.parent)) for file in found]


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
    return ", ".join(NAMES[kind] for kind in allowed[:-1]) + f" or {NAMES[allowed[-1]]} file"


def _opened(path: Path, kind: Kind) -> tuple[pa.Schema, list[int]]:
    """Columns, and the rows of each unit."""
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); fetch it again.")
    try:
        return OPENERS[kind](path)
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise InputError(_unreadable(path, kind)) from problem


def _unreadable(path: Path, kind: Kind) -> str:
    name = "a Parquet file" if kind == "parquet" else f"a file of {NAMES[kind]}"
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
    """The image that a cell stands for; `value` is None where bytes were left unread.

    Without a uid what is copied is named by its sha256, a referenced file by its whole path, and a
    referenced cell by its file's name, row and column: nothing of it is read. An address is a
    name only, and nothing is fetched.
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
    """An image file whose path is no name that its source gave it: see `cell_image`."""
    whole = Reference(str(path.resolve()))
    if uid or mode == "reference":
        return SourceImage(uid or whole.file, whole)
    try:
        return SourceImage(None, path.read_bytes())
    except OSError:  # the writer says which file, and why not
        return SourceImage(whole.file, whole)


def path_image(path: str, folder: Path) -> SourceImage:
    """An image that its source names by its path below `folder`, or by an address alone."""
    if path.startswith(ADDRESS):
        return SourceImage(path, None)
    return SourceImage(path, Reference(str((folder / path).resolve())) if path else None)


def holds_bytes(table: Table, column: str) -> bool:
    """Whether the column holds encoded images rather than paths or addresses."""
    if column not in table.schema.names:
        return False
    kind = table.schema.field(column).type
    test = pa.types
    if test.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return bool(test.is_binary(kind) or test.is_large_binary(kind))


def is_image_column(table: Table, column: str) -> bool:
    """Whether the column can hold images in any form; JSON's columns are taken at their word."""
    if table.kind == "json" or holds_bytes(table, column):
        return True
    kind = table.schema.field(column).type
    test = pa.types
    kinds = (test.is_string, test.is_large_string, test.is_struct, test.is_null)
    return any(is_kind(kind) for is_kind in kinds)
