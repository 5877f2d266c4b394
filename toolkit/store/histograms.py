"""How a column of numbers is spread over the queue, and over a view of it."""

from toolkit.store.columns import Column, chosen, relation
from toolkit.store.desk import Bins
from toolkit.store.query import Connection, quoted
from toolkit.store.view import View


def spread(con: Connection, columns: dict[str, Column], column: str, number: int = 32) -> Bins:
    """The column of every pair of the queue in `number` equal bins, the last one closed.

    From the smallest value, or 0 where that is more, to the largest. All bins are empty where no
    value is known.
    """
    name = quoted(column)
    source = relation(con, [columns[column]])
    sql = f"SELECT min({name}), max({name}), count(*) - count({name}) FROM ({source})"
    least, most, unknown = con.execute(sql).fetchall()[0]
    if least is None:
        return Bins(0.0, 1.0, (0,) * number, int(unknown))
    low = min(0.0, float(least))
    empty = Bins(low, max(float(most), low) or 1.0, (0,) * number, int(unknown))
    return _counted(con, source, [], column, empty)


def spread_of(
    con: Connection, columns: dict[str, Column], view: View, column: str, bins: Bins
) -> Bins:
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
