"""One pair of the Queue: what is known of it, and the verdict buttons."""

import streamlit as st

from app.desk import image_cache, page, state
from app.desk.components import pair_card, text
from app.desk.queries import queue
from app.desk.queries.connection import Desk
from app.desk.views import verdict_buttons
from app.desk.views.verdict_buttons import OnScreen
from toolkit.colors import Ground
from toolkit.preference import is_decided
from toolkit.store.connection import Connection
from toolkit.store.queue import ell_series, tables, views
from toolkit.store.queue.views import View
from toolkit.store.verdicts import verdict_of

_AGREEMENT = ("agreement.votes", "agreement.against")


@st.fragment
def show_pair(desk: Desk, settings: state.Settings, ground: Ground) -> None:
    """Place, prompt, images, chips and verdict buttons: all that a verdict redraws."""
    with st.container(key="pair", gap=None), page.errors_as_text():
        _draw(desk, settings, ground)


def _draw(desk: Desk, settings: state.Settings, ground: Ground) -> None:
    desk.verdicts.refresh()  # what other curators have published
    view = state.view()
    cursor = desk.cursor(view)
    pair_id = st.session_state["pair_id"] or _first(cursor, view)
    st.session_state["pair_id"] = pair_id
    at = views.position(cursor, view, pair_id) if pair_id else None
    _show_status(desk, settings, view, cursor, at)
    for problem in (st.session_state["problem"], desk.verdicts.trouble):
        if problem:
            text.error(problem)
    pair = tables.card(cursor, pair_id) if pair_id else None
    if pair is None and pair_id:
        text.error(f"The store has no pair {pair_id}; this is the first of the view instead.")
        pair_id = st.session_state["pair_id"] = _first(cursor, view)
        at = views.position(cursor, view, pair_id) if pair_id else None
        pair = tables.card(cursor, pair_id) if pair_id else None
    if pair is None:
        text.info("No pair is left in this view; clear the filter to see the others.")
        verdict_buttons.show_undo(desk, settings)
    else:
        shown = verdict_buttons.on_screen(settings, pair, view, at or 0)
        _show_card(desk, settings, cursor, shown, ground)
        verdict_buttons.show_verdict_row(desk, settings, shown)
        _prepare_next(desk, cursor, view, at or 0)
    page.show_news()
    # Tests wait for this: everything above is drawn, and for this pair.
    st.html(f'<span id="desk-ready" data-pair="{text.escape(pair_id or "")}" hidden></span>')


def _show_status(
    desk: Desk, settings: state.Settings, view: View, cursor: Connection, at: int | None
) -> None:
    pair_id, pairs = st.session_state["pair_id"], views.count(cursor, view)
    number = views.place(cursor, view, pair_id, at) if at is not None else None
    place = f"outside this view of {pairs:,}" if number is None else f"{number:,} of {pairs:,}"
    done, of = views.count_judged(cursor, view), views.count_all(cursor, view)
    note = f"{done:,} of {of:,} with a verdict"
    saved = desk.verdicts.saved(settings.curator)
    text.show_status(place, note, saved, done / of if of else 0.0, keys=True)
    if phrases := text.limits(view):
        st.button(
            text.escape_markdown(" · ".join(phrases)),
            icon=":material/close:",
            icon_position="right",
            key="clear-filter",
            on_click=lambda: state.show(View(run=view.run)),
            help="Show every pair again",
        )


def _first(cursor: Connection, view: View) -> str | None:
    """The first pair without a verdict, else the first pair."""
    first_open = views.neighbour(cursor, view, 0, open_only=True)
    return first_open or views.neighbour(cursor, view, 0)


def _show_card(
    desk: Desk, settings: state.Settings, cursor: Connection, shown: OnScreen, ground: Ground
) -> None:
    pair = shown.pair
    pair_card.show_prompt(pair["prompt"])
    images = [image_cache.image(desk.store, pair[side]) for side in shown.sides]
    blurred = pair_card.is_blurred(pair)
    pair_card.show_images(images, shown.sides, pair, blind=shown.blind, blurred=blurred)
    if shown.blind:
        pair_card.show_blind_chips()
        return
    visits = ell_series.ell_by_visit(cursor, pair["nth"], pair["label"]) if desk.run else []
    agreement = queue.more_columns(desk, pair["pair_id"], _AGREEMENT)
    verdicts = {
        curator: verdict_of(row["choice"], pair["label"])
        for curator, row in desk.verdicts.by_curator(pair["pair_id"]).items()
    }
    # Without a preference ell has no sign, and there is no curve.
    decided = is_decided(pair["label"])
    curve = pair_card.ell_curve(visits, desk.series, ground) if decided else ""
    pair_card.show_chips(pair, agreement, verdicts, settings.curator, curve)


def _prepare_next(desk: Desk, cursor: Connection, view: View, at: int) -> None:
    """Decode the images of the pair that comes after a verdict."""
    following = views.neighbour(cursor, view, at, open_only=True)
    for pair in tables.cards(cursor, [following]) if following else []:
        image_cache.prefetch(desk.store, [pair["image_0"], pair["image_1"]])
