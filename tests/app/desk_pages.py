"""Opens single pages of the desk without a browser, as `outvoted app` would serve them."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from toolkit.store import Store
from toolkit.store.journal import Journal

_PAGE = """
from app.desk import state, streamlit_app
state.set_defaults()
streamlit_app.PAGES["{0}"].run()
"""


def open_page(
    monkeypatch: pytest.MonkeyPatch,
    store: Store,
    page: str,
    *,
    curator: str = "anna",
    query: Mapping[str, str] | None = None,
    **settings: str,
) -> AppTest:
    """One page on a store."""
    given = {
        "store": str(store.root),
        "run": "",
        "journal": str(store.folder("verdicts.sqlite")),
        "curator": curator,
        **settings,
    }
    monkeypatch.setenv("OUTVOTED_DESK", json.dumps(given))
    app = AppTest.from_string(_PAGE.format(page), default_timeout=600)
    for name, value in (query or {}).items():
        app.query_params[name] = value
    return app.run()


def button(app: AppTest, word: str) -> Any:
    """The button with this word."""
    return next(one for one in app.button if one.label == word)


def shown(app: AppTest) -> str:
    """Everything the page says, as one text without the signs that keep Markdown quiet."""
    kinds = (app.error, app.info, app.title, app.subheader, app.text, app.code, app.warning)
    bodies = [body for e in app.get("html") if "<style" not in (body := e.proto.body)]
    said = "\n".join([*(str(e.value) for kind in kinds for e in kind), *bodies])
    return said.replace("\\", "")


def journalled(store: Store) -> list[dict[str, Any]]:
    """Every row of the journal, `shown` read."""
    journal = Journal(store.folder("verdicts.sqlite"))
    try:
        return [{**row, "shown": json.loads(row["shown"])} for row in journal.rows()]
    finally:
        journal.close()
