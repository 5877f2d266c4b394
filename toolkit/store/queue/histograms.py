"""How a column of numbers is spread over the queue, and over a view of it.

Two columns of numbers against each other: bins computed in SQL, single pairs where they are few.

Over the tables that `toolkit.store.queue.tables.make_queue` fills; a view says which pairs,
whatever their verdict, as in `toolkit.store.queue.views.chosen`.
"""

from dataclasses import dataclass

import pyarrow as pa

from toolkit.errors import InputError
from toolkit.store.connection import Connection, fetch, quoted
from toolkit.store.queue.tables import QueueColumns
from toolkit.store.queue.views import View, chosen


@dataclass(frozen=True)
class Bins:
    """A histogram: equal bins from `lowest` to `highest`, the last one closed."""

    lowest: float
    highest: float
    counts: tuple[int, ...]
    unknown: int
    """Pairs without a value, such as a u of fewer visits than the metric needs."""

    def edge(self, number: int) -> float:
        """Lower edge of bin `number`; `highest` for the number behind the last bin."""
        if number >= len(self.counts):
            return self.highest
        return self.lowest + (self.highest - self.lowest) * number / len(self.counts)


def spread(con: Connection, columns: QueueColumns, column: str, number: int = 32) -> Bins:
    """The column of every pair of the queue in `number` equal bins, the last one closed.

    From the smallest value, or 0 where that is more, to the largest. All bins are empty where no
    value is known.
    """
    name = quoted(column)
    source = columns.relation(con, [column])
    sql = f"SELECT min({name}), max({name}), count(*) - count({name}) FROM ({source})"
    least, most, unknown = con.execute(sql).fetchall()[0]
    if least is None:
        return Bins(0.0, 1.0, (0,) * number, int(unknown))
    low = min(0.0, float(least))
    empty = Bins(low, max(float(most), low) or 1.0, (0,) * number, int(unknown))
    return _counted(con, source, [], column, empty)


def spread_of(con: Connection, columns: QueueColumns, view: View, column: str, bins: Bins) -> Bins:
    """The same bins, counting the view's pairs only (whatever their verdict).

    The view's own bounds on the column do not count: the bars beside them stay to be seen.
    """
    free = view.with_range(column, None, None)
    sql, values = chosen(con, columns, free, column)
    return _counted(con, sql, values, column, bins)


def _counted(con: Connection, sql: str, values: list[object], column: str, bins: Bins) -> Bins:
    name, number = quoted(column), len(bins.counts)
    rows = con.execute(
        f"SELECT greatest(0, least(floor(({name} - ?) / ? * {number})::INTEGER, {number - 1}))"
        f" AS bin, count(*) FROM ({sql}) WHERE {name} IS NOT NULL GROUP BY bin",
        [bins.lowest, (bins.highest - bins.lowest) or 1.0, *values],
    ).fetchall()
    counts = [0] * number
    for place, pairs in rows:
        counts[place] = int(pairs)
    return Bins(bins.lowest, bins.highest, tuple(counts), bins.unknown)


DOTS = 4_000
"""Pairs that are drawn one by one at most; more are drawn as bins."""


@dataclass(frozen=True)
class Cell:
    """A bin of the map that holds pairs."""

    x: int
    y: int
    """Numbers of its bins."""
    pairs: int
    changed: int
    """Of these, pairs whose label is not the source's."""
    judged: int
    """Of these, pairs with a verdict."""


@dataclass(frozen=True)
class Map:
    """The pairs of a view by two columns."""

    x: Bins
    y: Bins
    cells: tuple[Cell, ...]
    """By x, then y; bins without a pair are left out."""
    known: int
    """Pairs with both values."""
    missing: int
    """Pairs of the view without one of them."""
    dots: pa.Table | None
    """pair_id, x, y, changed, verdict of every pair; None where they are more than DOTS."""


def numbers_of(columns: QueueColumns) -> list[str]:
    """The columns that an axis can be, scores before identities such as label."""
    numbers = [name for name, column in columns.items() if column.kind == "number"]
    plain = [n for n in numbers if not n.startswith("src_")]
    return sorted(plain, key=lambda name: (name in ("label", "original_label"), "." in name))


def draw_map(
    con: Connection, columns: QueueColumns, view: View, x: str, y: str, *, bins: int = 48
) -> Map | None:
    """The map of a view; None where no pair has both values.

    InputError where x or y is no column of numbers, or they are the same.
    """
    for name in (x, y):
        if name not in columns or columns[name].kind != "number":
            raise InputError(f"There is no column of numbers {name!r} here; choose another axis.")
    if x == y:
        raise InputError("A map needs two different columns; choose another for one axis.")
    sql, values = chosen(con, columns, view, x, y)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE mapped AS SELECT nth, {quoted(x)}::DOUBLE AS x,"
        f" {quoted(y)}::DOUBLE AS y FROM ({sql})",
        values,
    )
    return _binned(con, bins)


def _binned(con: Connection, bins: int) -> Map | None:
    con.execute(
        "CREATE OR REPLACE TEMP TABLE placed AS SELECT f.pair_id, m.x, m.y,"
        " f.is_flipped AS changed, j.verdict FROM mapped m"
        " JOIN facts f USING (nth) LEFT JOIN verdicts j USING (nth)"
        " WHERE isfinite(m.x) AND isfinite(m.y)"
    )
    total = con.execute("SELECT count(*) FROM mapped").fetchall()[0][0]
    ends = con.execute("SELECT count(*), min(x), max(x), min(y), max(y) FROM placed").fetchall()[0]
    known, x_low, x_high, y_low, y_high = ends
    if not known:
        return None
    x_high, y_high = _apart(x_low, x_high), _apart(y_low, y_high)
    rows = con.execute(
        f"SELECT {_bin('x', x_low, x_high, bins)} AS across, {_bin('y', y_low, y_high, bins)}"
        " AS up, count(*), count(*) FILTER (changed), count(verdict) FROM placed"
        " GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    cells = tuple(Cell(*map(int, row)) for row in rows)
    dots = fetch(con, "SELECT * FROM placed ORDER BY pair_id") if known <= DOTS else None
    return Map(
        x=_side(cells, "x", x_low, x_high, bins),
        y=_side(cells, "y", y_low, y_high, bins),
        cells=cells,
        known=int(known),
        missing=int(total - known),
        dots=dots,
    )


def _apart(low: float, high: float) -> float:
    return high if high > low else low + 1.0


def _bin(name: str, low: float, high: float, bins: int) -> str:
    at = f"floor(({name} - {low!r}::DOUBLE) / {high - low!r}::DOUBLE * {bins})"
    return f"greatest(0, least({at}, {bins - 1}))::INTEGER"


def _side(cells: tuple[Cell, ...], name: str, low: float, high: float, bins: int) -> Bins:
    counts = [0] * bins
    for cell in cells:
        counts[cell.x if name == "x" else cell.y] += cell.pairs
    return Bins(low, high, tuple(counts), 0)


def boxed(
    view: View,
    sides: dict[str, tuple[float | None, float | None]],
    drawn: dict[str, Bins],
) -> View:
    """The view narrowed to a box: column -> its ends, of which those past the data are none.

    A range leaves its upper end out, so an end at the largest value is none either.
    """
    for name, (low, high) in sides.items():
        bins = drawn[name]
        lowest = low if low is not None and low > bins.lowest else None
        highest = high if high is not None and high < bins.highest else None
        view = view.with_range(name, lowest, highest)
    return view
