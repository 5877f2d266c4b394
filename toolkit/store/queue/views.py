"""Views of the queue: which pairs in which order, as a link and as numbers in SQL.

A `View` changes nothing and lives in a link: `view_to_query` and `view_from_query` are each other's
inverse. Its pairs are numbered once (position 1, 2, ...), so that a page, a place or a neighbour is
found by key, without an OFFSET and without more than a page of rows in memory. Verdicts change
under a view; they are read from the table `verdicts` each time.

Over the tables that `toolkit.store.queue.tables.make_queue` fills.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args
from urllib.parse import quote, unquote

from toolkit.conditions import is_utf8, names
from toolkit.errors import InputError
from toolkit.ids import short_hash
from toolkit.store.connection import Connection, fetch, first_value, literal, quoted
from toolkit.store.pair_table import MINORITY
from toolkit.store.queue.tables import QueueColumns

SCORERS_AGAINST = "agreement.against_share"
_ALWAYS = (MINORITY, "confidence", "stability")
"""Columns of every pool: those whose histograms are beside the view."""

State = Literal["any", "open", "judged", "differ", "keep", "flip", "tie", "drop", "unsure"]
STATES: tuple[State, ...] = get_args(State)
"""any; without a verdict; with one; curators differ; or the verdict."""

_KEYS = ("run", "where", "text", "model", "annotator")


@dataclass(frozen=True)
class Range:
    """A column's values from `lowest` on and below `highest`; None is no bound."""

    column: str
    lowest: float | None = None
    highest: float | None = None


@dataclass(frozen=True)
class View:
    """Which pairs, in which order. Hashable; the default is every pair, highest u first."""

    run: str = ""
    """The run whose findings are meant; empty: the newest that has them."""
    where: str = ""
    """A condition in the language of `toolkit.conditions`."""
    text: str = ""
    """Words that the prompt contains."""
    model: str = ""
    """A model that made one of the two images."""
    annotator: str = ""
    """Somebody who voted on the pair."""
    ranges: tuple[Range, ...] = ()
    """At most one a column, by column."""
    state: State = "any"
    order: str = MINORITY
    """A column of numbers: one of the finding `minority`, or FINDING.COLUMN."""
    descending: bool = True

    @property
    def table(self) -> str:
        """Name of the table that numbers the view's pairs, whatever their verdict."""
        return "view_" + short_hash(repr(replace(self, state="any")))

    def range_of(self, column: str) -> Range:
        """The bounds on a column; without bounds where there are none."""
        return next((bounds for bounds in self.ranges if bounds.column == column), Range(column))

    def with_range(self, column: str, lowest: float | None, highest: float | None) -> "View":
        """The view with these bounds on a column instead of its own."""
        others = [bounds for bounds in self.ranges if bounds.column != column]
        if lowest is not None or highest is not None:
            others.append(Range(column, lowest, highest))
        return replace(self, ranges=tuple(sorted(others, key=lambda bounds: bounds.column)))


def view_to_query(view: View) -> dict[str, str]:
    """The view as a link's parameters; what is as in the default view is left out."""
    query = {key: getattr(view, key) for key in _KEYS if getattr(view, key)}
    if view.ranges:
        query["range"] = ";".join(map(_range_text, view.ranges))
    if view.state != "any":
        query["state"] = view.state
    if view.order != MINORITY:
        query["order"] = view.order
    if not view.descending:
        query["way"] = "up"
    return query


def view_from_query(query: Mapping[str, str]) -> View:
    """The view that a link's parameters state; parameters of other names are passed over.

    InputError (one sentence) where a parameter is no such thing.
    """
    for key, text in query.items():
        if not is_utf8(text):
            raise InputError(f"The link's {key}={ascii(text)[:60]} is no text; leave it out.")
    state = query.get("state", "any")
    if state not in STATES:
        raise InputError(f"The link asks for state={state}; write one of {', '.join(STATES)}.")
    way = query.get("way", "down")
    if way not in ("up", "down"):
        raise InputError(f"The link asks for way={way}; write up (smallest first) or down.")
    return View(
        **{key: query.get(key, "") for key in _KEYS},
        ranges=_ranges(query.get("range", "")),
        state=state,  # type: ignore[arg-type]
        order=query.get("order") or MINORITY,
        descending=way == "down",
    )


