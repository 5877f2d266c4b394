"""The verdict buttons and their keys, how a pair is looked at, and what each button does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import streamlit as st

from app.desk import bulk_verdicts, image_cache, page, state
from app.desk.components import pair_card
from app.desk.components.pair_card import SLOTS
from app.desk.queries.connection import Desk
from toolkit.ids import short_hash
from toolkit.preference import is_decided
from toolkit.store.connection import Connection
from toolkit.store.journal import Choice, Entry
from toolkit.store.queue import views
from toolkit.store.queue.views import View
from toolkit.store.verdicts import Verdict, choice_of

Answer: TypeAlias = tuple[str, str, Choice]
"""Word, key and choice of a button."""

KEYS: dict[Verdict, str] = {"keep": "K", "flip": "F", "tie": "T", "drop": "D", "unsure": "U"}

REASONS = ("wrong image", "both bad", "near equal", "prompt unclear", "unsafe", "text or hands")
"""Tags that a curator may give as reasons."""

_BY_SLOT: tuple[Answer, ...] = (("image_0", "0", "image_0"), ("image_1", "1", "image_1"))


def answers(label: float | None, by_side: Sequence[Answer] = _BY_SLOT) -> list[Answer]:
    """The answers to a pair.

    A label without a preference can be neither kept nor flipped; `by_side` replaces these two.
    """
    decided = is_decided(label)
    verdicts: list[Answer] = [
        (verdict.capitalize(), key, choice_of(verdict, label))
        for verdict, key in KEYS.items()
        if decided or verdict not in ("keep", "flip")
    ]
    return verdicts if decided else [*by_side, *verdicts]


def show_buttons(
    name: str, buttons: Sequence[tuple[str, str, Any]], act: Callable[..., None], *arguments: Any
) -> None:
    """A row of buttons (word, key, value); `act(*arguments, value)` is called for the pressed one.

    `name` contains the pair, so that a key pressed while the page changes counts for the pair that
    was seen, or not at all.
    """
    for column, (word, key, value) in zip(st.columns(len(buttons)), buttons, strict=True):
        column.button(
            word,
            width="stretch",
            key=f"{word}-{name}",
            shortcut=key or None,
            on_click=page.callback(act),
            args=(*arguments, value),
        )


@dataclass(frozen=True)
class OnScreen:
    """A pair as it is on screen."""

    pair: dict[str, Any]
    """As in `tables.card`."""
    view: View
    at: int
    """The pair's position in the view."""
    sides: tuple[str, str]
    """The slots from left to right."""
    blind: bool

    def record(self, run: str) -> dict[str, Any]:
        """What the curator saw, saved with the verdict: scores and label only if not blind."""
        seen = {"run": run, "sides": list(self.sides), "blind": self.blind}
        if not self.blind:
            names = ("confidence", "stability", "minority", "label")
            seen |= {name: self.pair[name] for name in names}
        return seen


def on_screen(settings: state.Settings, pair: dict[str, Any], view: View, at: int) -> OnScreen:
    """How the pair is shown: blind sides depend on pair and curator only, so they do not change."""
    pair_id, blind = pair["pair_id"], bool(st.session_state.get("blind"))
    swapped = blind and is_swapped(settings.curator, pair_id)
    swapped ^= st.session_state.get("swapped") == pair_id
    return OnScreen(pair, view, at, (SLOTS[1], SLOTS[0]) if swapped else SLOTS, blind)


def is_swapped(curator: str, pair_id: str) -> bool:
    """Whether this curator sees image_1 on the left when blind: true for half of the pairs."""
    return short_hash("sides", curator, pair_id)[0] in "abcdefghijklmnop"  # half of its 32 signs


def show_verdict_row(desk: Desk, settings: state.Settings, shown: OnScreen) -> None:
    """The verdict buttons of the Queue, then reasons, note, and ways to look at the pair."""
    name, label = shown.pair["pair_id"], shown.pair["label"]
    own = desk.verdicts.by_curator(name).get(settings.curator) or {}
    with st.container(horizontal=True, key="verdicts", gap="small"):
        _button("Back", "Left", name, _move, desk, shown, True)
        for word, key, choice in _answers(label, shown):
            current = own.get("choice") == choice and not shown.blind
            kind = "primary" if current else "secondary"
            _button(word, key, name, _record, desk, settings, shown, choice, kind=kind)
        _button("Undo", "Z", name, _undo, desk, settings)
        _button("Next", "Right", name, _move, desk, shown, False)
    with st.container(horizontal=True, key="aside", gap="small", vertical_alignment="center"):
        st.pills(
            "Reasons",
            REASONS,
            selection_mode="multi",
            default=[tag for tag in own.get("reasons") or [] if tag in REASONS],
            key=f"reasons-{name}",
            label_visibility="collapsed",
        )
        st.text_input(
            "Note",
            value=own.get("note") or "",
            key=f"note-{name}",
            placeholder="Note, saved with the verdict",
            label_visibility="collapsed",
            max_chars=500,
        )
        if pair_card.is_blurred(shown.pair):
            pair_card.show_uncover_button(name)
        _button("Swap", "S", name, _swap, name, width="content")
        _button("End blind" if shown.blind else "Blind", "B", name, _toggle_blind, width="content")
        if st.button("Zoom", key=f"Zoom-{name}", shortcut="O", type="tertiary"):
            _zoom(desk, shown)


