"""What the pages beside the Queue begin with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from app.desk.components.html_text import literal

_STYLE = Path(__file__).parents[1] / "pages.css"


def look() -> None:
    """The pages' own rules, beside those of style.css."""
    st.html(_STYLE)


def head(title: str, quiet: str) -> None:
    """A page's title and one quiet sentence that says what the page is for."""
    look()
    st.title(title)
    st.html(f'<p class="desk-quiet">{literal(quiet)}</p>')


def covered(pair: Mapping[str, Any]) -> bool:
    """Whether the pair's images are blurred: a source marks it as unsafe, and nobody uncovered it.

    `pair`: of `toolkit.store.queue.tables.cards`.
    """
    if not st.session_state.get("blur", True) or not pair.get("unsafe"):
        return False
    return bool(st.session_state.get("uncovered") != pair["pair_id"])


def uncover(pair_id: str) -> None:
    """The button that shows a blurred pair."""

    def uncovered() -> None:
        st.session_state["uncovered"] = pair_id

    st.button("Uncover", shortcut="X", type="tertiary", key=f"uncover-{pair_id}",
              on_click=uncovered)  # fmt: skip
