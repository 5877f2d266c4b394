"""The verdict buttons of the pages beside the Queue, and what a choice is called."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from app.desk import frame
from toolkit.store.verdicts import Choice, Verdict, choice_of

KEYS: tuple[tuple[Verdict, str], ...] = (
    ("keep", "K"),
    ("flip", "F"),
    ("tie", "T"),
    ("drop", "D"),
    ("unsure", "U"),
)


def answers(label: float | None) -> list[tuple[str, str, Choice]]:
    """Word, key and choice of each answer. A tie can be neither kept nor flipped: name an image."""
    decided = label in (0.0, 1.0)
    words: list[tuple[str, str, Choice]] = [
        (verdict.capitalize(), key, choice_of(verdict, label))
        for verdict, key in KEYS
        if decided or verdict not in ("keep", "flip")
    ]
    if decided:
        return words
    return [("image_0", "0", "image_0"), ("image_1", "1", "image_1"), *words]


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
