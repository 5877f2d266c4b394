"""The page Grid: many pairs of the view at once, and one verdict for several of them."""

from typing import Any

import streamlit as st

from app.desk import bulk_verdicts, page, state
from app.desk.components import judge, pair_card, text
from app.desk.components.judge import Action, Card
from app.desk.queries import queue
from app.desk.queries.connection import Desk, current
from app.desk.views.getting_started import ingest_command
from app.desk.views.sidebar import show_sidebar
from toolkit.colors import Ground
from toolkit.store import Store
from toolkit.store.queue.views import View

SIZE = 24
"""Pairs on a page of the grid."""


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The page, or what an empty store needs."""
    page.load_style()
    desk, view = current(store, settings)
    if not desk.pairs:
        st.title("Grid")
        text.hint("The store has no pairs yet.", ingest_command(store))
        return
    if st.session_state.get("grid-view") != view:
        st.session_state["grid-view"], st.session_state["grid-at"] = view, (0, False)
    show_sidebar(desk, settings, ground)
    st.fragment(_body)(desk, settings, view)


def _body(desk: Desk, settings: state.Settings, view: View) -> None:
    with page.errors_as_text():
        after, back = st.session_state["grid-at"]
        pairs = queue.page(desk, view, after, SIZE, back=back)
        if not pairs.pair_ids and pairs.count:  # this page's pairs got verdicts and left the view
            st.session_state["grid-at"] = (0, False)
            pairs = queue.page(desk, view, 0, SIZE)
        _head(desk, settings, view, pairs)
        if problem := st.session_state["problem"]:
            text.error(problem)
        last = pairs.first + len(pairs.pair_ids) - 1
        place = f"{pairs.first:,} to {last:,} of {pairs.count:,}"
        saved = judge.saved_line(desk, settings)
        judge.show(
            desk,
            settings,
            "grid",
            [_card(desk, pair) for pair in queue.cards(desk, pairs.pair_ids)],
            _acts(desk, settings),
            scope=("grid", desk.serial, view, st.session_state["chart"]),
            size="small",
            status=judge.status(text.describe_view(view), saved, 0.0, place),
            undo=bulk_verdicts.newest(desk.verdicts, settings.curator),
            empty="No pair is left in this view; clear the filter to see the others.",
            answers=[
                {"word": verdict.capitalize(), "key": key, "verdict": verdict,
                 "help": judge.MEANINGS[verdict]}
                for verdict, key in judge.KEYS.items()
            ],
            before=pairs.before,
            after=pairs.after,
        )  # fmt: skip
        page.show_news()
    if pair_id := st.session_state.pop("grid-open", None):
        state.open_page("pair", pair=pair_id)


def _head(desk: Desk, settings: state.Settings, view: View, pairs: queue.Pairs) -> None:
    """The way to the Queue, and one verdict for the whole view."""
    with st.container(horizontal=True, vertical_alignment="center", key="grid-head"):
        page.page_link("queue", "Judge in the Queue", icon=":material/view_carousel:")
        with st.popover(f"All {pairs.count:,} of this view", disabled=not pairs.count):
            _whole_view(desk, settings, view, pairs.count)


def _whole_view(desk: Desk, settings: state.Settings, view: View, count: int) -> None:
    """One verdict for every pair of the view, after its counts and a confirmation."""
    verdict = st.radio("Verdict for every pair of this view", list(judge.KEYS), key="grid-whole",
                       horizontal=True)  # fmt: skip
    text.quiet(text.escape(text.describe_view(view)))
    mine = bulk_verdicts.replaced(desk, view, settings.curator)
    if mine:
        text.warning(f"{mine:,} of these pairs have a verdict of yours, which this one replaces.")
    key = f"grid-sure-{verdict}-{count}-{mine}-{view.table}-{view.state}"
    sure = st.checkbox(f"Yes, {verdict} for all {count:,} pairs", key=key)

    def save() -> None:
        result = bulk_verdicts.save_view(
            desk, view, verdict, settings.curator, confirmed=(count, mine)
        )
        st.session_state["problem"], st.session_state["news"] = "", result.sentence()
        st.session_state[key] = False

    st.button(f"Save {verdict} for {count:,} pairs", type="primary", disabled=not sure,
              on_click=page.callback(save), key="grid-whole-save")  # fmt: skip


def _acts(desk: Desk, settings: state.Settings) -> judge.Acts:
    """What the curator may do here."""

    def verdicts(action: Action) -> None:
        pair_ids = [judge.link().card({"pair": pair_id}).pair_id for pair_id in action["pairs"]]
        seen = {"page": "grid"}
        result = bulk_verdicts.save(desk, pair_ids, action["verdict"], settings.curator, seen)
        st.session_state["news"] = result.sentence()

    def undo(action: Action) -> None:
        undone = bulk_verdicts.undo(desk.verdicts, settings.curator, last=action["id"])
        word = "verdict was" if len(undone) == 1 else "verdicts were"
        st.session_state["news"] = f"{len(undone):,} {word} undone."

    def turn(action: Action) -> None:
        st.session_state["grid-at"] = (int(action["at"]), bool(action["back"]))

    def open_pair(action: Action) -> None:
        st.session_state["grid-open"] = judge.link().card(action).pair_id

    return {"verdicts": verdicts, "undo": undo, "turn": turn, "open": open_pair}


def _card(desk: Desk, pair: dict[str, Any]) -> Card:
    """A pair of the grid, with its u and its verdict."""
    verdict = pair_card.verdict_chip(pair["verdict"]) if pair["verdict"] else ""
    u = text.number(pair["minority"])
    chips = f'<span class="desk-chip"><i>u</i><b>{u}</b></span>{verdict}'
    link = state.link("pair", pair=pair["pair_id"])
    return judge.make_card(pair, desk.label_set, {"page": "grid"}, chips=chips, link=link)


PAGE = page.Page("grid", "Grid", ":material/apps:", draw)
