"""What a session remembers: the settings it was started with, the view, the pair on screen.

The view is one value, here and in the page's address: `view()` reads it, `show()` changes it, and
a widget's callback is where that is done (it runs before the page is drawn again). `adopt` and
`announce` keep the address in step; `link` makes one.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from toolkit.errors import InputError
from toolkit.files.remote import place
from toolkit.store.queue.view import View, view_from_query, view_to_query

SETTINGS = "OUTVOTED_DESK"
"""Environment variable through which `outvoted app` hands over its options, as JSON."""

HOME = "queue"
"""The page that opens at the bare address."""

_ARRIVES = 3.0
"""Seconds in which an address that was announced has reached the browser."""

DEFAULTS: dict[str, Any] = {
    "view": View(),
    "pair_id": None,
    "problem": "",
    "news": "",
    "page": HOME,
    "announced": None,
    "outrun": (None, 0.0),
    "chart": 0,
}


@dataclass(frozen=True)
class Settings:
    """What `outvoted app` was asked for."""

    store: Path
    run: str
    journal: Path
    curator: str
    token: str = ""
    """SHA-256 of the token that a session must know; empty where none is asked for."""


def settings() -> Settings:
    """The settings of this server. InputError where it was not started by `outvoted app`."""
    text = os.environ.get(SETTINGS)
    if not text:
        raise InputError("The desk does not know its store; start it with `outvoted app STORE`.")
    given = json.loads(text)
    return Settings(
        store=place(given["store"]),
        run=given.get("run", ""),
        journal=Path(given["journal"]),
        curator=st.session_state.get("curator") or given["curator"],
        token=given.get("token", ""),
    )


def keep() -> None:
    """Set defaults."""
    for name, default in DEFAULTS.items():
        st.session_state.setdefault(name, default)


def view() -> View:
    """The view that the session is at: which pairs, in which order."""
    found: View = st.session_state["view"]
    return found


def show(view: View, pair_id: str | None = None) -> None:
    """Go to a view, at one pair of it or at its beginning."""
    st.session_state["view"] = view
    st.session_state["pair_id"] = pair_id
    # A bar stays picked in the browser until its chart is another one.
    st.session_state["chart"] += 1
    go_to(pair_id)


def refuse(sentence: str) -> None:
    """Go back to the default view, and have the page say why."""
    show(View())
    st.session_state["problem"] = sentence


def go_to(pair_id: str | None) -> None:
    """Put a pair on screen; None leaves what is there."""
    if pair_id is not None:
        st.session_state["pair_id"] = pair_id
    st.session_state["problem"] = st.session_state["news"] = ""


def query(view: View | None = None, pair: str | None = None) -> dict[str, str]:
    """The parameters of a link to a view (the session's where none is given) and a pair."""
    at = st.session_state["view"] if view is None else view
    told = view_to_query(at) | ({"pair": pair} if pair else {})
    # A bare address keeps the view that the session is at; a link to every pair must say so.
    return told if told or view is None else {"state": "any"}


def link(page: str, view: View | None = None, pair: str | None = None) -> str:
    """The address of a page of the desk at a view (the session's where none is given), a pair."""
    parameters = urlencode(query(view, pair))
    return f"/{'' if page == HOME else page}{'?' if parameters else ''}{parameters}"


def open_page(page: str, view: View | None = None, pair: str | None = None) -> None:
    """Go to another page of the desk, in the same session. For a page's body, not a callback."""
    st.switch_page(st.session_state["pages"][page], query_params=query(view, pair))


def adopt(page: str) -> None:
    """Take in the view and pair of the address, if it is not one that the desk wrote itself.

    A bad address gives the default view and a sentence. Another page that is opened from the
    menu has a bare address, and keeps the session's view.
    """
    st.session_state["page"] = page
    asked = st.query_params.to_dict()
    announced = st.session_state["announced"]
    if announced is not None and (
        announced == (page, asked)
        or (not asked and announced[0] != page)
        or _outrun((page, asked), time.monotonic())
    ):
        return
    try:
        found = view_from_query(asked)
    except InputError as problem:
        refuse(str(problem))
        return
    pair = asked.get("pair")
    if found != view() or pair not in (None, st.session_state["pair_id"]):
        show(found, pair)


def newly_opened(what: str) -> bool:
    """Whether something is drawn on another page than the last time."""
    page, before = st.session_state["page"], st.session_state.get(f"{what}-page")
    st.session_state[f"{what}-page"] = page
    return bool(page != before)


def announce(page: str, *, with_pair: bool = False) -> None:
    """Write the view (and, for a page about one pair, the pair) into the address."""
    told = query(pair=st.session_state["pair_id"] if with_pair else None)
    if st.query_params.to_dict() != told:
        st.query_params.from_dict(told)
    if st.session_state["announced"] != (page, told):
        st.session_state["outrun"] = (st.session_state["announced"], time.monotonic())
        st.session_state["announced"] = (page, told)


def _outrun(address: tuple[str, dict[str, str]], now: float) -> bool:
    """Whether the browser still sent the address from before the last announcement.

    Two quick clicks: the second leaves before the first one's address has arrived. After a while
    the same address means that somebody went back to it.
    """
    before, since = st.session_state["outrun"]
    return address == before and now - since < _ARRIVES
