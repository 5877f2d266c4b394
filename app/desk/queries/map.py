"""The map of a view, drawn anew when the view, its axes or a verdict changed."""

from typing import Any

import streamlit as st

from app.desk.queries.queue import Desk
from toolkit.store.queue import histograms as mapping
from toolkit.store.queue.histograms import Map
from toolkit.store.queue.view import View


def drawn(desk: Desk, view: View, x: str, y: str) -> Map | None:
    """Of `mapping.draw_map`; None where no pair has both values. InputError as of there."""
    stamp = (str(desk.store.root), desk.serial, len(desk.ledger.changed))
    return _drawn(desk, view, x, y, stamp)


@st.cache_data(show_spinner="Drawing the map ...", max_entries=16)
def _drawn(_desk: Desk, view: View, x: str, y: str, stamp: Any) -> Map | None:  # noqa: ARG001
    cursor = _desk.cursor(view)
    with _desk.lock:  # columns that are named for the first time are read into tables
        return mapping.draw_map(cursor, _desk.columns, view, x, y)