def _range_text(bounds: Range) -> str:
    low, high = ("" if end is None else repr(end) for end in (bounds.lowest, bounds.highest))
    return f"{quote(bounds.column, safe='')}:{low}:{high}"


def _ranges(text: str) -> tuple[Range, ...]:
    ranges: dict[str, Range] = {}
    for part in filter(None, text.split(";")):
        pieces = part.split(":")
        try:
            column, low, high = pieces
            bounds = Range(unquote(column), _bound(low), _bound(high))
        except ValueError as problem:
            raise InputError(
                f"The link's range={part} is no range; write COLUMN:FROM:TO with numbers, either "
                "of which may be left out, such as minority:0.5:."
            ) from problem
        if bounds.lowest is not None or bounds.highest is not None:
            ranges[bounds.column] = bounds
    return tuple(sorted(ranges.values(), key=lambda bounds: bounds.column))


def _bound(text: str) -> float | None:
    if not text:
        return None
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


MOVING = ("verdict", "curators", "differ")
"""Columns that change while curators work."""


def check_view(columns: QueueColumns, view: View) -> None:
    """InputError (one sentence) where a view names what is not there, or no condition."""
    for name in dict.fromkeys((view.order, *(bounds.column for bounds in view.ranges))):
        if name not in columns or columns[name].kind != "number":
            numbers = [c.name for c in columns.values() if c.kind == "number"]
            raise InputError(
                f"There is no column of numbers {name!r} here (columns: {', '.join(numbers[:40])});"
                " name one of them."
            )
    if view.state not in STATES:
        raise InputError(f"{view.state!r} is no state; name one of {', '.join(STATES)}.")
    if view.where.strip():
        columns.condition(view.where, "The condition")


def moves(view: View) -> bool:
    """Whether the view's numbers change with every verdict: its condition names one."""
    named = names(view.where, "The condition") if view.where.strip() else []
    return any(name in MOVING for name in [*named, view.order, *(r.column for r in view.ranges)])


def make_view(con: Connection, columns: QueueColumns, view: View, *, refresh: bool = False) -> None:
    """Number the view's pairs, unless that was done before; with `refresh` again.

    Other cursors see the old numbers or the new ones, never none. InputError as of `check_view`.
    """
    check_view(columns, view)
    source = pool(con, columns, view, refresh=refresh)
    made = made_as(refresh=refresh)
    bounds, values = within(view)
    order = f"{quoted(view.order)} {'DESC' if view.descending else 'ASC'} NULLS LAST, nth"
    if view.descending and view.order == MINORITY:
        order = "nth"  # which is what it numbers
    numbered = (
        f"SELECT row_number() OVER () AS position, nth FROM (SELECT nth FROM {quoted(source)}"
    )
    con.execute(
        f"{made} {quoted(view.table)} AS {numbered} WHERE {bounds} ORDER BY {order})", values
    )


def made_as(*, refresh: bool) -> str:
    """The start of CREATE: replace a table, or make it only where there is none."""
    return "CREATE OR REPLACE TABLE" if refresh else "CREATE TABLE IF NOT EXISTS"


def pool(con: Connection, columns: QueueColumns, view: View, *, refresh: bool = False) -> str:
    """A table of the pairs that pass the view's conditions, whatever its ranges and verdicts.

    With nth, the scores, the order and the columns of the ranges; made once, so that a dragged
    range searches no text again; with `refresh` it is.
    """
    name = pool_of(columns, view)
    if name != "queue":
        sql, values = _passing(con, columns, view, _kept(columns, view))
        con.execute(f"{made_as(refresh=refresh)} {quoted(name)} AS {sql}", values)
    return name


def pool_of(columns: QueueColumns, view: View) -> str:
    """The name of the view's pool; the queue itself where that says it all."""
    kept = _kept(columns, view)
    asked = (view.where.strip(), view.text, view.model, view.annotator)
    own = (columns[name].source == "queue" and columns[name].field.name == name for name in kept)
    if not any(asked) and all(own):
        return "queue"
    return "pool_" + short_hash(repr((asked, sorted(kept))))


