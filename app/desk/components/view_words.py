"""A view in words, and the saved line, for the pages that show many pairs."""

from app.desk.components import strip
from app.desk.components.text import number
from app.desk.ledger import Saved
from toolkit.store.desk import SYMBOLS
from toolkit.store.view import View

STATES: dict[str, str] = {
    "any": "all pairs",
    "open": "without verdict",
    "judged": "with a verdict",
    "differ": "curators differ",
}
"""A view's states in words; any other is a verdict by its own name."""


def limits(view: View) -> list[str]:
    """What the view leaves out, a phrase a limit; none for every pair."""
    said = []
    for one in view.ranges:
        low = "" if one.lowest is None else f" from {number(one.lowest)}"
        high = "" if one.highest is None else f" below {number(one.highest)}"
        said.append(f"{symbol(one.column)}{low}{high}")
    if view.text:
        said.append(f"prompt contains “{view.text}”")
    for word, text in (("model", view.model), ("annotator", view.annotator), ("", view.where)):
        if text:
            said.append(f"{word} {text}".strip())
    if view.state != "any":
        said.append(STATES.get(view.state, f"verdict {view.state}"))
    return said


def words(view: View) -> str:
    """What the view leaves in, and its order; never empty."""
    order = f"{'largest' if view.descending else 'smallest'} {view.order} first"
    return " · ".join([*(limits(view) or ["every pair"]), order])


def symbol(column: str) -> str:
    """u, c or s where a column has one, else its name."""
    return next((sign for name, sign in SYMBOLS.items() if name == column), column)


def saved(line: Saved) -> str:
    """The saved line as HTML."""
    return strip.saved_line(line)
