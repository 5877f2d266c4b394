"""One pair of the queue: what is seen of it, and the verdicts that answer it."""

from typing import Any

import streamlit as st

from app.desk import image_cache as pictures
from app.desk import page as frame
from app.desk import state
from app.desk.components import card, chips
from app.desk.components import messages as notice
from app.desk.components import status_bar as strip
from app.desk.components.html_text import literal
from app.desk.queries import queue as data
from app.desk.queries.queue import Desk
from app.desk.views import sidebar as filters
from app.desk.views import verdict_buttons as answers
from app.desk.views.verdict_buttons import Look
from toolkit.colors import Ground, accent
from toolkit.store.connection import Connection
from toolkit.store.queue import ell_series as curves
from toolkit.store.queue import tables as queries
from toolkit.store.queue import views as listing
from toolkit.store.queue.view import View

_VOICES = ("agreement.voices", "agreement.against")


@st.fragment
def pair(desk: Desk, settings: state.Settings, ground: Ground) -> None:
    """Place, prompt, images, chips and verdicts of one pair: all that a verdict redraws."""
    with st.container(key="pair", gap=None), frame.sentences():
        _drawn(desk, settings, ground)


def _drawn(desk: Desk, settings: state.Settings, ground: Ground) -> None:
    desk.ledger.refresh()  # what other curators published meanwhile
    view = state.view()
    cursor = desk.cursor(view)
    pairs = listing.count(cursor, view)
    pair_id = st.session_state["pair_id"] or _first(cursor, view)
    st.session_state["pair_id"] = pair_id
    at = listing.position(cursor, view, pair_id) if pair_id else None
    _strip(desk, settings, view, cursor, at, pairs)
    for problem in (st.session_state["problem"], desk.ledger.trouble):
        if problem:
            notice.sentence(problem)
    seen = queries.card(cursor, pair_id) if pair_id else None
    if seen is None and pair_id:
        notice.sentence(f"The store has no pair {pair_id}; this is the first of the view instead.")
        pair_id = st.session_state["pair_id"] = _first(cursor, view)
        at = listing.position(cursor, view, pair_id) if pair_id else None
        seen = queries.card(cursor, pair_id) if pair_id else None
    if seen is None:
        notice.news("No pair is left in this view; clear the filter to see the others.")
        answers.undo_alone(settings)
    else:
        look = answers.look(settings, seen)
        _card(desk, settings, cursor, seen, look, ground)
        answers.row(desk, settings, view, seen, look, at or 0)
        _prepare_next(desk, cursor, view, at or 0)
    if st.session_state["news"]:
        st.toast(notice.plain(st.session_state["news"]))
        st.session_state["news"] = ""
    # What a test waits for: everything above was sent, and for which pair.
    st.html(f'<span id="desk-ready" data-pair="{literal(pair_id or "")}" hidden></span>')


def _strip(
    desk: Desk,
    settings: state.Settings,
    view: View,
    cursor: Connection,
    at: int | None,
    pairs: int,
) -> None:
    pair_id = st.session_state["pair_id"]
    place = listing.place(cursor, view, pair_id, at) if at is not None else None
    judged, of = listing.count_judged(cursor, view), listing.count_all(cursor, view)
    strip.status(place, pairs, judged, of, desk.ledger.saved(settings.curator))
    if shown := filters.words(view):
        st.button(
            shown,
            icon=":material/close:",
            icon_position="right",
            key="clear-filter",
            on_click=lambda: state.show(View(run=view.run)),
            help="Show every pair again",
        )


def _first(cursor: Connection, view: View) -> str | None:
    fresh = listing.neighbour(cursor, view, 0, open_only=True)
    return fresh or listing.neighbour(cursor, view, 0)


def _card(
    desk: Desk,
    settings: state.Settings,
    cursor: Connection,
    pair: dict[str, Any],
    look: Look,
    ground: Ground,
) -> None:
    card.prompt(pair["prompt"])
    shown = [pictures.picture(desk.store, pair[side]) for side in look.sides]
    card.images(
        (shown[0], shown[1]),
        look.sides,
        pair,
        blind=look.blind,
        blurred=look.hidden,
    )
    if look.blind:
        chips.blind()
        return
    visits = curves.ell_by_visit(cursor, pair["nth"], pair["label"]) if desk.run else []
    voices = data.more_of(desk, pair["pair_id"], _VOICES)
    others = {
        curator: answers.word_of(row["choice"], pair["label"])
        for curator, row in desk.ledger.standing(pair["pair_id"]).items()
    }
    decided = pair["label"] in (0.0, 1.0)  # else ell has no sign, and there is no curve
    curve = chips.curve(visits, desk.curves, ground, accent(ground)) if decided else ""
    chips.all_of(pair, voices, others, settings.curator, curve)


def _prepare_next(desk: Desk, cursor: Connection, view: View, at: int) -> None:
    """Decode the images of the pair that a verdict would bring."""
    onward = listing.neighbour(cursor, view, at, open_only=True)
    for coming in queries.cards(cursor, [onward]) if onward else []:
        pictures.prefetch(desk.store, [coming["image_0"], coming["image_1"]])
