"""A view: which of a run's pairs, in which order; it lives in a link, and changes nothing.

Pure: `view_to_query` and `view_from_query` are each other's inverse. Whether a view's columns are
there is said by `toolkit.store.queue.views`, which knows the store.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args
from urllib.parse import quote, unquote

from toolkit.errors import InputError
from toolkit.pairs import short_hash

State = Literal["any", "open", "judged", "differ", "keep", "flip", "tie", "drop", "unsure"]
STATES: tuple[State, ...] = get_args(State)
"""any; without a verdict; with one; curators differ; or the verdict that stands."""

MINORITY = "minority"
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
        return next((one for one in self.ranges if one.column == column), Range(column))

    def with_range(self, column: str, lowest: float | None, highest: float | None) -> "View":
        """The view with these bounds on a column instead of those it had."""
        others = [one for one in self.ranges if one.column != column]
        if lowest is not None or highest is not None:
            others.append(Range(column, lowest, highest))
        return replace(self, ranges=tuple(sorted(others, key=lambda one: one.column)))


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


def _range_text(one: Range) -> str:
    low, high = ("" if end is None else repr(end) for end in (one.lowest, one.highest))
    return f"{quote(one.column, safe='')}:{low}:{high}"


def _ranges(text: str) -> tuple[Range, ...]:
    found: dict[str, Range] = {}
    for part in filter(None, text.split(";")):
        pieces = part.split(":")
        try:
            column, low, high = pieces
            one = Range(unquote(column), _bound(low), _bound(high))
        except ValueError as problem:
            raise InputError(
                f"The link's range={part} is no range; write COLUMN:FROM:TO with numbers, either "
                "of which may be left out, such as minority:0.5:."
            ) from problem
        if one.lowest is not None or one.highest is not None:
            found[one.column] = one
    return tuple(sorted(found.values(), key=lambda one: one.column))


def _bound(text: str) -> float | None:
    if not text:
        return None
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
