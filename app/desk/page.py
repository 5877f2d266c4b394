"""What every page has around it: the store opened, light or dark, problems told as sentences."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import streamlit as st

from app.desk import state
from app.desk.components import messages as notice
from app.desk.components.html_text import literal
from toolkit.colors import Ground
from toolkit.errors import OutvotedError
from toolkit.store import Store, open_store
from toolkit.store.queue.view import View


def ground() -> Ground:
    """Whether the page is light or dark, as the browser says."""
    return "dark" if st.context.theme.type == "dark" else "light"


@contextmanager
def sentences() -> Iterator[None]:
    """Shows a sentence where what is drawn inside fails, never a traceback."""
    try:
        yield
    except Exception as problem:
        notice.sentence(_sentence(problem))


def told(act: Callable[..., None]) -> Callable[..., None]:
    """A callback whose failure is kept in the session as a sentence, for the page to show."""

    @wraps(act)
    def acted(*given: Any) -> None:
        try:
            act(*given)
        except Exception as problem:
            st.session_state["problem"] = _sentence(problem)

    return acted


def _sentence(problem: Exception) -> str:
    if isinstance(problem, OutvotedError):
        return str(problem)
    logging.getLogger("outvoted.desk").exception("The desk failed")  # in full, in the terminal
    return (
        f"The desk could not do this ({type(problem).__name__}: {problem}). Every verdict that it "
        "called saved is in the journal; reload the page, and see the terminal for details."
    )


@dataclass(frozen=True)
class Page:
    """A page of the desk, as main.py's list declares it."""

    name: str
    """Its address below the server's."""
    title: str
    icon: str
    draw: Callable[[Store, state.Settings, Ground], None]
    with_pair: bool = False
    """Whether its address names the pair on screen."""


def drawn(page: Page) -> Callable[[], None]:
    """The page for st.navigation: the view comes from the address and goes back into it."""

    def whole() -> None:
        with sentences():
            state.adopt(page.name)
            settings = state.settings()
            page.draw(open_store(settings.store), settings, ground())
            state.announce(page.name, with_pair=page.with_pair)

    return whole


def page_link(
    page: str, label: str, view: View | None = None, pair: str | None = None, icon: str = ""
) -> None:
    """A link to another page of the desk, at a view (the session's where none is given), a pair."""
    known = st.session_state.get("pages", {})
    if page in known:
        st.page_link(
            known[page],
            label=notice.escaped(label),
            icon=icon or None,
            query_params=state.query(view, pair),
        )
    else:
        st.html(f'<a href="{literal(state.link(page, view, pair))}">{literal(label)}</a>')
