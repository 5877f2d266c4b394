"""The page Grid: many pairs of the view at once, several answered with one verdict."""

from typing import Any

import streamlit as st

from app.desk import bulk_verdicts as giving
from app.desk import page as frame
from app.desk import state
from app.desk.components import messages as notice
from app.desk.components import page, verdict_row
from app.desk.components import status_bar as view_words
from app.desk.components.card import marks
from app.desk.components.html_text import literal, number
from app.desk.image_cache import Picture, thumbnails
from app.desk.queries import queue as data
from app.desk.queries.queue import Desk
from app.desk.views import sidebar as filters
from toolkit.colors import VERDICT_COLOURS, Ground
from toolkit.store import Store
from toolkit.store.queue.view import View
from toolkit.store.verdicts import Verdict

SIZE = 24
"""Pairs on a page of the grid."""
_ACROSS = 4
_SIDE = 160
# Streamlit's shortcuts pass over keys pressed in a field, and a box that was just ticked is one.
BOXES = """<script>
if (!window.outvotedBoxes) {
  window.outvotedBoxes = true;
  window.addEventListener("keydown", (event) => {
    const box = event.target.type === "checkbox";
    if (!box || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!/^[a-z]$/i.test(event.key)) return;
    event.stopImmediatePropagation();
    if (event.repeat) return;
    const { key, code } = event;
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, code, bubbles: true }));
  }, true);
}
</script><span hidden></span>"""
_VERDICTS: tuple[Verdict, ...] = ("keep", "flip", "tie", "drop", "unsure")


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The whole page, or the sentence of an empty store."""
    page.look()
    desk, view = data.current(store, settings)
    if not desk.pairs:
        st.title("Grid")
        notice.news("The store holds no pairs yet. Type in a terminal:")
        notice.command(f"outvoted ingest KIND PATH --store {notice.path(store.root)}")
        return
    if st.session_state.get("grid-view") != view:
        st.session_state["grid-view"], st.session_state["grid-at"] = view, (0, False)
        st.session_state["grid-picked"] = frozenset()
    filters.draw(desk, settings, ground)
    with st.sidebar:
        st.html(BOXES, unsafe_allow_javascript=True)
    st.fragment(_body)(desk, settings, view)


def _body(desk: Desk, settings: state.Settings, view: View) -> None:
    with frame.sentences():
        after, back = st.session_state["grid-at"]
        found = data.page(desk, view, after, SIZE, back=back)
        if not found.pair_ids and found.count:  # judged away from a view that shows open ones
            st.session_state["grid-at"] = (0, False)
            found = data.page(desk, view, 0, SIZE)
        _head(desk, settings, view, found)
        if problem := st.session_state["problem"]:
            notice.sentence(problem)
        if not found.pair_ids:
            notice.news("No pair is left in this view; clear the filter to see the others.")
        else:
            _cells(desk, found)
        if st.session_state["news"]:
            st.toast(notice.plain(st.session_state["news"]))
            st.session_state["news"] = ""
        st.html(f'<span id="grid-ready" data-first="{found.first}" hidden></span>')


def _head(desk: Desk, settings: state.Settings, view: View, found: data.Pairs) -> None:
    """Place and pages, the verdicts for what is picked, and those for the whole view."""
    picked: frozenset[str] = st.session_state["grid-picked"]
    last = found.first + len(found.pair_ids) - 1
    saved = desk.ledger.saved(settings.curator)
    with st.container(horizontal=True, vertical_alignment="center", key="grid-head"):
        st.html(
            f'<span class="desk-place">{found.first:,} to {last:,} of {found.count:,}</span>'
            f' <span class="desk-quiet">{literal(view_words.words(view))}</span>'
            f'<br><span class="desk-quiet" id="desk-saved">{view_words.saved(saved)}</span>'
        )
        frame.page_link("queue", "Judge in the Queue", icon=":material/view_carousel:")
        _turn("Previous", "Left", found.before, True)
        _turn("Next", "Right", found.after, False)
    with st.container(horizontal=True, vertical_alignment="center", key="grid-acts"):
        count = len(picked)
        st.html(f'<span class="desk-place" id="grid-picked">{count:,} selected</span>')
        for verdict, key in verdict_row.KEYS:
            st.button(
                verdict.capitalize(),
                key=f"grid-{verdict}",
                shortcut=key,
                disabled=not count,
                on_click=frame.told(_give),
                args=(desk, settings, verdict),
            )
        st.button("Select page", key="grid-all", shortcut="A", type="tertiary",
                  on_click=_pick, args=(picked | set(found.pair_ids),))  # fmt: skip
        st.button("Select none", key="grid-none", shortcut="N", type="tertiary",
                  disabled=not count, on_click=_pick, args=(frozenset(),))  # fmt: skip
        action = giving.newest(desk.ledger, settings.curator)
        many = len(action.rows) if action else 0
        st.button(
            f"Undo {many:,} verdicts" if many > 1 else "Undo",
            key="grid-undo", shortcut="Z", type="tertiary", disabled=not many,
            on_click=frame.told(_take_back), args=(desk, settings),
        )  # fmt: skip
        with st.popover(f"All {found.count:,} of this view", disabled=not found.count):
            _whole(desk, settings, view, found.count)


def _turn(word: str, key: str, position: int | None, back: bool) -> None:
    def turned() -> None:
        st.session_state["grid-at"] = (position, back)

    st.button(word, key=f"grid-{word}", shortcut=key, type="tertiary", disabled=position is None,
              on_click=turned)  # fmt: skip


def _pick(pair_ids: frozenset[str]) -> None:
    st.session_state["grid-picked"] = frozenset(pair_ids)
    # A box keeps what it was made with: only one of another name begins elsewhere.
    st.session_state["grid-made"] = st.session_state.get("grid-made", 0) + 1


def _give(desk: Desk, settings: state.Settings, verdict: Verdict) -> None:
    pair_ids = sorted(st.session_state["grid-picked"])  # a tick may be newer than the buttons
    given = giving.give(desk, pair_ids, verdict, settings.curator, {"page": "grid"})
    _pick(frozenset())
    st.session_state["problem"], st.session_state["news"] = "", given.sentence()


def _take_back(desk: Desk, settings: state.Settings) -> None:
    count = len(giving.take_back(desk.ledger, settings.curator))
    word = "verdict was" if count == 1 else "verdicts were"
    st.session_state["problem"], st.session_state["news"] = "", f"{count:,} {word} taken back."


def _whole(desk: Desk, settings: state.Settings, view: View, count: int) -> None:
    """One verdict for every pair of the view, behind a count and a confirmation."""
    verdict = st.radio("Verdict for every pair of this view", _VERDICTS, key="grid-whole",
                       horizontal=True)  # fmt: skip
    st.html(f'<p class="desk-quiet">{literal(view_words.words(view))}</p>')
    asked = f"grid-sure-{verdict}-{count}-{view.table}-{view.state}"
    sure = st.checkbox(f"Yes, {verdict} for all {count:,} pairs", key=asked)

    def give() -> None:
        given = giving.give_view(desk, view, verdict, settings.curator, sure_of=count)
        _pick(frozenset())
        st.session_state["problem"], st.session_state["news"] = "", given.sentence()
        st.session_state[asked] = False

    st.button(f"Save {verdict} for {count:,} pairs", type="primary", disabled=not sure,
              on_click=frame.told(give), key="grid-whole-save")  # fmt: skip


def _cells(desk: Desk, found: data.Pairs) -> None:
    pairs = data.cards(desk, found.pair_ids)
    images = [pair[f"image_{slot}"] for pair in pairs for slot in (0, 1)]
    shown = thumbnails(desk.store, images, _SIDE)
    for start in range(0, len(pairs), _ACROSS):
        for place, pair in zip(st.columns(_ACROSS), pairs[start : start + _ACROSS], strict=False):
            with place:
                _cell(pair, (shown[pair["image_0"]], shown[pair["image_1"]]))


def _cell(pair: dict[str, Any], images: tuple[Picture, Picture]) -> None:
    pair_id = pair["pair_id"]
    picked = pair_id in st.session_state["grid-picked"]
    st.html(cell_markup(pair, images, picked=picked, blurred=page.covered(pair)))
    name = f"pick-{pair_id}-{st.session_state.get('grid-made', 0)}"

    def changed() -> None:
        before = st.session_state["grid-picked"]
        st.session_state["grid-picked"] = (
            before | {pair_id} if st.session_state[name] else before - {pair_id}
        )

    with st.container(horizontal=True, vertical_alignment="center"):
        st.checkbox(f"Select {pair_id}", value=picked, key=name, on_change=changed)
        frame.page_link("pair", "Open", pair=pair_id)


def cell_markup(
    pair: dict[str, Any],
    images: tuple[Picture, Picture],
    *,
    picked: bool = False,
    blurred: bool = False,
) -> str:
    """A pair of the grid as HTML: both images, the label's choice framed, prompt, u, verdict."""
    cards = "".join(
        _card(slot, picture, word)
        for slot, picture, word in zip((0, 1), images, marks(pair["label"]), strict=True)
    )
    verdict = ""
    if pair["verdict"]:
        verdict = (
            f'<span class="desk-chip"><span class="desk-dot" style="background: '
            f'{VERDICT_COLOURS[pair["verdict"]]}"></span><b>{literal(pair["verdict"])}</b></span>'
        )
    prompt = literal(pair["prompt"]) or "(no prompt)"
    kind = f"desk-cell{' picked' if picked else ''}{' blurred' if blurred else ''}"
    return (
        f'<div class="{kind}" data-pair="{literal(pair["pair_id"])}">'
        f'<div class="desk-twins">{cards}</div>'
        f'<p class="desk-line" dir="auto" title="{prompt}">{prompt}</p>'
        f'<div class="desk-wrap"><span class="desk-chip"><i>u</i><b>{number(pair["minority"])}</b>'
        f"</span>{verdict}</div></div>"
    )


def _card(slot: int, picture: Picture, word: str) -> str:
    kind = word if word in ("chosen", "tie") else "plain"
    if picture.problem:
        inside = f'<span class="desk-quiet">{literal(picture.problem)}</span>'
    else:
        pixel = ' class="pixel"' if max(picture.width, picture.height) <= 128 else ""
        inside = f'<img src="{picture.source}" alt="image_{slot}, {word}"{pixel}>'
    return f'<figure class="{kind}">{inside}<figcaption>{word}</figcaption></figure>'
