"""The page Queue: the most suspicious pairs one by one, each answered with a verdict."""

import streamlit as st

from app.desk import state
from app.desk.components import text
from app.desk.page import Page
from app.desk.queries.connection import current, runs_with_queue
from app.desk.views.getting_started import ingest_command, needs, show_needs, summarize
from app.desk.views.pair_panel import show_pair
from app.desk.views.sidebar import show_sidebar
from toolkit.colors import Ground
from toolkit.files.atomic import parts
from toolkit.store import Store


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The page, or what the store still needs."""
    if settings.run and settings.run not in runs_with_queue(store):
        show_needs(store, summarize(store), settings.run)
        return
    desk, _ = current(store, settings)
    if not desk.pairs:
        show_needs(store, summarize(store))
        return
    show_sidebar(desk, settings, ground)
    if not parts(store.folder("images")):
        text.info(
            f"The store has no images; type `{ingest_command(store)}` to add them. You can still "
            "give verdicts."
        )
    if not desk.run:
        missing = next(need for need in needs(store, summarize(store)) if not need.there)
        st.html(
            '<p class="desk-quiet desk-tight">No run has scored these pairs yet, so they are in '
            f"the order of their ids. Next: <code>{text.escape(missing.command)}</code></p>"
        )
    show_pair(desk, settings, ground)


PAGE = Page("queue", "Queue", ":material/view_carousel:", draw)
