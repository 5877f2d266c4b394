"""Problems and next steps: a sentence, and what to type."""

import shlex
import string
from pathlib import Path

import streamlit as st

from app.desk.components.html_text import literal


def sentence(text: str) -> None:
    """A problem as plain text: nothing in it is read as Markdown."""
    st.error(plain(text), icon=":material/error:")


def news(text: str) -> None:
    """Something that happened, as plain text."""
    st.info(plain(text), icon=":material/info:")


def caution(text: str) -> None:
    """Something that nobody should overlook, as plain text."""
    st.warning(plain(text), icon=":material/warning:")


def plain(text: str) -> str:
    """Markdown that shows `text` as it is, except that commands between backticks keep them."""
    return "".join(
        f"`{part}`" if number % 2 else escaped(part) for number, part in enumerate(text.split("`"))
    )


def escaped(text: str) -> str:
    """Markdown that shows `text` as it is, on one line: a break in it becomes a space.

    Every ASCII sign that Markdown could read as its own stands behind a backslash; of these & is
    what an entity begins with, and = what makes the line above it a heading.
    """
    line = " ".join(text.splitlines())
    return "".join(f"\\{sign}" if sign in string.punctuation else sign for sign in line)


def steps(done: list[tuple[str, bool]]) -> None:
    """What a store needs before pairs can be judged, in order, with what is there ticked."""
    first = next((number for number, (_, there) in enumerate(done) if not there), len(done))
    rows = "".join(
        f'<li class="{"later" if number > first else ""}"><b>{"✓" if there else number + 1}</b>'
        f"<span>{literal(text)}</span></li>"
        for number, (text, there) in enumerate(done)
    )
    st.html(f'<ul class="desk-steps">{rows}</ul>')


def path(place: Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(place))


def command(text: str) -> None:
    """Something to type."""
    st.code(text, language=None, wrap_lines=True)
