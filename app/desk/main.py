"""The desk's start: page settings, look, and navigation.

Streamlit runs this file from top to bottom for every page that is opened or changed.
"""

from pathlib import Path

import streamlit as st

from app.desk import auth as access
from app.desk import page as frame
from app.desk import state
from app.desk.views import audit, export, grid, map, overview, pair, prompts, queue, runs
from toolkit.colors import ORANGE, accent, ink

_HERE = Path(__file__).parent
_MARK = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 172 32"><circle cx="10" cy="16" r="6.5" '
    'fill="{0}"/><circle cx="26" cy="16" r="6.5" fill="{0}"/><circle cx="42" cy="16" r="5.2" '
    'fill="none" stroke="{2}" stroke-width="2.6"/><text x="58" y="22.5" font-size="20" '
    'font-weight="600" font-family="sans-serif" fill="{1}">Outvoted</text></svg>'
)
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="9" cy="11" r="6" '
    'fill="{0}"/><circle cx="23" cy="11" r="6" fill="{0}"/><circle cx="16" cy="23" r="4.7" '
    'fill="none" stroke="{1}" stroke-width="2.6"/></svg>'
)
PAGES = (
    frame.Page("queue", "Queue", ":material/view_carousel:", queue.draw),
    frame.Page("grid", "Grid", ":material/apps:", grid.draw),
    frame.Page("pair", "Pair", ":material/compare:", pair.draw, with_pair=True),
    frame.Page("map", "Map", ":material/scatter_plot:", map.draw),
    frame.Page("prompts", "Prompts", ":material/forum:", prompts.draw),
    frame.Page("audit", "Audit", ":material/fact_check:", audit.draw),
    frame.Page("overview", "Overview", ":material/grid_view:", overview.draw),
    frame.Page("runs", "Runs", ":material/monitoring:", runs.draw),
    frame.Page("export", "Export", ":material/output:", export.draw),
)
"""The menu, in its order: a new page is an import and a line."""

_SCRIPT = (_HERE / "keys.js").read_text(encoding="utf-8")


def main() -> None:
    """Draw the frame and the page that is open."""
    side = frame.ground()
    st.set_page_config(
        page_title="Outvoted",
        page_icon=_ICON.format(accent(side), ORANGE),
        layout="wide",
        initial_sidebar_state=236,
    )
    state.keep()
    st.html(_HERE / "style.css")
    st.html(f"<style>:root {{ --accent: {accent(side)}; }}</style>")
    st.logo(_MARK.format(accent(side), ink(side), ORANGE), size="large")
    with frame.sentences():
        settings = state.settings()
        if not access.admitted(settings):
            access.door(settings)
            return
    pages = {
        page.name: st.Page(
            frame.drawn(page),
            title=page.title,
            icon=page.icon,
            url_path=page.name,
            default=page.name == state.HOME,
        )
        for page in PAGES
    }
    st.session_state["pages"] = pages
    st.navigation(list(pages.values()), position="top").run()
    with st.container(key="script"):
        st.html(f"<script>{_SCRIPT}</script><span hidden></span>", unsafe_allow_javascript=True)


main()
