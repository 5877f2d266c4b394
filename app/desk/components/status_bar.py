"""The strip on top: place in the view, progress through it, and the saved line.

A view in words, and the saved line, for the pages that show many pairs.
"""

from datetime import datetime

import streamlit as st

from app.desk.components.html_text import literal, number
from app.desk.verdict_state import Saved
from toolkit.store.queue.tables import SYMBOLS
from toolkit.store.queue.view import View


def status(place: int | None, pairs: int, judged: int, of: int, saved: Saved) -> None:
    """Place in view, progress through it, and the saved line."""
    where = f"{place:,} of {pairs:,}" if place is not None else f"outside this view of {pairs:,}"
    done = judged / of if of else 0.0
    st.html(
        f'<div class="desk-row"><span class="desk-place">{where}</span>'
        f'<span class="desk-quiet">{judged:,} of {of:,} with a verdict</span>'
        '<span class="desk-keys" role="status"></span>'
        f'<span class="desk-quiet desk-saved" id="desk-saved">{saved_line(saved)}</span></div>'
        f'<div class="desk-bar"><span style="width: {100 * done:.2f}%"></span></div>'
    )


def saved_line(saved: Saved) -> str:
    """`saved 14:03:07 · 128 verdicts · path`, escaped; the time is the curator's own."""
    when = "nothing saved yet" if saved.time is None else f"saved {_clock(saved.time)}"
    word = "verdict" if saved.verdicts == 1 else "verdicts"
    return f"{when} · {saved.verdicts:,} {word} · <code>{literal(str(saved.path))}</code>"


def _clock(when: datetime) -> str:
    return f"{when.astimezone():%H:%M:%S}"


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
    return saved_line(line)
