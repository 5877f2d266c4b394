"""The verdict row of a pair: its buttons and keys, how the pair is looked at, and what they do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.desk import bulk_verdicts as giving
from app.desk import image_cache as pictures
from app.desk import page as frame
from app.desk import state
from app.desk.components import card, verdict_row
from app.desk.queries.queue import Desk
from toolkit.pairs import short_hash
from toolkit.store.queue import views as listing
from toolkit.store.queue.view import View
from toolkit.store.verdicts import Choice, Entry, verdict_of

REASONS = ("wrong image", "both bad", "near equal", "prompt unclear", "unsafe", "text or hands")
"""Tags that a curator may give as reasons."""
_SLOTS = ("image_0", "image_1")


@dataclass(frozen=True)
class Look:
    """How a pair is on screen."""

    sides: tuple[str, str]
    """The slots from left to right."""
    blind: bool
    hidden: bool
    """Its images are blurred: a source marks the pair as unsafe."""


def look(settings: state.Settings, pair: dict[str, Any]) -> Look:
    """How the pair is shown: blind sides are drawn by pair and curator, and stay as drawn."""
    pair_id, blind = pair["pair_id"], bool(st.session_state.get("blind"))
    turned = blind and turned_for(settings.curator, pair_id)
    turned ^= st.session_state.get("swapped") == pair_id
    covered = st.session_state.get("blur", True) and pair["unsafe"]
    hidden = bool(covered) and st.session_state.get("uncovered") != pair_id
    return Look(_SLOTS[::-1] if turned else _SLOTS, blind, hidden)


def turned_for(curator: str, pair_id: str) -> bool:
    """Whether image_1 stands left where this curator judges the pair blind: half the pairs."""
    return short_hash("sides", curator, pair_id)[0] in "abcdefghijklmnop"  # half of its 32 signs


def word_of(choice: str, label: float | None) -> str:
    """A standing choice in the words of the verdict row."""
    return verdict_of(choice, label)


def row(
    desk: Desk, settings: state.Settings, view: View, pair: dict[str, Any], look: Look, at: int
) -> None:
    """The buttons, then the reasons and ways of looking."""
    name, own = pair["pair_id"], desk.ledger.standing(pair["pair_id"]).get(settings.curator)
    with st.container(horizontal=True, key="verdicts", gap="small"):
        _button("Back", "Left", name, _move, desk, view, at, True, kind="tertiary")
        for word, key, choice in _answers(pair["label"], look):
            given = own is not None and own["choice"] == choice and not look.blind
            kind = "primary" if given else "secondary"
            _button(
                word, key, name, _record, desk, settings, view, pair, look, at, choice, kind=kind
            )
        _button("Undo", "Z", name, _undo, settings, kind="tertiary")
        _button("Next", "Right", name, _move, desk, view, at, False, kind="tertiary")
    with st.container(horizontal=True, key="aside", gap="small", vertical_alignment="center"):
        st.pills(
            "Reasons",
            REASONS,
            selection_mode="multi",
            default=[tag for tag in (own or {}).get("reasons") or [] if tag in REASONS],
            key=f"reasons-{name}",
            label_visibility="collapsed",
        )
        st.text_input(
            "Note",
            value=(own or {}).get("note") or "",
            key=f"note-{name}",
            placeholder="Note, saved with the verdict",
            label_visibility="collapsed",
            max_chars=500,
        )
        _looking(desk, pair, look)


def _looking(desk: Desk, pair: dict[str, Any], look: Look) -> None:
    name = pair["pair_id"]
    if look.hidden:
        _button("Uncover", "X", name, _uncover, name, kind="tertiary")
    _button("Swap", "S", name, _swap, name, kind="tertiary")
    word = "End blind" if look.blind else "Blind"
    _button(word, "B", name, _blind, kind="tertiary")
    if st.button("Zoom", key=f"Zoom-{name}", shortcut="O", type="tertiary"):
        _zoom(desk, pair, look)


def undo_alone(settings: state.Settings) -> None:
    """The row where no pair is left."""
    with st.container(horizontal=True, key="verdicts", gap="small"):
        _button("Undo", "Z", "none", _undo, settings, kind="tertiary")


def _answers(label: float | None, look: Look) -> list[tuple[str, str, Choice]]:
    """Word, key and choice of each answer.

    Blind, or where the label decides nothing, an image is named instead of keep and flip.
    """
    left, right = look.sides
    sides: list[tuple[str, str, Choice]] = [
        ("Left", "1", left),  # type: ignore[list-item]
        ("Right", "2", right),  # type: ignore[list-item]
    ]
    if look.blind:
        return [*sides, ("Tie", "T", "tie"), ("Unsure", "U", "unsure")]
    return verdict_row.answers(label, sides)


def _button(
    word: str, key: str, pair_id: str, act: Callable[..., None], *given: Any, kind: str
) -> None:
    """A button whose name holds its pair: a key pressed while the next pair is on its way counts
    for the pair that was seen, or not at all."""
    st.button(
        word,
        width="stretch" if word not in ("Swap", "Blind", "End blind", "Uncover") else "content",
        key=f"{word}-{pair_id}",
        shortcut=key,
        type=kind,
        on_click=frame.told(act),
        args=given,
    )


def _record(
    desk: Desk,
    settings: state.Settings,
    view: View,
    pair: dict[str, Any],
    look: Look,
    at: int,
    choice: Choice,
) -> None:
    """Save a verdict and go on to the next pair without one; on failure the pair stays."""
    name, cursor = pair["pair_id"], desk.cursor(view)
    entry = Entry(
        name,
        settings.curator,
        choice,
        desk.label_set,
        reasons=tuple(st.session_state.get(f"reasons-{name}") or ()),
        note=(st.session_state.get(f"note-{name}") or "").strip(),
        shown=on_screen(desk.run, pair, look),
    )
    desk.ledger.record([entry])
    # Not asked anew: a view that names the verdict has other numbers now.
    onward = _open_after(desk, cursor, view, at, name)
    state.go_to(onward)
    if onward is None:
        if view.state == "open":
            st.session_state["pair_id"] = None
        st.session_state["news"] = "Every pair of this view has a verdict."


def _open_after(desk: Desk, cursor: Any, view: View, at: int, judged: str) -> str | None:
    """The next pair without a verdict past a position, then from the beginning."""
    if not listing.moves(view):
        cursor = desk.cursor(view)
    for start in (at, 0):
        onward = listing.neighbour(cursor, view, start, open_only=True)
        if onward and onward != judged:
            return onward
    return None


def on_screen(run: str, pair: dict[str, Any], look: Look) -> dict[str, Any]:
    """What the curator saw, for the verdict's record: scores and label only where they stood."""
    seen = {"run": run, "sides": list(look.sides), "blind": look.blind}
    if not look.blind:
        seen |= {name: pair[name] for name in ("confidence", "stability", "minority", "label")}
    return seen