def show_undo(desk: Desk, settings: state.Settings) -> None:
    """The verdict row if no pair is left."""
    with st.container(horizontal=True, key="verdicts", gap="small"):
        _button("Undo", "Z", "none", _undo, desk, settings)


def _answers(label: float | None, shown: OnScreen) -> list[Answer]:
    """The answers to a pair on screen; when blind, an image instead of keep and flip."""
    left, right = shown.sides
    by_side: list[Answer] = [
        ("Left", "1", left),  # type: ignore[list-item]
        ("Right", "2", right),  # type: ignore[list-item]
    ]
    if shown.blind:
        return [*by_side, ("Tie", "T", "tie"), ("Unsure", "U", "unsure")]
    return answers(label, by_side)


def _button(
    word: str,
    key: str,
    name: str,
    act: Callable[..., None],
    *arguments: Any,
    kind: str = "tertiary",
    width: str = "stretch",
) -> None:
    """One button of the verdict row; for `name` see `show_buttons`."""
    st.button(
        word,
        width=width,
        key=f"{word}-{name}",
        shortcut=key,
        type=kind,
        on_click=page.callback(act),
        args=arguments,
    )


def _record(desk: Desk, settings: state.Settings, shown: OnScreen, choice: Choice) -> None:
    """Save a verdict and go to the next pair without one; if saving fails, the pair stays."""
    name, view = shown.pair["pair_id"], shown.view
    cursor = desk.cursor(view)
    entry = Entry(
        name,
        settings.curator,
        choice,
        desk.label_set,
        reasons=tuple(st.session_state.get(f"reasons-{name}") or ()),
        note=(st.session_state.get(f"note-{name}") or "").strip(),
        shown=shown.record(desk.run),
    )
    desk.verdicts.record([entry])
    # The earlier cursor: a view that names verdicts has other numbers after this one.
    following = _open_after(desk, cursor, shown)
    state.go_to(following)
    if following is None:
        if view.state == "open":
            st.session_state["pair_id"] = None
        st.session_state["news"] = "Every pair of this view has a verdict."


def _open_after(desk: Desk, cursor: Connection, shown: OnScreen) -> str | None:
    """The next pair without a verdict after the one on screen, then from the beginning."""
    if not views.moves(shown.view):
        cursor = desk.cursor(shown.view)
    for start in (shown.at, 0):
        following = views.neighbour(cursor, shown.view, start, open_only=True)
        if following and following != shown.pair["pair_id"]:
            return following
    return None


def _undo(desk: Desk, settings: state.Settings) -> None:
    """Undo the last verdict, or the last one on many pairs, and return to its pair."""
    undone = bulk_verdicts.undo(desk.verdicts, settings.curator)
    state.go_to(undone[0] if undone else None)
    if len(undone) > 1:
        st.session_state["news"] = f"{len(undone):,} verdicts were undone."
    if not undone:
        st.session_state["news"] = "You have no verdict to undo."


def _move(desk: Desk, shown: OnScreen, back: bool) -> None:
    following = views.neighbour(desk.cursor(shown.view), shown.view, shown.at, back=back)
    state.go_to(following)
    if following is None:
        st.session_state["news"] = "This is the first pair." if back else "This is the last pair."


def _swap(pair_id: str) -> None:
    swapped = st.session_state.get("swapped") == pair_id
    st.session_state["swapped"] = None if swapped else pair_id


def _toggle_blind() -> None:
    st.session_state["blind"] = not st.session_state.get("blind")


@st.dialog("Full size", width="large")
def _zoom(desk: Desk, shown: OnScreen) -> None:
    """Both originals; a click on one shows its pixels."""
    names = ("left", "right") if shown.blind else shown.sides
    originals = [image_cache.original(desk.store, shown.pair[side]) for side in shown.sides]
    pair_card.show_zoomed(list(zip(names, originals, strict=True)))
