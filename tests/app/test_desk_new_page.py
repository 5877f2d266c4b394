"""A new page of the desk is one file, imported and listed in `streamlit_app.PAGES`."""

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.desk import streamlit_app
from tests.app.desk_pages import shown
from tests.factories import StoreFactory

HELLO = '''
"""The page Hello: how many pairs the store has."""

from app.desk import page
from app.desk.queries.connection import current


def draw(store, settings, ground):
    """The whole page."""
    desk, _ = current(store, settings)
    page.head("Hello", f"{desk.pairs} pairs")


PAGE = page.Page("hello", "Hello", ":material/waving_hand:", draw)
'''


@pytest.fixture
def extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The desk's streamlit_app.py with one page more, in a folder of its own."""
    (tmp_path / "hello_page.py").write_text(HELLO)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = Path(streamlit_app.__file__).read_text()
    text = text.replace("import streamlit as st", "import hello_page\nimport streamlit as st")
    copy = tmp_path / "streamlit_app.py"
    copy.write_text(text.replace("        export_page,\n", "        export_page, hello_page,\n"))
    return copy


def test_a_page_is_one_file_that_main_lists(
    extended: Path, make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(pairs=8)
    settings = {
        "store": str(store.root),
        "journal": str(store.folder("verdicts.sqlite")),
        "curator": "anna",
    }
    monkeypatch.setenv("OUTVOTED_DESK", json.dumps(settings))
    app = AppTest.from_file(str(extended), default_timeout=600).run()
    assert list(app.session_state["pages"]) == [*streamlit_app.PAGES, "hello"]
    addresses = {page["url_pathname"]: key for key, page in app._registered_pages.items()}
    app._page_hash = addresses["hello"]  # what a click in the menu sends
    assert "8 pairs" in shown(app.run())
    assert not app.exception
    assert app.session_state["page"] == "hello"
