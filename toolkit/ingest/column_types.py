"""Types of a table's columns, and the rows that do not fit them.

Files with types (Parquet, Arrow) are read as they are, plainly: see `kept_type`. Text, JSON and
Excel have none, so a first pass over the whole file decides them: a column is one of numbers only
where nothing is lost by it (007 and numbers of 20 digits are text), and one odd cell among a
hundred does not change it. A row with an odd cell is `Unreadable`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from toolkit.errors import InputError


@dataclass(frozen=True)
class Unreadable:
    """Comes in the place of a row that cannot be read."""

    reason: str


class Columns(NamedTuple):
    """What the first look at a file gives."""

    schema: pa.Schema
    """Its columns; of type null where values have no single type."""
    units: Sequence[int]
    """Rows in each unit: a row group, a batch, or one record."""


class Wanted(NamedTuple):
    """What is read of a file."""

    path: Path
    schema: pa.Schema
    """The columns, with the types of the first look."""
    size: int
    """Rows that are read together, at most."""
    deals: Callable[[int], bool]
    """Whether a unit is read."""
    encoding: str | None = None


Numbered: TypeAlias = "Iterator[tuple[int, pa.RecordBatch | Unreadable]]"
"""(number of the first row, rows), in order."""

ODD = 0.01
"""The share of cells that may be of another type than their column."""


def kind_of(seen: Counter[str], empty: pa.DataType) -> pa.DataType:
    """The type of a column from what its cells can be; null where they have none in common."""
    enough = seen.total() * (1 - ODD)
    if not seen.total():
        return empty
    if seen["nested"] > seen["text"]:
        return pa.null()
    if not seen["identifier"]:
        if seen["bool"] >= enough:
            return pa.bool_()
        if seen["integer"] + seen["float"] >= enough:
            return pa.float64() if seen["float"] else pa.int64()
    return pa.string()


def class_of(value: Any) -> str:
    """What a value can be in a column: bool, integer, identifier, float, text or nested."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "integer" if -(2**63) <= value < 2**63 else "identifier"
    return {float: "float", str: "text"}.get(type(value), "nested")


_NAMES = {
    pa.int64(): "whole number",
    pa.float64(): "number",
    pa.bool_(): "true or false",
    pa.string(): "text",
}


def odd_cell(field: pa.Field, value: Any) -> Unreadable:
    """What is wrong with a row that has a cell of another type than its column."""
    text = repr(value)
    shown = text if len(text) < 60 else text[:57] + "..."
    return Unreadable(f"the column {field.name} has no {_NAMES[field.type]} here (it is {shown})")


def as_typed(value: Any, field: pa.Field) -> Any:
    """A record's value in the type of its column, or `Unreadable`."""
    kind = field.type
    if value is None or value != value or pa.types.is_null(kind):
        return value
    given = class_of(value)
    if pa.types.is_string(kind):
        return odd_cell(field, value) if given == "nested" else str(value)
    if pa.types.is_boolean(kind):
        return value if given == "bool" else odd_cell(field, value)
    allowed = ("integer",) if pa.types.is_integer(kind) else ("integer", "float")
    return value if given in allowed else odd_cell(field, value)


def kept_type(kind: pa.DataType) -> pa.DataType:
    """The type that a column is read in: text and bytes as such, and times to the microsecond,
    since Python's own clock goes no finer."""
    test = pa.types
    if test.is_dictionary(kind):
        kind = kind.value_type
    if test.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if test.is_string_view(kind) or test.is_large_string(kind):
        return pa.string()
    bytes_ = (test.is_binary_view, test.is_large_binary, test.is_fixed_size_binary)
    lists = (test.is_list, test.is_large_list, test.is_fixed_size_list)
    if any(is_kind(kind) for is_kind in bytes_) or (
        any(is_kind(kind) for is_kind in lists) and test.is_uint8(kind.value_type)
    ):
        return pa.binary()
    return kind


def plain(column: pa.Array) -> pa.Array:
    """A column in its `kept_type`. ArrowInvalid where a value is no text or no time of Python's."""
    kind = kept_type(column.type)
    if pa.types.is_binary(kind) and pa.types.is_nested(column.type):
        cells = [c.values.to_numpy().tobytes() if c.is_valid else None for c in column]
        return pa.array(cells, pa.binary())
    if kind != column.type:
        column = pc.cast(column, options=pc.CastOptions(kind, allow_time_truncate=True))
    if pa.types.is_timestamp(kind):
        times = pc.min_max(column.cast(pa.int64()))
        if times["min"].is_valid and not (
            _FIRST <= times["min"].as_py() <= times["max"].as_py() < _LAST
        ):
            raise pa.ArrowInvalid("a time is outside the years 2 to 9998")
    elif pa.types.is_string(kind):
        column.validate(full=True)
    return column


_FIRST, _LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 10**6 for year in (2, 9999))
"""Microseconds since 1970; a year's distance from Python's own limits, for the time zones."""


def whole_rows(first: int, rows: pa.RecordBatch) -> Numbered:
    """The rows with plain columns, in order; one with a value that cannot be read is odd."""
    try:
        columns = [plain(column) for column in rows.columns]
    except pa.ArrowInvalid:
        if rows.num_rows == 1:
            yield first, Unreadable(_bad_value(rows))
            return
        half = rows.num_rows // 2
        yield from whole_rows(first, rows.slice(0, half))
        yield from whole_rows(first + half, rows.slice(half))
    else:
        yield first, pa.RecordBatch.from_arrays(columns, rows.schema.names)


def _bad_value(rows: pa.RecordBatch) -> str:
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        try:
            plain(column)
        except pa.ArrowInvalid as problem:
            return f"the column {name} cannot be read ({problem})"
    return "the row cannot be read"


def around(first: int, rows: pa.RecordBatch, odd: dict[int, Unreadable]) -> Numbered:
    """The rows in order, those that are odd by themselves."""
    start = 0
    for row in sorted(odd):
        if row > start:
            yield first + start, rows.slice(start, row - start)
        yield first + row, odd[row]
        start = row + 1
    if start < rows.num_rows:
        yield first + start, rows.slice(start)


def refuse_doubled(path: Path, names: Iterable[str]) -> None:
    """InputError where two columns of a file have one name."""
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise InputError(
            f"{path} has more than one column named {', '.join(doubled)}; give each column a name "
            "of its own."
        )
