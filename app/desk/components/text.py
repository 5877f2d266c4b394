"""Text on a page: escaping, numbers, messages, commands to type, tables, and a view in words.

Text from the data is always shown character by character: nothing in it is read as HTML or
Markdown.
"""

import html
import math
import shlex
import string
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import streamlit as st

from app.desk.verdict_state import Saved
from toolkit.store.queue.tables import SYMBOLS
from toolkit.store.queue.views import View


class Html(str):
    """A table cell that is HTML already; every other cell is text."""


def escape(text: str) -> str:
    """HTML that shows `text` as it is, on one line of source."""
    return html.escape(text, quote=True).replace("\r", "").replace("\n", "&#10;")


def escape_markdown(text: str) -> str:
    """Markdown that shows `text` as it is, on one line: a line break becomes a space.

    Every ASCII sign that Markdown could interpret gets a backslash; & begins an entity, and = turns
    the line above it into a heading.
    """
    line = " ".join(text.splitlines())
    return "".join(f"\\{sign}" if sign in string.punctuation else sign for sign in line)


def markdown(text: str) -> str:
    """Markdown that shows `text` as it is, except that commands between backticks stay commands."""
    return "".join(
        f"`{part}`" if place % 2 else escape_markdown(part)
        for place, part in enumerate(text.split("`"))
    )


def number(value: float | None) -> str:
    """Three significant digits; a dash if the value is not known."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.3g}"


def share(part: float) -> str:
    """A share from 0 to 1 as per cent, with one decimal near the ends."""
    percent = 100 * part
    return f"{percent:.1f} %" if percent < 1 or percent > 99 else f"{percent:.0f} %"


def shell_path(path: Path) -> str:
    """A path as a shell needs it."""
    return shlex.quote(str(path))


def error(text: str) -> None:
    """A problem, as plain text."""
    st.error(markdown(text), icon=":material/error:")


def info(text: str) -> None:
    """News or a hint, as plain text."""
    st.info(markdown(text), icon=":material/info:")


def warning(text: str) -> None:
    """Something that must not be overlooked, as plain text."""
    st.warning(markdown(text), icon=":material/warning:")


def command(text: str) -> None:
    """Something to type in a terminal."""
    st.code(text, language=None, wrap_lines=True)


def hint(text: str, to_type: str) -> None:
    """What is missing, and the command that adds it."""
    info(f"{text} Type in a terminal:")
    command(to_type)


def quiet(markup: str) -> None:
    """A paragraph in quiet type. `markup` is HTML."""
    st.html(f'<p class="desk-quiet">{markup}</p>')


def progress_bar(part: float) -> str:
    """A bar that is full for 1, as HTML."""
    return f'<div class="desk-bar"><span style="width: {100 * part:.2f}%"></span></div>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, name: str) -> None:
    """A table, with a name for screen readers; no more rows than fit on a page.

    A cell of type `Html` is inserted as it is.
    """
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    st.html(
        f'<table class="desk-table" aria-label="{escape(name)}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _cell(cell: str) -> str:
    return f"<td>{cell if isinstance(cell, Html) else escape(cell)}</td>"


STATES: dict[str, str] = {
    "any": "all pairs",
    "open": "without verdict",
    "judged": "with a verdict",
    "differ": "curators differ",
}
"""The states of a view in words; every other state is the name of a verdict."""


def saved_line(saved: Saved) -> str:
    """`saved 14:03:07 · 128 verdicts · path` as HTML, in the curator's own time zone."""
    when = "nothing saved yet" if saved.time is None else f"saved {clock(saved.time)}"
    word = "verdict" if saved.verdicts == 1 else "verdicts"
    return f"{when} · {saved.verdicts:,} {word} · <code>{escape(str(saved.path))}</code>"


def clock(when: datetime, *, date: bool = False) -> str:
    """A time in the time zone of this machine."""
    return f"{when.astimezone():{'%d %b ' if date else ''}%H:%M:%S}"


def limits(view: View) -> list[str]:
    """What the view leaves out, one phrase a limit; empty for every pair."""
    phrases = []
    for bounds in view.ranges:
        low = "" if bounds.lowest is None else f" from {number(bounds.lowest)}"
        high = "" if bounds.highest is None else f" below {number(bounds.highest)}"
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
