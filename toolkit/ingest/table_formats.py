"""How each kind of table file is read: Parquet, Arrow, CSV and TSV, JSON, Excel.

The records of a JSON file are a list of objects, or one object a line. A record that cannot be used
(nested too deep, half a character, a line that is no JSON) comes as `Unreadable` in its place.
"""

import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import InputError
from toolkit.files.remote import readable
from toolkit.files.text import open_text
from toolkit.image_files import mistaken
from toolkit.ingest.column_types import (
    Columns,
    Numbered,
    Unreadable,
    Wanted,
    class_of,
    kind_of,
    refuse_doubled,
)
from toolkit.ingest.csv_table import csv_batches, csv_columns
from toolkit.store.images import group_bytes, open_arrow

Kind = Literal["parquet", "arrow", "json", "csv", "xlsx"]
Entries: TypeAlias = "Iterator[dict[str, Any] | Unreadable]"


class Format(NamedTuple):
    """How one kind of file is read."""

    name: str
    suffixes: tuple[str, ...]
    columns: Callable[[Path, str | None], Columns]
    batches: Callable[[Wanted], Numbered] | None = None
    entries: Callable[[Path, str | None], Entries] | None = None
    """Its records as Python values, where the file is no stream of batches."""


def _parquet_columns(path: Path, _: str | None) -> Columns:
    about = pq.read_metadata(readable(path))
    units = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
    return Columns(pq.read_schema(readable(path)), units)


def _parquet_batches(wanted: Wanted) -> Numbered:
    first, names = 0, wanted.schema.names
    with pq.ParquetFile(readable(wanted.path), pre_buffer=False, buffer_size=1 << 20) as opened:
        for group in range(opened.num_row_groups):  # damage in one group spares the others
            start, rows = first, opened.metadata.row_group(group).num_rows
            first += rows
            if not wanted.deals(group):
                continue
            fits = rows * BATCH_BYTES // max(1, group_bytes(opened, group, names))
            read = opened.iter_batches(
                *(max(1, min(wanted.size, fits)), [group], names), use_threads=False
            )
            for batch in read:
                yield start, batch
                start += batch.num_rows


BATCH_BYTES = 64 << 20
"""Bytes that are read together, at most: about, by the mean of a row group."""


def _arrow_columns(path: Path, _: str | None) -> Columns:
    with open_arrow(path) as file:
        return Columns(file.schema, [batch.num_rows for batch in file.batches])


def _arrow_batches(wanted: Wanted) -> Numbered:
    first = 0
    with open_arrow(wanted.path) as file:
        for unit, batch in enumerate(file.batches):
            for start in range(0, batch.num_rows if wanted.deals(unit) else 0, wanted.size):
                rows = batch.slice(start, wanted.size)
                yield first + start, rows.select(wanted.schema.names)
            first += batch.num_rows


def _records_columns(entries: Entries) -> Columns:
    counts: dict[str, Counter[str]] = {}
    rows = 0
    for record in entries:
        rows += 1
        for name, value in () if isinstance(record, Unreadable) else record.items():
            seen = counts.setdefault(name, Counter())
            if value is not None and value == value:
                seen[class_of(value)] += 1
    kinds = [(name, kind_of(seen, empty=pa.null())) for name, seen in counts.items()]
    return Columns(pa.schema(kinds), [1] * rows)


def _excel_entries(path: Path, _: str | None) -> Entries:
    """The rows of a workbook's first sheet, below the names of the columns."""
    try:
        from openpyxl import load_workbook
    except ImportError as problem:
        raise InputError(
            f"{path} is an Excel workbook, which needs the package openpyxl; type `pip install "
            "'outvoted[excel]'`, or save the sheet as CSV."
        ) from problem
    with path.open("rb") as stream:
        book = load_workbook(stream, read_only=True, data_only=True)
        rows = book.worksheets[0].iter_rows(values_only=True)
        names = [str(name) if name is not None else "" for name in next(rows, ())]
        kept = [place for place, name in enumerate(names) if name]
        refuse_doubled(path, [names[place] for place in kept])
        for row in rows:
            if any(cell is not None for cell in row):
                yield {names[place]: row[place] for place in kept if place < len(row)}


def _from_entries(name: str, suffixes: tuple[str, ...], entries: Any) -> Format:
    def columns(path: Path, encoding: str | None) -> Columns:
        return _records_columns(entries(path, encoding))

    return Format(name, suffixes, columns, entries=entries)


def _json(path: Path, encoding: str | None = None) -> Entries:
    with open_text(path, encoding) as stream:
        yield from json_entries(stream)


MAX_DEPTH = 100
"""Levels of lists and objects inside one another; Python's reader itself ends near 1,000."""

