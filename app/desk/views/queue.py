"""The page Queue: the most suspicious pairs one by one, each answered with a verdict."""

import streamlit as st

from app.desk import state, summary
from app.desk.components import messages as notice
from app.desk.components.html_text import literal
from app.desk.queries import queue as data
from app.desk.views import getting_started as start
from app.desk.views import pair_panel as judging
from app.desk.views import sidebar as filters
from toolkit.colors import Ground
from toolkit.files.atomic import parts
from toolkit.store import Store


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The whole page, or the page of what is missing."""
    if settings.run and settings.run not in data.runs_with_queue(store):
        start.draw(store, summary.overview(store), settings.run)
        return
    desk, _ = data.current(store, settings)
    if not desk.pairs:
        start.draw(store, summary.overview(store))
        return
    filters.draw(desk, settings, ground)
    if not parts(store.folder("images")):
        command = f"outvoted ingest KIND PATH --store {notice.path(store.root)}"
        notice.news(
            f"The store holds no images; type `{command}` to bring them in. Verdicts can be given "
            "all the same."
        )
    if not desk.run:
        missing = next(
            need for need in start.needs(store, summary.overview(store)) if not need.there
        )
        st.html(
            '<p class="desk-quiet desk-tight">No run has scored these pairs yet, so they stand in '
            f"the order of their ids. Next: <code>{literal(missing.command)}</code></p>"
        )
    judging.pair(desk, settings, ground)
