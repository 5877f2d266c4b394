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


def component(app: AppTest) -> dict[str, Any]:
    """What the judging component was given; {} where the page has none."""
    proto = _proto(app)
    return dict(json.loads(proto.mixed.json or proto.json)) if proto else {}


def _proto(app: AppTest) -> Any:
    protos = [found.proto for found in app.get("bidi_component")]
    return next((one for one in protos if one.component_name == "outvoted_judge"), None)


def card(app: AppTest) -> dict[str, Any]:
    """The pair on screen."""
    return dict(component(app)["cards"][0])


def send(
    app: AppTest, *actions: Mapping[str, Any], seq: int | None = None, epoch: int | None = None
) -> AppTest:
    """Send actions as the component does; with the numbers that fit, unless others are given."""
    data, proto = component(app), _proto(app)
    first = data["ack"] + 1 if seq is None else seq
    numbered = [{"seq": first + n, **action} for n, action in enumerate(actions)]
    message = {name: data[name] for name in ("session", "epoch")}
    message |= {"have": [], "actions": numbered} | ({} if epoch is None else {"epoch": epoch})
    states = app._tree.get_widget_states()
    events = states.widgets.add()
    events.id = f"$$STREAMLIT_INTERNAL_KEY_{proto.id}__events"
    events.json_trigger_value = json.dumps([{"event": "sent", "value": message}])
    return app._run(states)


def verdict(app: AppTest, word: str, *, note: str = "", reasons: Any = ()) -> dict[str, Any]:
    """The action of an answer of the pair on screen."""
    pair = card(app)
    sides = [side["slot"] for side in pair["sides"]]
    choice = next(one["choice"] for one in pair["answers"] if one["word"] == word)
    choice = {"left": sides[0], "right": sides[1]}.get(choice, choice)
    return {"do": "verdict", "pair": pair["pair"], "choice": choice, "sides": sides,
            "note": note, "reasons": list(reasons)}  # fmt: skip


def press(app: AppTest, word: str) -> AppTest:
    """Press what has this word: a key of the component, or a button of the page."""
    data = component(app)
    cards = data.get("cards", [])
    if cards and word in [answer["word"] for answer in cards[0].get("answers", [])]:
        return send(app, verdict(app, word))
    if data and word in ("Next", "Back"):
        return send(app, {"do": "go", "pair": cards[0]["pair"], "back": word == "Back"})
    if data and word in ("Blind", "End blind"):
        return send(app, {"do": "blind"})
    if data and word == "Undo":
        return send(app, {"do": "undo", "id": data["undo"]["id"]})
    return next(button for button in app.button if button.label == word).click().run()


def button(app: AppTest, word: str) -> Any:
    """The button with this word."""
    return next(one for one in app.button if one.label == word)


def shown(app: AppTest) -> str:
    """Everything the page says, as one text without the signs that keep Markdown quiet."""
    kinds = (app.error, app.info, app.title, app.subheader, app.text, app.code, app.warning)
    bodies = [body for e in app.get("html") if "<style" not in (body := e.proto.body)]
    said = "\n".join([*(str(e.value) for kind in kinds for e in kind), *bodies])
    return said.replace("\\", "") + in_component(app)


def in_component(app: AppTest) -> str:
    """What the component shows of the pair on screen, or of all pairs of a grid."""
    data = component(app)
    if not data:
        return ""
    many = data["mode"] == "grid"
    place = data["status"]["place"] if many or not data["cards"] else data["cards"][0]["place"]
    lines = [place, data["status"]["note"], data["status"]["saved"]]
    for pair in data["cards"] if many else data["cards"][:1]:
        sides = pair["sides"]
        lines += [pair["prompt"], pair["chips"], *(side["mark"] for side in sides)]
        lines += [] if pair.get("blind") else [side["slot"] for side in sides]
        size = "small" if many else "card"
        images = [data["images"].get(f"{side['image']}@{size}", {}) for side in sides]
        lines += [image["problem"] for image in images if "problem" in image]
    return "\n".join([*lines, *([] if data["cards"] else [data["empty"]])])


def journalled(store: Store) -> list[dict[str, Any]]:
    """Every row of the journal, `shown` read."""
    journal = Journal(store.folder("verdicts.sqlite"))
    try:
        return [{**row, "shown": json.loads(row["shown"])} for row in journal.rows()]
    finally:
        journal.close()
