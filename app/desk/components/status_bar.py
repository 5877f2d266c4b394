"""Place in the view, progress and the saved line; and a view in words."""

from datetime import datetime

import streamlit as st

from app.desk.components import text
from app.desk.verdict_state import Saved
from toolkit.store.queue.tables import SYMBOLS
from toolkit.store.queue.views import View

STATES: dict[str, str] = {
    "any": "all pairs",
    "open": "without verdict",
    "judged": "with a verdict",
    "differ": "curators differ",
}
"""The states of a view in words; every other state is the name of a verdict."""


def show_status(place: str, note: str, saved: Saved, done: float, *, keys: bool = False) -> None:
    """The bar above a pair. `note` is HTML; `done` is the share of the pairs with a verdict.

    `keys`: also say whether the page listens to keys yet.
    """
    listening = '<span class="desk-keys" role="status"></span>' if keys else ""
    st.html(
        f'<div class="desk-row"><span class="desk-place">{place}</span>'
        f'<span class="desk-quiet">{note}</span>{listening}'
        f'<span class="desk-quiet desk-saved" id="desk-saved">{saved_line(saved)}</span></div>'
        f"{text.progress_bar(done)}"
    )


def saved_line(saved: Saved) -> str:
    """`saved 14:03:07 · 128 verdicts · path` as HTML, in the curator's own time zone."""
    when = "nothing saved yet" if saved.time is None else f"saved {clock(saved.time)}"
    word = "verdict" if saved.verdicts == 1 else "verdicts"
    return f"{when} · {saved.verdicts:,} {word} · <code>{text.escape(str(saved.path))}</code>"


def clock(when: datetime, *, date: bool = False) -> str:
    """A time in the time zone of this machine."""
    return f"{when.astimezone():{'%d %b ' if date else ''}%H:%M:%S}"


def limits(view: View) -> list[str]:
    """What the view leaves out, one phrase a limit; empty for every pair."""
    phrases = []
    for bounds in view.ranges:
        low = "" if bounds.lowest is None else f" from {text.number(bounds.lowest)}"
        high = "" if bounds.highest is None else f" below {text.number(bounds.highest)}"
        phrases.append(f"{symbol(bounds.column)}{low}{high}")
    if view.text:
        phrases.append(f"prompt contains “{view.text}”")
    for word, value in (("model", view.model), ("annotator", view.annotator), ("", view.where)):
        if value:
            phrases.append(f"{word} {value}".strip())
    if view.state != "any":
        phrases.append(STATES.get(view.state, f"verdict {view.state}"))
    return phrases


def describe_view(view: View) -> str:
    """Which pairs the view has, and in which order; never empty."""
    order = f"{'largest' if view.descending else 'smallest'} {view.order} first"
    return " · ".join([*(limits(view) or ["every pair"]), order])


def symbol(column: str) -> str:
    """u, c or s for a column that has a symbol, else its name."""
    return next((sign for name, sign in SYMBOLS.items() if name == column), column)
