"""The page Queue: the most suspicious pairs one by one, each answered with a verdict."""

from typing import Any

import streamlit as st

from app.desk import bulk_verdicts, page, state
from app.desk.components import judge, pair_card, text
from app.desk.components.judge import Action, Card
from app.desk.page import Page
from app.desk.queries import queue
from app.desk.queries.connection import Desk, current, runs_with_queue
from app.desk.views.getting_started import ingest_command, needs, show_needs, summarize
from app.desk.views.sidebar import show_sidebar
from toolkit.colors import Ground
from toolkit.files.atomic import parts
from toolkit.ids import short_hash
from toolkit.preference import is_decided
from toolkit.store import Store
from toolkit.store.connection import Connection
from toolkit.store.queue import tables, views
from toolkit.store.queue.views import View
from toolkit.store.verdicts import verdict_of

_AGREEMENT = ("agreement.votes", "agreement.against")


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The page, or what the store still needs."""
    if settings.run and settings.run not in runs_with_queue(store):
        show_needs(store, summarize(store), settings.run)
        return
    desk, _ = current(store, settings)
    if not desk.pairs:
        show_needs(store, summarize(store))
        return
    show_sidebar(desk, settings, ground)
    if not parts(store.folder("images")):
        text.info(
            f"The store has no images; type `{ingest_command(store)}` to add them. You can still "
            "give verdicts."
        )
    if not desk.run:
        missing = next(need for need in needs(store, summarize(store)) if not need.there)
        st.html(
            '<p class="desk-quiet desk-tight">No run has scored these pairs yet, so they are in '
            f"the order of their ids. Next: <code>{text.escape(missing.command)}</code></p>"
        )
    _show_pairs(desk, settings, ground)


@st.fragment
def _show_pairs(desk: Desk, settings: state.Settings, ground: Ground) -> None:
    """All that a verdict redraws."""
    with st.container(key="pair", gap=None), page.errors_as_text():
        _draw(desk, settings, ground)


def _draw(desk: Desk, settings: state.Settings, ground: Ground) -> None:
    desk.verdicts.refresh()  # what other curators have published
    view = state.view()
    cursor = desk.cursor(view)
    pair_id = st.session_state["pair_id"]
    if pair_id and tables.card(cursor, pair_id) is None:
        text.error(f"The store has no pair {pair_id}; this is the first of the view instead.")
        pair_id = None
    pair_id = pair_id or _first(desk, cursor, view, settings.curator)
    st.session_state["pair_id"] = pair_id
    for problem in (st.session_state["problem"], desk.verdicts.trouble):
        if problem:
            text.error(problem)
    _show_filter(view)
    deck = _deck(desk, cursor, view, pair_id, settings.curator)
    scope = ("queue", desk.serial, view, st.session_state["chart"])
    look = (scope, st.session_state.get("blind"), st.session_state.get("blur"), desk.series, ground)
    known = judge.link().offered if st.session_state.get("deck-look") == look else {}
    st.session_state["deck-look"] = look
    cards = [
        known[other]
        if place and other in known
        else _card(desk, settings, cursor, view, other, ground)
        for place, other in enumerate(deck)
    ]
    done, of = views.count_judged(cursor, view), views.count_all(cursor, view)
    note = f"{done:,} of {of:,} with a verdict"
    saved = judge.saved_line(desk, settings)
    judge.show(
        desk,
        settings,
        "queue",
        cards,
        _acts(desk, settings),
        scope=scope,
        status=judge.status(note, saved, done / of if of else 0.0, f"0 of {of:,}"),
        undo=bulk_verdicts.newest(desk.verdicts, settings.curator),
        empty="No pair is left in this view; clear the filter to see the others.",
        reasons=judge.REASONS,
        moves=True,
    )
    page.show_news()


def _show_filter(view: View) -> None:
    if phrases := text.limits(view):
        st.button(
            text.escape_markdown(" · ".join(phrases)),
            icon=":material/close:",
            icon_position="right",
            key="clear-filter",
            on_click=lambda: state.show(View(run=view.run)),
            help="Show every pair again",
        )


def _first(desk: Desk, cursor: Connection, view: View, curator: str) -> str | None:
    """The first pair to judge, else the first pair."""
    following = _open_pairs(desk, cursor, view, 0, curator, 1)
    return following[0] if following else views.neighbour(cursor, view, 0)


def _deck(
    desk: Desk, cursor: Connection, view: View, pair_id: str | None, curator: str
) -> list[str]:
    """The pair on screen and the next ones to judge, which are then not dealt to others."""
    if pair_id is None:
        return []
    at = views.position(cursor, view, pair_id) or 0
    following = _open_pairs(desk, cursor, view, at, curator, judge.DECK)
    deck = [pair_id, *(name for name in following if name != pair_id)][: judge.DECK]
    desk.verdicts.hold(curator, deck)
    return deck


def _open_pairs(
    desk: Desk, cursor: Connection, view: View, after: int, curator: str, limit: int
) -> list[str]:
    """Pairs without a verdict after a position, then from the beginning; those in front of other
    curators only where there are no others."""
    in_front = desk.verdicts.held_by_others(curator)
    open_pairs: list[str] = []
    for start in (after, 0) if after else (0,):
        open_pairs += views.open_pairs(cursor, view, start, limit + len(in_front))
    open_pairs = list(dict.fromkeys(open_pairs))
    free = [pair_id for pair_id in open_pairs if pair_id not in in_front]
    return (free or open_pairs)[:limit]


def _card(
    desk: Desk,
    settings: state.Settings,
    cursor: Connection,
    view: View,
    pair_id: str,
    ground: Ground,
) -> Card:
    """The pair as it is shown; blind, without its label and all that is known of it."""
    pair = tables.card(cursor, pair_id)
    assert pair is not None
    blind = bool(st.session_state.get("blind"))
    seen = {"run": desk.run}
    if not blind:
        seen |= {name: pair[name] for name in ("confidence", "stability", "minority", "label")}
    return judge.make_card(
        pair,
        desk.label_set,
        seen,
        place=_place(cursor, view, pair_id),
        blind=blind,
        swapped=blind and is_swapped(settings.curator, pair_id),
        own=None if blind else desk.verdicts.by_curator(pair_id).get(settings.curator),
        chips=pair_card.BLIND_CHIPS if blind else _chips(desk, settings, cursor, pair, ground),
    )


def _place(cursor: Connection, view: View, pair_id: str) -> str:
    pairs, number = views.count(cursor, view), views.place(cursor, view, pair_id)
    return f"outside this view of {pairs:,}" if number is None else f"{number:,} of {pairs:,}"


def _chips(
    desk: Desk, settings: state.Settings, cursor: Connection, pair: dict[str, Any], ground: Ground
) -> str:
    verdicts = {
        curator: verdict_of(row["choice"], pair["label"])
        for curator, row in desk.verdicts.by_curator(pair["pair_id"]).items()
    }
    curve = ""
    # Without a preference ell has no sign, and there is no curve.
    if is_decided(pair["label"]):
        visits = tables.ell_by_visit(cursor, pair["nth"], pair["label"]) if desk.run else []
        curve = pair_card.ell_curve(visits, desk.series, ground)
    agreement = queue.more_columns(desk, pair["pair_id"], _AGREEMENT)
    return pair_card.chips(pair, agreement, verdicts, settings.curator, curve)


def is_swapped(curator: str, pair_id: str) -> bool:
    """Whether this curator sees image_1 on the left when blind: true for half of the pairs."""
    return short_hash("sides", curator, pair_id)[0] in "abcdefghijklmnop"  # half of its 32 signs


def _acts(desk: Desk, settings: state.Settings) -> judge.Acts:
    """What the curator may do here."""

    def verdict(action: Action) -> None:
        view = state.view()
        cursor, pair_id = desk.cursor(view), action["pair"]
        at = views.position(cursor, view, pair_id) or 0
        judge.record(desk, settings, action)
        # The earlier cursor: a view that names verdicts has other numbers afterwards.
        if not views.moves(view):
            cursor = desk.cursor(view)
        following = _open_pairs(desk, cursor, view, at, settings.curator, 2)
        following = [name for name in following if name != pair_id]
        state.go_to(following[0] if following else None)
        if not following:
            if view.state == "open":
                st.session_state["pair_id"] = None
            st.session_state["news"] = "Every pair of this view has a verdict."

    def undo(action: Action) -> None:
        undone = bulk_verdicts.undo(
            desk.verdicts, settings.curator, pair=action.get("pair"), last=action.get("id")
        )
        state.go_to(undone[0] if undone else None)
        if len(undone) > 1:
            st.session_state["news"] = f"{len(undone):,} verdicts were undone."

    def go(action: Action) -> None:
        view, back = state.view(), bool(action["back"])
        cursor = desk.cursor(view)
        at = views.position(cursor, view, action["pair"]) or 0
        following = views.neighbour(cursor, view, at, back=back)
        state.go_to(following or action["pair"])
        if following is None:
            words = "This is the first pair." if back else "This is the last pair."
            st.session_state["news"] = words

    def blind(action: Action) -> None:
        del action
        st.session_state["blind"] = not st.session_state.get("blind")

    return {"verdict": verdict, "undo": undo, "go": go, "blind": blind}


PAGE = Page("queue", "Queue", ":material/view_carousel:", draw)
