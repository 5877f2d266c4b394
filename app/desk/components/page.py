"""What the pages beside the Queue begin with."""

from pathlib import Path

import streamlit as st

from app.desk.components.text import literal

_STYLE = Path(__file__).parents[1] / "pages.css"


def look() -> None:
    """The pages' own rules, beside those of style.css."""
    st.html(_STYLE)


def head(title: str, quiet: str) -> None:
    """A page's title and one quiet sentence that says what the page is for."""
    look()
    st.title(title)
    st.html(f'<p class="desk-quiet">{literal(quiet)}</p>')
