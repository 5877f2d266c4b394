"""The strip on top: place in the view, progress through it, and the saved line."""

from datetime import datetime

import streamlit as st

from app.desk.components.text import literal
from app.desk.ledger import Saved


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
