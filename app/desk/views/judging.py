"""One pair of the queue: what is seen of it, and the verdicts that answer it."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from app.desk import frame, state
from app.desk.components import card, notice, strip
from app.desk.components.text import literal
from app.desk.data import Desk
from app.desk.pictures import picture
from toolkit.palette import Ground, accent
from toolkit.store import desk as queries
from toolkit.store import listing
from toolkit.store.query import Connection
from toolkit.store.verdicts import Choice, Entry, Verdict, choice_of
from toolkit.store.view import View

_KEYS: tuple[tuple[Verdict, str], ...] = (
    ("keep", "K"),
    ("flip", "F"),
    ("tie", "T"),
    ("drop", "D"),
    ("unsure", "U"),
)


@st.fragment
def pair(desk: Desk, settings: state.Settings, ground: Ground) -> None:
    """Place, prompt, images, chips and verdicts of one pair: all that a verdict redraws."""
    with st.container(key="pair", gap=None), frame.sentences():
        _drawn(desk, settings, ground)


def _drawn(desk: Desk, settings: state.Settings, ground: Ground) -> None:
    view = state.view()
    cursor = desk.cursor(view)
    pairs = listing.count(cursor, view)
    pair_id = st.session_state["pair_id"] or _first(cursor, view)
    st.session_state["pair_id"] = pair_id
    place = listing.place(cursor, view, pair_id) if pair_id else None
    judged, of = listing.count_judged(cursor, view), listing.count_all(cursor, view)
    strip.status(place, pairs, judged, of, desk.ledger.saved(settings.curator))
    for problem in (st.session_state["problem"], desk.ledger.problem):
        if problem:
            notice.sentence(problem)
    seen = queries.card(cursor, pair_id) if pair_id else None
    if seen is None:
        notice.news("No pair is left in this view; clear the filter to see the others.")
    else:
        _card(desk, cursor, seen, ground)
    _verdicts(desk, settings, view, seen)
    if st.session_state["news"]:
        st.toast(notice.plain(st.session_state["news"]))
        st.session_state["news"] = ""
    # What a test waits for: everything above was sent, and for which pair.
    st.html(f'<span id="desk-ready" data-pair="{literal(pair_id or "")}" hidden></span>')


def _first(cursor: Connection, view: View) -> str | None:
    fresh = listing.neighbour(cursor, view, 0, open_only=True)
    return fresh or listing.neighbour(cursor, view, 0)


def _card(desk: Desk, cursor: Connection, pair: dict[str, Any], ground: Ground) -> None:
    card.prompt(pair["prompt"])
    shown = picture(desk.store, pair["image_0"]), picture(desk.store, pair["image_1"])
    card.images(shown, pair["label"])
    ells: list[queries.Visit] = []
    if desk.has_trajectory:
        ells = queries.ell_by_visit(cursor, pair["pair_id"], pair["label"])
    card.chips(pair, ells, ground, accent(ground))


def _verdicts(
    desk: Desk, settings: state.Settings, view: View, pair: dict[str, Any] | None
) -> None:
    """The row of buttons; without a pair, undo alone."""
    name = pair["pair_id"] if pair else "none"
    with st.container(horizontal=True, key="verdicts", gap="small"):
        if pair:
            _button("Back", "Left", name, _move, desk, view, name, True, kind="tertiary")
            for word, key, choice in _answers(pair["label"]):
                given = "primary" if pair["verdict"] == word.lower() else "secondary"
                _button(word, key, name, _record, desk, settings, view, pair, choice, kind=given)
        _button("Undo", "Z", name, _undo, desk, settings, kind="tertiary")
        if pair:
            _button("Next", "Right", name, _move, desk, view, name, False, kind="tertiary")


def _answers(label: float | None) -> list[tuple[str, str, Choice]]:
    """Word, key and choice of each answer. A tie can be neither kept nor flipped: name an image."""
    decided = label in (0.0, 1.0)
    words: list[tuple[str, str, Choice]] = [
        (verdict.capitalize(), key, choice_of(verdict, label))
        for verdict, key in _KEYS
        if decided or verdict not in ("keep", "flip")
    ]
    if decided:
        return words
    return [("image_0", "0", "image_0"), ("image_1", "1", "image_1"), *words]


def _button(
    word: str, key: str, pair_id: str, act: Callable[..., None], *given: Any, kind: str
) -> None:
    """A button whose name holds its pair: a key pressed while the next pair is on its way counts
    for the pair that was seen, or not at all."""
    st.button(
        word,
        width="stretch",
        key=f"{word}-{pair_id}",
        shortcut=key,
        type=kind,
        on_click=frame.told(act),
        args=given,
    )


def _record(
    desk: Desk, settings: state.Settings, view: View, pair: dict[str, Any], choice: Choice
) -> None:
    """Save a verdict and go on to the next pair without one; on failure the pair stays."""
    shown = {name: pair[name] for name in ("confidence", "stability", "minority", "label")}
    shown |= {"run": desk.run, "sides": ["image_0", "image_1"], "blind": False}
    entry = Entry(pair["pair_id"], settings.curator, choice, desk.label_set, shown=shown)
    desk.ledger.record([entry])
    cursor = desk.cursor(view)
    at = listing.position(cursor, view, pair["pair_id"]) or 0
    onward = listing.neighbour(cursor, view, at, open_only=True)
    onward = onward or listing.neighbour(cursor, view, 0, open_only=True)
    state.go_to(onward)
    if onward is None:
        if view.state == "open":
            st.session_state["pair_id"] = None
        st.session_state["news"] = "Every pair of this view has a verdict."


def _undo(desk: Desk, settings: state.Settings) -> None:
    """Take back the last verdict and return to its pair."""
    pair_id = desk.ledger.undo(settings.curator)
    state.go_to(pair_id)
    if pair_id is None:
        st.session_state["news"] = "You have no verdict to take back."


def _move(desk: Desk, view: View, pair_id: str, back: bool) -> None:
    cursor = desk.cursor(view)
    at = listing.position(cursor, view, pair_id) or 0
    onward = listing.neighbour(cursor, view, at, back=back)
    state.go_to(onward)
    if onward is None:
        st.session_state["news"] = "This is the first pair." if back else "This is the last pair."
