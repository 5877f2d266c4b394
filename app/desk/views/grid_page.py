"""The page Grid: many pairs of the view at once, and one verdict for several of them."""

from typing import Any

import streamlit as st

from app.desk import bulk_verdicts, page, state
from app.desk.components import pair_card, text
from app.desk.image_cache import ShownImage, thumbnails
from app.desk.queries import queue
from app.desk.queries.connection import Desk, current
from app.desk.views.getting_started import ingest_command
from app.desk.views.sidebar import show_sidebar
from app.desk.views.verdict_buttons import KEYS
from toolkit.colors import Ground
from toolkit.store import Store
from toolkit.store.queue.views import View
from toolkit.store.verdicts import Verdict

SIZE = 24
"""Pairs on a page of the grid."""
_COLUMNS = 4
_SIDE = 160
"""Pixels of an image."""


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
        st.session_state["grid-selected"] = frozenset()
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
        if not pairs.pair_ids:
            text.info("No pair is left in this view; clear the filter to see the others.")
        else:
            _cells(desk, pairs)
        page.show_news()
        st.html(f'<span id="grid-ready" data-first="{pairs.first}" hidden></span>')


def _head(desk: Desk, settings: state.Settings, view: View, pairs: queue.Pairs) -> None:
    """Place and pages, the verdicts for the selection, and those for the whole view."""
    last = pairs.first + len(pairs.pair_ids) - 1
    saved = text.saved_line(desk.verdicts.saved(settings.curator))
    with st.container(horizontal=True, vertical_alignment="center", key="grid-head"):
        st.html(
            f'<span class="desk-place">{pairs.first:,} to {last:,} of {pairs.count:,}</span> '
            f'<span class="desk-quiet">{text.escape(text.describe_view(view))}</span>'
            f'<br><span class="desk-quiet" id="desk-saved">{saved}</span>'
        )
        page.page_link("queue", "Judge in the Queue", icon=":material/view_carousel:")
        _turn_button("Previous", "Left", pairs.before, True)
        _turn_button("Next", "Right", pairs.after, False)
    with st.container(horizontal=True, vertical_alignment="center", key="grid-acts"):
        _selection_buttons(desk, settings, pairs)
        action = bulk_verdicts.newest(desk.verdicts, settings.curator)
        count = len(action.rows) if action else 0
        st.button(
            f"Undo {count:,} verdicts" if count > 1 else "Undo",
            key="grid-undo", shortcut="Z", type="tertiary", disabled=not count,
            on_click=page.callback(_undo), args=(desk, settings),
        )  # fmt: skip
        with st.popover(f"All {pairs.count:,} of this view", disabled=not pairs.count):
            _whole_view(desk, settings, view, pairs.count)


def _turn_button(word: str, key: str, position: int | None, back: bool) -> None:
    def turn() -> None:
        st.session_state["grid-at"] = (position, back)

    st.button(word, key=f"grid-{word}", shortcut=key, type="tertiary", disabled=position is None,
              on_click=turn)  # fmt: skip


def _selection_buttons(desk: Desk, settings: state.Settings, pairs: queue.Pairs) -> None:
    selected: frozenset[str] = st.session_state["grid-selected"]
    st.html(f'<span class="desk-place" id="grid-selected">{len(selected):,} selected</span>')
    for verdict, key in KEYS.items():
        st.button(
            verdict.capitalize(),
            key=f"grid-{verdict}",
            shortcut=key,
            disabled=not selected,
            on_click=page.callback(_save),
            args=(desk, settings, verdict),
        )
    st.button("Select page", key="grid-all", shortcut="A", type="tertiary",
              on_click=_select, args=(selected | set(pairs.pair_ids),))  # fmt: skip
    st.button("Select none", key="grid-none", shortcut="N", type="tertiary",
              disabled=not selected, on_click=_select, args=(frozenset(),))  # fmt: skip


def _select(pair_ids: frozenset[str]) -> None:
    st.session_state["grid-selected"] = frozenset(pair_ids)
    # A checkbox keeps the value it was created with; only one with another key gets a new value.
    st.session_state["grid-version"] = st.session_state.get("grid-version", 0) + 1


def _save(desk: Desk, settings: state.Settings, verdict: Verdict) -> None:
    pair_ids = sorted(st.session_state["grid-selected"])  # a tick may be newer than the buttons
    result = bulk_verdicts.save(desk, pair_ids, verdict, settings.curator, {"page": "grid"})
    _select(frozenset())
    st.session_state["problem"], st.session_state["news"] = "", result.sentence()


