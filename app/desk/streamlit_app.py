"""The desk's entry point: the list of pages, the frame around them, and the navigation.

Streamlit runs this file from top to bottom for every page that is opened or changed.
"""

from pathlib import Path

import streamlit as st

from app.desk import auth, page, state
from app.desk.views import (
    audit_page,
    export_page,
    grid_page,
    map_page,
    overview_page,
    pair_page,
    prompts_page,
    queue_page,
    runs_page,
)
from toolkit.colors import ORANGE, accent, ink

PAGES: dict[str, page.Page] = {
    module.PAGE.name: module.PAGE
    for module in (
        queue_page,
        grid_page,
        pair_page,
        map_page,
        prompts_page,
        audit_page,
        overview_page,
        runs_page,
        export_page,
    )
}
"""The menu, in its order. A new page is a module of views with a `PAGE`, imported and listed."""

_HERE = Path(page.__file__).parent
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


def main() -> None:
    """Draw the frame and the open page."""
    ground = page.ground()
    st.set_page_config(
        page_title="Outvoted",
        page_icon=_ICON.format(accent(ground), ORANGE),
        layout="wide",
        initial_sidebar_state=236,
    )
    state.set_defaults()
    st.html(_HERE / "style.css")
    st.html(f"<style>:root {{ --accent: {accent(ground)}; }}</style>")
    st.logo(_MARK.format(accent(ground), ink(ground), ORANGE), size="large")
    pages = {
        name: st.Page(
            entry.run,
            title=entry.title,
            icon=entry.icon,
            url_path=name,
            default=name == state.HOME,
        )
        for name, entry in PAGES.items()
    }
    st.session_state["pages"] = pages
    with page.errors_as_text():
        settings = state.settings()
        is_open = auth.is_logged_in(settings)
        # Also before the login: otherwise the address of a pair would be lost.
        chosen = st.navigation(list(pages.values()), position="top" if is_open else "hidden")
        if not is_open:
            auth.show_login(settings)
            return
        auth.keep_login(settings)
    chosen.run()


if __name__ == "__main__":
    main()
