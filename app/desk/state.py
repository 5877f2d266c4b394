"""What a session remembers: the settings of the server, the view, the pair on screen.

The view is one value, in the session and in the address of the page: `view()` reads it, `show()`
changes it, and only a widget's callback does that (callbacks run before the page is drawn again).
`read_address` and `write_address` keep the address in step; `link` makes one. Saved views have
names, and are in a file beside the verdict journal.
"""

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from toolkit.errors import InputError, StoreError
from toolkit.files.atomic import write_text_whole
from toolkit.files.remote import place
from toolkit.store.queue.views import View, view_from_query, view_to_query

SETTINGS = "OUTVOTED_DESK"
"""Environment variable in which `outvoted app` passes its options, as JSON."""

HOME = "queue"
"""The page at the bare address."""

_ADDRESS_SECONDS = 3.0
"""A new address has reached the browser after so long."""

DEFAULTS: dict[str, Any] = {
    "view": View(),
    "pair_id": None,
    "problem": "",
    "news": "",
    "page": HOME,
    "address": None,
    "previous_address": (None, 0.0),
    "chart": 0,
}


@dataclass(frozen=True)
class Settings:
    """The options of `outvoted app`."""

    store: Path
    run: str
    journal: Path
    curator: str
    token: str = ""
    """SHA-256 of the token that a session must know; empty if none is needed."""


def settings() -> Settings:
    """The settings of this server. InputError if `outvoted app` did not start it."""
    text = os.environ.get(SETTINGS)
    if not text:
        raise InputError("The desk does not know its store; start it with `outvoted app STORE`.")
    options = json.loads(text)
    return Settings(
        store=place(options["store"]),
        run=options.get("run", ""),
        journal=Path(options["journal"]),
        curator=st.session_state.get("curator") or options["curator"],
        token=options.get("token", ""),
    )


def set_defaults() -> None:
    """Give a new session its defaults."""
    for name, default in DEFAULTS.items():
        st.session_state.setdefault(name, default)


def view() -> View:
    """The view of this session: which pairs, in which order."""
    current: View = st.session_state["view"]
    return current


def show(view: View, pair_id: str | None = None) -> None:
    """Go to a view, at one of its pairs or at its beginning."""
    st.session_state["view"] = view
    st.session_state["pair_id"] = pair_id
    # A bar stays selected in the browser until its chart is another one.
    st.session_state["chart"] += 1
    go_to(pair_id)


def reset_view(problem: str) -> None:
    """Go back to the default view, and show the problem on the page."""
    show(View())
    st.session_state["problem"] = problem


def go_to(pair_id: str | None) -> None:
    """Put a pair on screen (None keeps the present one) and clear the messages."""
    if pair_id is not None:
        st.session_state["pair_id"] = pair_id
    st.session_state["problem"] = st.session_state["news"] = ""


def query(view: View | None = None, pair: str | None = None) -> dict[str, str]:
    """The parameters of a link to a view (by default this session's) and a pair."""
    target = st.session_state["view"] if view is None else view
    parameters = view_to_query(target) | ({"pair": pair} if pair else {})
    # A bare address keeps the view of the session; a link to every pair must say so.
    return parameters if parameters or view is None else {"state": "any"}


def link(page: str, view: View | None = None, pair: str | None = None) -> str:
    """The address of a page at a view (by default this session's) and a pair."""
    parameters = urlencode(query(view, pair))
    return f"/{'' if page == HOME else page}{'?' if parameters else ''}{parameters}"


def open_page(page: str, view: View | None = None, pair: str | None = None) -> None:
    """Go to another page in the same session. For the body of a page, not for a callback."""
    st.switch_page(st.session_state["pages"][page], query_params=query(view, pair))


def read_address(page: str) -> None:
    """Take the view and the pair from the address, unless the desk wrote the address itself.

    A bad address gives the default view and a sentence. A page opened from the menu has a bare
    address, and keeps the view of the session.
    """
    st.session_state["page"] = page
    parameters = st.query_params.to_dict()
    written = st.session_state["address"]
    if written is not None and (
        written == (page, parameters)
        or (not parameters and written[0] != page)
        or _is_late((page, parameters), time.monotonic())
    ):
        return
    try:
        wanted = view_from_query(parameters)
    except InputError as problem:
        reset_view(str(problem))
        return
    pair = parameters.get("pair")
    if wanted != view() or pair not in (None, st.session_state["pair_id"]):
        show(wanted, pair)


def newly_opened(what: str) -> bool:
    """Whether something is drawn on another page than the last time."""
    page, before = st.session_state["page"], st.session_state.get(f"{what}-page")
    st.session_state[f"{what}-page"] = page
    return bool(page != before)


def write_address(page: str, *, with_pair: bool = False) -> None:
    """Write the view (and the pair, for a page about one pair) into the address."""
    parameters = query(pair=st.session_state["pair_id"] if with_pair else None)
    if st.query_params.to_dict() != parameters:
        st.query_params.from_dict(parameters)
    if st.session_state["address"] != (page, parameters):
        st.session_state["previous_address"] = (st.session_state["address"], time.monotonic())
        st.session_state["address"] = (page, parameters)


def _is_late(address: tuple[str, dict[str, str]], now: float) -> bool:
    """Whether the browser sent the address that was valid before the last change.

    Of two quick clicks, the second leaves before the first one's address has arrived. Later, the
    same address means that somebody went back to it.
    """
    before, since = st.session_state["previous_address"]
    return address == before and now - since < _ADDRESS_SECONDS


_LONGEST_NAME = 60
_lock = threading.Lock()


def _views_file(journal: Path) -> Path:
    """The file of the views saved beside a journal."""
    return journal.with_name(journal.stem + "_views.json")


def saved_views(journal: Path) -> dict[str, View]:
    """Saved views by name, in the order of saving. StoreError if the file is broken."""
    path = _views_file(journal)
    if not path.exists():
        return {}
    try:
        queries = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): view_from_query(query) for name, query in queries.items()}
    except (ValueError, AttributeError, TypeError, InputError, OSError) as problem:
        raise StoreError(
            f"The saved views in {path} cannot be read ({problem}); fix the file, or move it away "
            "to start without saved views."
        ) from problem


def save_view(journal: Path, name: str, view: View) -> None:
    """Save a view under a name, replacing one of that name. InputError for an empty name."""
    name = " ".join(name.split())
    if not 0 < len(name) <= _LONGEST_NAME:
        raise InputError(f"The name of a view needs 1 to {_LONGEST_NAME} characters; type one.")
    with _lock:
        _write_views(journal, saved_views(journal) | {name: view})


def delete_view(journal: Path, name: str) -> None:
    """Delete a saved view; nothing happens if there is none of that name."""
    with _lock:
        kept = saved_views(journal)
        if kept.pop(name, None) is not None:
            _write_views(journal, kept)


def _write_views(journal: Path, views: dict[str, View]) -> None:
    queries = {name: view_to_query(view) for name, view in views.items()}
    text = json.dumps(queries, indent=2, ensure_ascii=False) + "\n"
    try:
        write_text_whole(_views_file(journal), text)
    except OSError as problem:
        raise StoreError(
            f"The view was NOT saved: {_views_file(journal)} cannot be written ({problem}); free "
            "space or fix the folder."
        ) from problem
