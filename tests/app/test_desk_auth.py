"""The locked desk: nothing of the store before the token, and verdicts carry the name that was
given at the door."""

import json
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.desk import auth
from tests.app.desk_pages import component, press
from tests.app.desk_stores import judgeable
from tests.app.test_desk import MAIN, journalled, shown
from tests.factories import StoreFactory
from toolkit.store import Store


@pytest.fixture
def locked(make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, AppTest]:
    monkeypatch.setattr(auth, "_WAIT_SECONDS", 0.0)
    store = judgeable(make_store)
    settings = {
        "store": str(store.root),
        "journal": str(store.folder("verdicts.sqlite")),
        "curator": "host",
        "token": auth.digest("open sesame"),
    }
    monkeypatch.setenv("OUTVOTED_DESK", json.dumps(settings))
    return store, AppTest.from_file(str(MAIN), default_timeout=600).run()


def knock(app: AppTest, name: str, token: str) -> AppTest:
    app.text_input(key="login-name").set_value(name)
    app.text_input(key="login-token").set_value(token)
    return press(app, "Open the desk")


def everything(app: AppTest) -> str:
    return shown(app) + str([element.proto for element in app.main])


def test_a_token_fits_its_own_digest_only() -> None:
    assert auth.matches("open sesame", auth.digest("open sesame"))
    assert not auth.matches("open sesam", auth.digest("open sesame"))
    assert not auth.matches("", auth.digest("open sesame"))


def test_before_the_token_the_page_says_nothing_of_the_store(locked: Any) -> None:
    store, app = locked
    for attempt in (app, knock(app, "anna", "open sesam"), knock(app, "anna", "")):
        assert not attempt.exception
        assert "a square" not in everything(attempt)
        assert str(store.root) not in everything(attempt)
        assert component(attempt) == {}
    assert "This is not the token" in shown(app)
    assert journalled(store) == []


def test_the_token_opens_and_verdicts_carry_the_name(locked: Any) -> None:
    store, app = locked
    assert "Type a name" in shown(knock(app, " ", "open sesame"))
    app = press(knock(app, "  anna  b ", "open sesame"), "Keep")
    assert [row["curator"] for row in journalled(store)] == ["anna b"]


def test_a_link_does_not_lead_past_the_door(locked: Any) -> None:
    _, app = locked
    app.query_params["text"] = "a square"
    app = app.run()
    assert [button.label for button in app.button] == ["Open the desk"]
