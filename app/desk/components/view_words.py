"""A view in words, and the saved line, for the pages that show many pairs."""

from app.desk.components import strip
from app.desk.components.text import number
from app.desk.ledger import Saved
from toolkit.store.view import View

_STATES = {
    "any": "",
    "open": "without a verdict",
    "judged": "with a verdict",
    "differ": "curators differ",
}


def words(view: View) -> str:
    """What the view leaves in, and its order; never empty."""
    said = []
    for one in view.ranges:
        low = "" if one.lowest is None else f" from {number(one.lowest)}"
        high = "" if one.highest is None else f" below {number(one.highest)}"
        said.append(f"{one.column}{low}{high}")
    if view.where:
        said.append(view.where)
    if view.text:
        said.append(f"prompt contains “{view.text}”")
    if view.model:
        said.append(f"model {view.model}")
    if view.annotator:
        said.append(f"annotator {view.annotator}")
    if view.state != "any":
        said.append(_STATES.get(view.state, f"verdict {view.state}"))
    order = f"{'largest' if view.descending else 'smallest'} {view.order} first"
    return " · ".join([*(said or ["every pair"]), order])


def saved(line: Saved) -> str:
    """The saved line as HTML."""
    return strip.saved_line(line)