_CHUNK = 1 << 20
_BETWEEN = re.compile(r"[\s,]*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape that may be half of a surrogate pair."""


def json_entries(stream: IO[str]) -> Iterator[dict[str, Any] | Unreadable]:
    """The objects in order. ValueError where a list is cut short or no JSON."""
    text = stream.read(_CHUNK).lstrip("\ufeff \t\r\n")
    begun = text.split("\n", 5)[:-1]
    if not text.startswith("[") and any(isinstance(_Decoder().read(line), dict) for line in begun):
        yield from _lines(text, stream)
    else:
        yield from _listed(text, stream)


def _lines(text: str, stream: IO[str]) -> Iterator[dict[str, Any] | Unreadable]:
    """One object a line."""
    decoder = _Decoder()
    while text:
        *lines, rest = text.split("\n")
        for line in lines:
            if line.strip():
                yield decoder.read(line)
        more = stream.read(_CHUNK)
        text = rest + more
        if not more:
            if rest.strip():
                yield decoder.read(rest)
            return


class _Decoder:
    """Reads one object at a time, and says what is wrong with it."""

    def __init__(self) -> None:
        self._doubled: str | None = None
        self._json = json.JSONDecoder(object_pairs_hook=self._object)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            names = [name for name, _ in pairs]
            self._doubled = next(name for name in names if names.count(name) > 1)
        return record

    def raw(self, text: str, start: int) -> tuple[Any, int]:
        """The value at a place and where it ends. ValueError and RecursionError as `json`."""
        self._doubled = None
        value, end = self._json.raw_decode(text, start)
        return self._checked(value, text[start:end]), end

    def read(self, line: str) -> dict[str, Any] | Unreadable:
        """The object of one line."""
        try:
            value, end = self.raw(line := line.strip(" \t\r,"), 0)
        except RecursionError:
            return _TOO_DEEP
        except ValueError as problem:
            return Unreadable(f"the line is no JSON ({problem})")
        if line[end:].strip():
            return Unreadable(f"the line is no JSON (more follows at character {end + 1})")
        return value

    def _checked(self, value: Any, text: str) -> dict[str, Any] | Unreadable:
        if not isinstance(value, dict):
            return Unreadable(f"the entry is no object (it is {text[:40]})")
        if self._doubled is not None:
            return Unreadable(f"the entry names {self._doubled} more than once")
        if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
            return _TOO_DEEP
        if _HALF.search(text):
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                return Unreadable("the entry has half a character (a lone surrogate)")
        return value


_TOO_DEEP = Unreadable(f"the entry is nested more than {MAX_DEPTH} levels deep")


def _depth(text: str) -> int:
    depth = deepest = 0
    for token in _TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        deepest = max(depth, deepest)
    return deepest


def _end(text: str, start: int) -> int | None:
    """Where the object or list at `start` ends; None where the text ends before."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if not depth:
            return token.end()
    return None


def _listed(text: str, stream: IO[str]) -> Iterator[dict[str, Any] | Unreadable]:
    """The objects of a list, or objects one after another."""
    decoder = _Decoder()
    listed = text.startswith("[")
    start, row = int(listed), 0
    while True:
        start = _BETWEEN.match(text, start).end()  # type: ignore[union-attr]
        if listed and text.startswith("]", start):
            return
        record: dict[str, Any] | Unreadable | None = None
        try:
            record, start = decoder.raw(text, start)
        except json.JSONDecodeError as problem:
            cut = problem.pos >= len(text) - 12 or "Unterminated" in problem.msg
            if not cut:
                raise ValueError(f"row {row:,} is no JSON ({problem})") from problem
        except (RecursionError, ValueError) as problem:
            if (end := _end(text, start)) is not None:
                start = end
                deep = isinstance(problem, RecursionError)
                record = _TOO_DEEP if deep else Unreadable(f"the entry is no JSON ({problem})")
        if record is not None:
            row += 1
            yield record
        elif more := stream.read(_CHUNK):
            text, start = text[start:] + more, 0
        else:
            break
    if listed or text[start:].strip():
        raise ValueError("the list does not end")


FORMATS: dict[Kind, Format] = {
    "parquet": Format("Parquet", (".parquet",), _parquet_columns, _parquet_batches),
    "arrow": Format("Arrow", (".arrow", ".ipc", ".feather"), _arrow_columns, _arrow_batches),
    "json": _from_entries("JSON", (".json", ".jsonl", ".ndjson"), _json),
    "csv": Format("CSV", (".csv", ".tsv"), csv_columns, csv_batches),
    "xlsx": _from_entries("Excel", (".xlsx",), _excel_entries),
}
_KINDS = {suffix: kind for kind, form in FORMATS.items() for suffix in form.suffixes}
UNREADABLE = (pa.ArrowException, OSError, EOFError, ValueError, zipfile.BadZipFile)
"""What the readers above raise on a damaged file."""


def kind_by_name(path: Path) -> Kind | None:
    """The kind that a file's suffixes name: table.csv and table.csv.gz are CSV."""
    name = re.sub(r"\.gz$", "", path.name.lower())
    kind = _KINDS.get(Path(name).suffix)
    return kind if name == path.name.lower() or kind in ("json", "csv") else None


def table_files(
    path: Path, allowed: Sequence[Kind], what: str
) -> list[tuple[Path, Kind, str | None]]:
    """The file, or those of a folder that are of an allowed kind, each with its split."""
    if not path.exists():
        raise InputError(
            f"{path} does not exist; name a {kinds_text(allowed)} or a folder of them."
        )
    if path.is_file():
        kind = kind_by_name(path) or "parquet"
        if kind not in allowed:
            name = FORMATS[kind].name
            raise InputError(f"{path} is a {name} file; {what} is a {kinds_text(allowed)}.")
        return [(path, kind, split_by_name(path, path.parent.parent))]
    splits = _saved_splits(path)
    files = [
        (file, named)
        for file in sorted(path.rglob("*"))
        if (named := kind_by_name(file)) is not None
        and named in allowed
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


def kinds_text(allowed: Sequence[Kind]) -> str:
    """The allowed kinds as words."""
    if "json" not in allowed:  # Arrow comes as a folder, and is seldom named
        return "Parquet file"
    names = [FORMATS[kind].name for kind in allowed]
    return ", ".join(names[:-1]) + f" or {names[-1]} file"


def first_look(path: Path, kind: Kind, encoding: str | None) -> Columns:
    """A file's columns and units. InputError (one sentence) where it cannot be read."""
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
