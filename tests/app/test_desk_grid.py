"""The page Grid: pages by key, one verdict for several or for the whole view, undone as one."""

from pathlib import Path

import pytest

from app.desk import bulk_verdicts
from app.desk.queries.connection import open_desk
from tests.app.desk_pages import button, component, journalled, open_page, press, send, shown
from tests.app.desk_stores import judgeable
from tests.factories import StoreFactory
from toolkit.errors import InputError
from toolkit.store import Store
from toolkit.store.connection import effective_labels
from toolkit.store.queue.views import View
from toolkit.store.runs import read_findings
from toolkit.store.verdicts import resolve_rows


def by_u(store: Store) -> list[str]:
    rows = read_findings(store, "r", "minority").to_pylist()
    return [row["pair_id"] for row in sorted(rows, key=lambda row: -row["minority"])]


def on_page(app) -> list[str]:
    return [card["pair"] for card in component(app)["cards"]]


def turn(app, back: bool):
    at = component(app)["before" if back else "after"]
    return send(app, {"do": "turn", "at": at, "back": back})


def judge(app, pair_ids: list[str], verdict: str):
    return send(app, {"do": "verdicts", "pairs": pair_ids, "verdict": verdict})


def test_pages_go_on_and_back_by_key(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    app = open_page(monkeypatch, store, "grid")
    assert on_page(app) == by_u(store)[:24]
    assert "1 to 24 of 40" in shown(app)
    app = turn(app, back=False)
    assert on_page(app) == by_u(store)[24:]
    assert "25 to 40 of 40" in shown(app)
    assert component(app)["after"] is None
    app = turn(app, back=True)
    assert on_page(app) == by_u(store)[:24]


def test_one_verdict_for_the_selection_is_a_row_a_pair_and_undone_as_one(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    first, second = by_u(store)[:2]
    app = open_page(monkeypatch, store, "grid")
    app = judge(app, [first, second], "flip")
    rows = journalled(store)
    labels = {r["pair_id"]: r["label"] for r in effective_labels(store, "flip20").to_pylist()}
    assert {row["pair_id"] for row in rows} == {first, second}
    for row in rows:
        assert row["choice"] == ("image_1" if labels[row["pair_id"]] == 1 else "image_0")
        assert row["shown"]["page"] == "grid"
    assert rows[0]["shown"]["batch"] == rows[1]["shown"]["batch"]
    assert component(app)["undo"]["pairs"] == 2
    app = press(app, "Undo")
    rows = journalled(store)
    assert [row["choice"] for row in rows[2:]] == ["undo", "undo"]
    assert {row["undoes"] for row in rows[2:]} == {row["verdict_id"] for row in rows[:2]}
    assert resolve_rows(rows).num_rows == 0
    assert component(app)["undo"] is None


def test_undo_in_the_queue_takes_a_batch_back_as_one(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    app = open_page(monkeypatch, store, "grid")
    judge(app, by_u(store)[:3], "drop")
    queue = open_page(monkeypatch, store, "queue")
    assert component(queue)["undo"]["pairs"] == 3  # which the browser asks about first
    press(queue, "Undo")
    rows = journalled(store)
    assert [row["choice"] for row in rows] == ["drop"] * 3 + ["undo"] * 3
    assert resolve_rows(rows).num_rows == 0


def test_a_view_that_others_changed_since_the_confirmation_is_left_alone(
    make_store: StoreFactory, tmp_path: Path
) -> None:
    store = judgeable(make_store)
    desk = open_desk(store, "r", tmp_path / "verdicts.sqlite")
    with pytest.raises(InputError, match="has 40 pairs now, 0 of them with your verdict, not 39"):
        bulk_verdicts.save_view(desk, View(), "drop", "anna", confirmed=(39, 0))
    assert bulk_verdicts.newest(desk.verdicts, "anna") is None
    assert bulk_verdicts.save_view(desk, View(), "drop", "anna", confirmed=(40, 0)).pairs == 40
    with pytest.raises(InputError, match="40 pairs now, 40 of them with your verdict"):
        bulk_verdicts.save_view(desk, View(), "keep", "anna", confirmed=(40, 0))
    assert len(bulk_verdicts.undo(desk.verdicts, "anna")) == 40


def test_the_whole_view_takes_one_verdict_after_a_count_and_a_confirmation(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    app = open_page(monkeypatch, store, "grid", query={"text": "number 1"})
    app.radio(key="grid-whole").set_value("drop").run()
    save = button(app, "Save drop for 4 pairs")
    assert save.disabled
    sure = next(box for box in app.checkbox if box.label == "Yes, drop for all 4 pairs")
    app = sure.check().run()
    app = button(app, "Save drop for 4 pairs").click().run()
    rows = journalled(store)
    pairs = {row["pair_id"]: row["prompt"] for row in effective_pairs(store)}
    assert {row["pair_id"] for row in rows} == {
        pair for pair, prompt in pairs.items() if prompt == "a square number 1"
    }
    assert {row["choice"] for row in rows} == {"drop"}
    assert component(app)["undo"]["pairs"] == 4
    assert "4 of these pairs have a verdict of yours, which this one replaces" in shown(app)


def effective_pairs(store: Store) -> list[dict]:
    from toolkit.store.connection import read_pairs

    return list(read_pairs(store, ["pair_id", "prompt"]).to_pylist())


def test_keep_leaves_pairs_without_a_preference_as_they_were() -> None:
    made = bulk_verdicts.entries(
        ["a", "b", "c"], {"a": 1.0, "b": 0.5, "c": 0.0}, "keep", "anna", "s", {}
    )
    assert [(entry.pair_id, entry.choice) for entry in made] == [("a", "image_0"), ("c", "image_1")]
    ties = bulk_verdicts.entries(["a", "b"], {"a": 1.0, "b": None}, "tie", "anna", "s", {})
    assert [entry.choice for entry in ties] == ["tie", "tie"]
    text = bulk_verdicts.Result("keep", 2, 1).sentence()
    assert text == "keep saved for 2 pairs; 1 without a preference were left unchanged."


def test_where_no_pair_fits_nothing_is_saved(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store, label=0.5)
    app = open_page(monkeypatch, store, "grid")
    app = judge(app, on_page(app), "keep")
    assert "None of these pairs states a preference" in shown(app)
    assert journalled(store) == []


def test_more_pairs_than_one_verdict_covers_are_refused(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    monkeypatch.setattr(bulk_verdicts, "MOST", 3)
    desk = open_desk(store, "r", store.folder("verdicts.sqlite"))
    with pytest.raises(InputError, match="4 pairs, and one verdict covers at most 3"):
        bulk_verdicts.save(desk, by_u(store)[:4], "drop", "anna", {})
    assert journalled(store) == []
