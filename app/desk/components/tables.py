"""Small tables as plain HTML: every cell is text, and stands as it is."""

from collections.abc import Sequence

import streamlit as st

from app.desk.components.html_text import literal


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, name: str) -> None:
    """A table of texts with a caption that readers of a screen hear. At most a page of rows."""
    st.html(markup(heads, rows, name=name))


def markup(heads: Sequence[str], rows: Sequence[Sequence[str]], *, name: str) -> str:
    """The table as HTML."""
    top = "".join(f'<th scope="col">{literal(head)}</th>' for head in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{literal(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<table class="desk-table" aria-label="{literal(name)}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )
