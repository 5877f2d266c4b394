"""CSV and TSV in any encoding: read as text, then typed by `column_types`."""

import csv as quoting
import io
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from toolkit.files.text import open_text
from toolkit.ingest.column_types import (
    ODD,
    Columns,
    Numbered,
    Unreadable,
    Wanted,
    around,
    kind_of,
    odd_cell,
    refuse_doubled,
)

_NULLS = pa.array(
    ["NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "-nan", "-NaN"]
)
"""Texts that are no value in a column of numbers; in any column an empty cell is none."""
_BOOLS = pa.array(["true", "false", "True", "False", "TRUE", "FALSE"])
_DIGITS, _INTEGER = r"^[+-]?[0-9]+$", r"^(0|-?[1-9][0-9]{0,17})$"
_FLOAT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?(inf|Inf|Infinity|infinity)$"


class _Csv:
    """The rows of a file as text, and the rows that have too few or too many cells."""

    def __init__(self, path: Path, encoding: str | None) -> None:
        self._path, self._encoding = path, encoding
        self._bad: list[tuple[int, str]] = []

    def _skip(self, row: Any) -> str:
        cells = f"it has {row.actual_columns} cells, the header {row.expected_columns}"
        self._bad.append((row.number - 2, f"the row has another number of cells ({cells})"))
        return "skip"

    def batches(self) -> Numbered:
        """(number of the first row, rows as text); nulls are empty cells."""
        with open_text(self._path, self._encoding) as text:
            header = text.readline()
            while _open_quote(header) and (more := text.readline()):
                header += more
            mark = "\t" if ".tsv" in self._path.suffixes else _separator(header)
            names = next(quoting.reader(io.StringIO(header), delimiter=mark), [])
            refuse_doubled(self._path, names)
            stream = csv.open_csv(
                pa.PythonFile(_Utf8(header, text), "r"),
                csv.ReadOptions(use_threads=False),
                csv.ParseOptions(
                    delimiter=mark, newlines_in_values=True, invalid_row_handler=self._skip
                ),
                csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
            with stream:
                yield 0, pa.RecordBatch.from_pylist([], stream.schema)
                number = 0
                for batch in stream:
                    while batch.num_rows:
                        while self._bad and self._bad[0][0] == number:
                            yield number, Unreadable(self._bad.pop(0)[1])
                            number += 1
                        whole = self._bad[0][0] - number if self._bad else batch.num_rows
                        yield number, batch.slice(0, whole)
                        number += min(whole, batch.num_rows)
                        batch = batch.slice(whole)
                for number, reason in self._bad:
                    yield number, Unreadable(reason)


class _Utf8(io.RawIOBase):
    """Text as bytes in UTF-8."""

    def __init__(self, begun: str, text: IO[str]) -> None:
        self._ready, self._text = begun.encode(), text

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; none at the end."""
        while size < 0 or len(self._ready) < size:
            if not (more := self._text.read(1 << 20)):
                break
            self._ready += more.encode("utf-8")
        size = len(self._ready) if size < 0 else size
        taken, self._ready = self._ready[:size], self._ready[size:]
        return taken


def _open_quote(text: str) -> bool:
    return text.count('"') % 2 == 1


def _separator(header: str) -> str:
    """A comma, or the semicolon or tab of a header without any comma."""
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def csv_columns(path: Path, encoding: str | None) -> Columns:
    units = []
    counts: dict[str, Counter[str]] = {}
    for _, batch in _Csv(path, encoding).batches():
        if isinstance(batch, Unreadable):
            units.append(1)
            continue
        units.append(batch.num_rows)
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            _count_cells(counts.setdefault(name, Counter()), column)
    kinds = [(name, kind_of(seen, empty=pa.string())) for name, seen in counts.items()]
    return Columns(pa.schema(kinds), units[1:])


def _count_cells(seen: Counter[str], column: pa.Array) -> None:
    """Count the cells of a column of text by what they can be."""
    if seen["text"] > max(100, ODD * seen.total()):  # it will remain text
        seen["text"] += len(column)
        return
    cells = column.drop_null()
    cells = cells.filter(pc.invert(pc.is_in(cells, _NULLS)))
    if not len(cells):
        return
    with suppress(pa.ArrowInvalid):
        exact = pc.equal(cells.cast(pa.int64()).cast(pa.string()), cells)
        if pc.all(exact).as_py() and pc.max(pc.binary_length(cells)).as_py() <= 18:
            seen["integer"] += len(cells)
            return
    digits = pc.match_substring_regex(cells, _DIGITS)
    exact = pc.match_substring_regex(cells, _INTEGER)
    for kind, mask in (
        ("integer", exact),
        ("identifier", pc.and_not(digits, exact)),
        ("float", pc.and_not(pc.match_substring_regex(cells, _FLOAT), digits)),
        ("bool", pc.is_in(cells, _BOOLS)),
    ):
        count = pc.sum(mask).as_py() or 0
        seen[kind] += count
        seen["text"] -= count
    seen["text"] += len(cells)


_PATTERNS = {pa.int64(): _INTEGER, pa.float64(): _FLOAT, pa.bool_(): "^(?i:true|false)$"}


def _typed(cells: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
    """A column of text in its type, and which cells do not have it."""
    if pa.types.is_string(kind):
        return cells, pa.repeat(False, len(cells))
    cells = pc.if_else(pc.is_in(cells, _NULLS), None, cells)
    fits = pc.fill_null(pc.match_substring_regex(cells, _PATTERNS[kind]), True)
    values = pc.if_else(fits, cells, None)
    return values.cast(kind), pc.invert(fits)


def csv_batches(wanted: Wanted) -> Numbered:
    for unit, (first, batch) in enumerate(_Csv(wanted.path, wanted.encoding).batches()):
        if not wanted.deals(unit - 1):
            continue
        if isinstance(batch, Unreadable):
            yield first, batch
            continue
        for start in range(0, batch.num_rows, wanted.size):
            rows = batch.slice(start, wanted.size)
            columns, odd = [], {}
            for field in wanted.schema:
                values, wrong = _typed(rows[field.name], field.type)
                columns.append(values)
                for place in pc.indices_nonzero(wrong).to_pylist():
                    odd[place] = odd_cell(field, rows[field.name][place].as_py())
            made = pa.RecordBatch.from_arrays(columns, schema=wanted.schema)
            yield from around(first + start, made, odd)