def _kept(columns: QueueColumns, view: View) -> list[str]:
    ranged = (bounds.column for bounds in view.ranges)
    scorers = [SCORERS_AGAINST] if SCORERS_AGAINST in columns else []
    return list(dict.fromkeys([*_ALWAYS, *scorers, view.order, *ranged]))


def within(view: View) -> tuple[str, list[Any]]:
    """The view's ranges as a WHERE clause and its parameters."""
    conditions: list[str] = ["true"]
    values: list[Any] = []
    for bounds in view.ranges:
        for sign, bound in ((">=", bounds.lowest), ("<", bounds.highest)):
            if bound is not None:
                conditions.append(f"{quoted(bounds.column)} {sign} ?")
                values.append(bound)
    return " AND ".join(conditions), values


def chosen(con: Connection, columns: QueueColumns, view: View, *more: str) -> tuple[str, list[Any]]:
    """A SELECT of the view's pairs, whatever their verdict: nth, its order, and `more`."""
    if set(more) <= set(_kept(columns, view)):
        bounds, values = within(view)
        return f"SELECT * FROM {quoted(pool(con, columns, view))} WHERE {bounds}", values
    sql, values = _passing(con, columns, view, [*_kept(columns, view), *more])
    bounds, ends = within(view)
    return f"SELECT * FROM ({sql}) WHERE {bounds}", [*values, *ends]


def _passing(
    con: Connection, columns: QueueColumns, view: View, kept: Sequence[str]
) -> tuple[str, list[Any]]:
    conditions: list[str] = ["true"]
    values: list[Any] = []
    wanted = dict.fromkeys(kept)
    if view.text:
        wanted["prompt"] = None
        conditions.append("contains(lower(prompt), lower(?))")
        values.append(view.text)
    if view.where.strip():
        wanted |= dict.fromkeys(names(view.where, "The condition"))
        sql, given = columns.condition(view.where, "The condition")
        conditions.append(f"({sql})")
        values += given
    if view.model:
        made = [name for name in ("model_0", "model_1") if name in columns]
        wanted |= dict.fromkeys(made)
        conditions.append(f"? IN ({', '.join(map(quoted, made)) or 'NULL'})")
        values.append(view.model)
    if view.annotator:
        voted = "SELECT pair_id FROM kept_votes WHERE annotator = ?"
        conditions.append(f"nth IN (SELECT nth FROM queue WHERE pair_id IN ({voted}))")
        values.append(view.annotator)
    source = columns.relation(con, list(wanted))
    shown = ", ".join(map(quoted, dict.fromkeys(["nth", *kept])))
    return f"SELECT {shown} FROM ({source}) WHERE {' AND '.join(conditions)}", values


def drop_view(con: Connection, view: View) -> None:
    """Forget a view's numbers."""
    con.execute(f"DROP TABLE IF EXISTS {quoted(view.table)}")


def drop_pool(con: Connection, columns: QueueColumns, view: View) -> None:
    """Forget which pairs passed the view's conditions."""
    if (name := pool_of(columns, view)) != "queue":
        con.execute(f"DROP TABLE IF EXISTS {quoted(name)}")


def _narrowed(state: str) -> str:
    """The join that leaves the pairs in a state of verdict."""
    if state == "any":
        return ""
    if state in ("open", "judged"):
        return f" {'ANTI' if state == 'open' else 'SEMI'} JOIN verdicts USING (nth)"
    test = "differ" if state == "differ" else f"verdict = {literal(state)}"
    return f" SEMI JOIN (SELECT nth FROM verdicts WHERE {test}) USING (nth)"


def _numbers(view: View) -> str:
    return quoted(view.table) + _narrowed(view.state)


def count(con: Connection, view: View) -> int:
    """Pairs in the view."""
    return _count(con, f"SELECT count(*) FROM {_numbers(view)}")


