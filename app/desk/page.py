"""What every page shares: its registry entry, its head, links, and errors shown as sentences."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import streamlit as st

from app.desk import state
from app.desk.components import text
from toolkit.colors import Ground
from toolkit.errors import OutvotedError
from toolkit.store import Store, open_store
from toolkit.store.queue.views import View

_STYLE = Path(__file__).with_name("pages.css")


@dataclass(frozen=True)
class Page:
    """A page of the desk, as its module declares it and `streamlit_app.PAGES` lists it."""

    name: str
    """Its address below the server's."""
    title: str
    icon: str
    draw: Callable[[Store, state.Settings, Ground], None]
    with_pair: bool = False
    """Whether its address names the pair on screen."""

    def run(self) -> None:
        """Draw the page; the view comes from the address and is written back to it."""
        with errors_as_text():
            state.read_address(self.name)
            settings = state.settings()
            self.draw(open_store(settings.store), settings, ground())
            state.write_address(self.name, with_pair=self.with_pair)


def ground() -> Ground:
    """Whether the browser shows the page light or dark."""
    return "dark" if st.context.theme.type == "dark" else "light"


@contextmanager
def errors_as_text() -> Iterator[None]:
    """Show a sentence, never a traceback, if what is drawn inside fails."""
    try:
        yield
    except Exception as problem:
        text.error(_sentence(problem))


def callback(act: Callable[..., None]) -> Callable[..., None]:
    """A widget's callback whose failure becomes the session's `problem`, which the page shows."""

    @wraps(act)
    def guarded(*arguments: Any) -> None:
        if problem := problem_of(act, *arguments):
            st.session_state["problem"] = problem

    return guarded


def problem_of(act: Callable[..., None], *arguments: Any) -> str:
    """Do it; why it failed, as a sentence, or ""."""
    try:
        act(*arguments)
    except Exception as problem:
        return _sentence(problem)
    return ""


def _sentence(problem: Exception) -> str:
    if isinstance(problem, OutvotedError):
        return str(problem)
    logging.getLogger("outvoted.desk").exception("The desk failed")  # in full, in the terminal
    return (
        f"The desk could not do this ({type(problem).__name__}: {problem}). Every verdict that it "
        "showed as saved is in the journal; reload the page, and see the terminal for details."
    )


def load_style() -> None:
    """The rules of the pages beside the Queue, in addition to style.css."""
    st.html(_STYLE)


def head(title: str, purpose: str) -> None:
    """A page's title, and one quiet sentence that says what the page is for."""
    load_style()
    st.title(title)
    text.quiet(text.escape(purpose))


def show_news() -> None:
    """Show the session's news once."""
    if st.session_state["news"]:
        st.toast(text.markdown(st.session_state["news"]))
        st.session_state["news"] = ""


def page_link(
    page: str, label: str, view: View | None = None, pair: str | None = None, icon: str = ""
) -> None:
    """A link to another page, at a view (by default the session's) and a pair."""
    pages = st.session_state.get("pages", {})
    if page in pages:
        st.page_link(
            pages[page],
            label=text.escape_markdown(label),
            icon=icon or None,
            query_params=state.query(view, pair),
        )
    else:
        st.html(f'<a href="{text.escape(state.link(page, view, pair))}">{text.escape(label)}</a>')
