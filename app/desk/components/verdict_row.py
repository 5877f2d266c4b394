"""The verdict buttons of the pages beside the Queue, and what a choice is called."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import streamlit as st

from app.desk import page as frame
from toolkit.store.verdicts import Choice, Verdict, choice_of

Answer: TypeAlias = tuple[str, str, Choice]
"""Word, key and choice."""

KEYS: tuple[tuple[Verdict, str], ...] = (
    ("keep", "K"),
    ("flip", "F"),
    ("tie", "T"),
    ("drop", "D"),
    ("unsure", "U"),
)


_SLOTS: tuple[Answer, ...] = (("image_0", "0", "image_0"), ("image_1", "1", "image_1"))


def answers(label: float | None, sides: Sequence[Answer] = _SLOTS) -> list[Answer]:
    """The answers to a pair; one of `sides` where a tie can be neither kept nor flipped."""
    decided = label in (0.0, 1.0)
    words: list[Answer] = [
        (verdict.capitalize(), key, choice_of(verdict, label))
        for verdict, key in KEYS
        if decided or verdict not in ("keep", "flip")
    ]
    return words if decided else [*sides, *words]


def row(
    name: str, buttons: list[tuple[str, str, Any]], act: Callable[..., None], *given: Any
) -> None:
    """A row of buttons (word, key, value); `act(*given, value)` is called for the one pressed.

    `name` holds what the row is about, so that a key pressed while the page changes counts for
    what was seen, or not at all.
    """
    for place, (word, key, value) in zip(st.columns(len(buttons)), buttons, strict=True):
        with place:
            st.button(
                word,
                width="stretch",
                key=f"{word}-{name}",
                shortcut=key or None,
                on_click=frame.told(act),
                args=(*given, value),
            )