def count_all(con: Connection, view: View) -> int:
    """Pairs numbered by the view's table, whatever their verdict."""
    return _count(con, f"SELECT count(*) FROM {quoted(view.table)}")


def count_judged(con: Connection, view: View) -> int:
    """Pairs numbered by the view's table that have a verdict."""
    return _count(con, f"SELECT count(*) FROM {quoted(view.table)} SEMI JOIN verdicts USING (nth)")


def position(con: Connection, view: View, pair_id: str) -> int | None:
    """The pair's number in the view's table, or None where the view leaves it out."""
    nth = first_value(con, "SELECT nth FROM queue WHERE pair_id = ?", pair_id)
    return first_value(con, f"SELECT position FROM {quoted(view.table)} WHERE nth = ?", nth)


def place(con: Connection, view: View, pair_id: str, at: int | None = None) -> int | None:
    """Which pair of the view it is, counted from 1; None where the view leaves it out.

    `at`: its position, where that is known.
    """
    at = position(con, view, pair_id) if at is None else at
    if at is None or view.state == "any":
        return at
    if not _count(con, f"SELECT count(*) FROM {_numbers(view)} WHERE position = {at}"):
        return None
    return 1 + _count(con, f"SELECT count(*) FROM {_numbers(view)} WHERE position < {at}")


def neighbour(con: Connection, view: View, after: int, *, back: bool = False) -> str | None:
    """The nearest pair of the view past (or before) a position; None at the end."""
    sign, way = ("<", "DESC") if back else (">", "ASC")
    sql = (
        f"SELECT nth FROM {_numbers(view)} WHERE position {sign} ? ORDER BY position {way} LIMIT 1"
    )
    return first_value(con, "SELECT pair_id FROM queue WHERE nth = ?", first_value(con, sql, after))


def open_pairs(con: Connection, view: View, after: int, limit: int) -> list[str]:
    """The next pairs without a verdict past a position, in order, even where the view shows judged
    pairs too."""
    among = _numbers(view)
    if view.state != "open":
        among = f"(SELECT * FROM {among}) ANTI JOIN verdicts USING (nth)"
    sql = f"SELECT nth FROM {among} WHERE position > ? ORDER BY position LIMIT ?"
    numbers = [nth for (nth,) in con.execute(sql, [after, limit]).fetchall()]
    sql = "SELECT nth, pair_id FROM queue WHERE nth IN (SELECT unnest(?))"
    names = dict(con.execute(sql, [numbers]).fetchall())
    return [str(names[nth]) for nth in numbers]


def count_among(con: Connection, view: View, pair_ids: Sequence[str]) -> int:
    """How many of these pairs the view has."""
    sql = (
        f"SELECT count(*) FROM {_numbers(view)} SEMI JOIN (SELECT nth FROM queue"
        " WHERE pair_id IN (SELECT unnest(?))) USING (nth)"
    )
    return int(first_value(con, sql, list(pair_ids)) or 0)


def rows_of_page(
    con: Connection, view: View, after: int, size: int, *, back: bool = False
) -> list[tuple[int, str]]:
    """(position, pair_id) of the next `size` pairs past a position (or before it), in order."""
    sign, way = ("<", "DESC") if back else (">", "ASC")
    sql = f"SELECT nth, position FROM {_numbers(view)} WHERE position {sign} ?"
    at = dict(con.execute(f"{sql} ORDER BY position {way} LIMIT ?", [after, size]).fetchall())
    sql = "SELECT nth, pair_id FROM queue WHERE nth IN (SELECT unnest(?))"
    rows = con.execute(sql, [list(at)]).fetchall()
    return sorted((int(at[nth]), str(pair_id)) for nth, pair_id in rows)


def ids(con: Connection, view: View) -> list[str]:
    """Every pair_id of the view, in order; for verdicts on the whole view."""
    sql = f"SELECT q.pair_id FROM (SELECT * FROM {_numbers(view)}) v JOIN queue q USING (nth)"
    return list(fetch(con, f"{sql} ORDER BY v.position")[0].to_pylist())


def _count(con: Connection, sql: str) -> int:
    return int(first_value(con, sql) or 0)
