"""Each kind of table: its columns, the rows of its units, and its rows, a few at a time.

A unit is what `--shard` deals out: a Parquet file's row group, an Arrow or CSV file's batch, a JSON
file's record.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from toolkit.places import is_local, readable

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