def _undo(settings: state.Settings) -> None:
    """Take back the last verdict, or the last one on many pairs, and return to its pair."""
    from app.desk.queries.queue import ledger

    taken = giving.take_back(ledger(settings.store, settings.journal), settings.curator)
    state.go_to(taken[0] if taken else None)
    if len(taken) > 1:
        st.session_state["news"] = f"{len(taken):,} verdicts were taken back."
    if not taken:
        st.session_state["news"] = "You have no verdict to take back."


def _move(desk: Desk, view: View, at: int, back: bool) -> None:
    cursor = desk.cursor(view)
    onward = listing.neighbour(cursor, view, at, back=back)
    state.go_to(onward)
    if onward is None:
        st.session_state["news"] = "This is the first pair." if back else "This is the last pair."


def _swap(pair_id: str) -> None:
    here = st.session_state.get("swapped") == pair_id
    st.session_state["swapped"] = None if here else pair_id


def _blind() -> None:
    st.session_state["blind"] = not st.session_state.get("blind")


def _uncover(pair_id: str) -> None:
    st.session_state["uncovered"] = pair_id


@st.dialog("In their own size", width="large")
def _zoom(desk: Desk, pair: dict[str, Any], look: Look) -> None:
    """Both originals; a click on one shows it pixel for pixel."""
    names = ("left", "right") if look.blind else look.sides
    originals = [pictures.original(desk.store, pair[side]) for side in look.sides]
    card.zoomed(list(zip(names, originals, strict=True)))