def _undo(desk: Desk, settings: state.Settings) -> None:
    count = len(bulk_verdicts.undo(desk.verdicts, settings.curator))
    word = "verdict was" if count == 1 else "verdicts were"
    st.session_state["problem"], st.session_state["news"] = "", f"{count:,} {word} undone."


def _whole_view(desk: Desk, settings: state.Settings, view: View, count: int) -> None:
    """One verdict for every pair of the view, after a count and a confirmation."""
    verdict = st.radio("Verdict for every pair of this view", list(KEYS), key="grid-whole",
                       horizontal=True)  # fmt: skip
    text.quiet(text.escape(text.describe_view(view)))
    key = f"grid-sure-{verdict}-{count}-{view.table}-{view.state}"
    sure = st.checkbox(f"Yes, {verdict} for all {count:,} pairs", key=key)

    def save() -> None:
        result = bulk_verdicts.save_view(desk, view, verdict, settings.curator, confirmed=count)
        _select(frozenset())
        st.session_state["problem"], st.session_state["news"] = "", result.sentence()
        st.session_state[key] = False

    st.button(f"Save {verdict} for {count:,} pairs", type="primary", disabled=not sure,
              on_click=page.callback(save), key="grid-whole-save")  # fmt: skip


def _cells(desk: Desk, pairs: queue.Pairs) -> None:
    cards = queue.cards(desk, pairs.pair_ids)
    shown = thumbnails(
        desk.store, [card[slot] for card in cards for slot in pair_card.SLOTS], _SIDE
    )
    for start in range(0, len(cards), _COLUMNS):
        row = cards[start : start + _COLUMNS]
        for column, pair in zip(st.columns(_COLUMNS), row, strict=False):
            with column:
                _cell(pair, (shown[pair["image_0"]], shown[pair["image_1"]]))


def _cell(pair: dict[str, Any], images: tuple[ShownImage, ShownImage]) -> None:
    pair_id = pair["pair_id"]
    selected = pair_id in st.session_state["grid-selected"]
    st.html(cell_markup(pair, images, selected=selected, blurred=pair_card.is_blurred(pair)))
    key = f"select-{pair_id}-{st.session_state.get('grid-version', 0)}"

    def toggle() -> None:
        before = st.session_state["grid-selected"]
        st.session_state["grid-selected"] = (
            before | {pair_id} if st.session_state[key] else before - {pair_id}
        )

    with st.container(horizontal=True, vertical_alignment="center"):
        st.checkbox(f"Select {pair_id}", value=selected, key=key, on_change=toggle)
        page.page_link("pair", "Open", pair=pair_id)


def cell_markup(
    pair: dict[str, Any],
    images: tuple[ShownImage, ShownImage],
    *,
    selected: bool = False,
    blurred: bool = False,
) -> str:
    """A pair as HTML: both images, the chosen one framed, prompt, u and verdict."""
    figures = "".join(
        _figure(slot, image, mark)
        for slot, image, mark in zip(
            pair_card.SLOTS, images, pair_card.marks(pair["label"]), strict=True
        )
    )
    verdict = pair_card.verdict_chip(pair["verdict"]) if pair["verdict"] else ""
    u = text.number(pair["minority"])
    prompt = text.escape(pair["prompt"]) or "(no prompt)"
    kind = f"desk-cell{' picked' if selected else ''}{' blurred' if blurred else ''}"
    return (
        f'<div class="{kind}" data-pair="{text.escape(pair["pair_id"])}">'
        f'<div class="desk-twins">{figures}</div>'
        f'<p class="desk-line" dir="auto" title="{prompt}">{prompt}</p>'
        f'<div class="desk-wrap"><span class="desk-chip"><i>u</i><b>{u}</b></span>{verdict}</div>'
        "</div>"
    )


def _figure(slot: str, image: ShownImage, mark: str) -> str:
    if image.problem:
        inside = f'<span class="desk-quiet">{text.escape(image.problem)}</span>'
    else:
        inside = pair_card.image_tag(image, f"{slot}, {mark}")
    return (
        f'<figure class="{pair_card.mark_class(mark)}">{inside}<figcaption>{mark}</figcaption>'
        "</figure>"
    )


PAGE = page.Page("grid", "Grid", ":material/apps:", draw)
