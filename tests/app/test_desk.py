"""The desk's pages, driven without a browser: verdicts land on the disk, filters narrow, problems
are sentences."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

from app.desk import verdict_state
from app.desk.queries import connection
from app.desk.queries.connection import open_desk as desk_of
from app.desk.views.queue_page import is_swapped
from tests.app.desk_pages import card, component, in_component, press, send, verdict
from tests.app.desk_stores import add_finding, judgeable
from tests.factories import StoreFactory
from tests.polling import wait_for
from toolkit.files.atomic import parts, write_part, write_whole
from toolkit.store import Store, create_store
from toolkit.store.connection import effective_labels
from toolkit.store.journal import Entry, Journal
from toolkit.store.queue import views as listing
from toolkit.store.queue.views import View
from toolkit.store.runs import read_findings, update_run, write_findings
from toolkit.store.verdicts import choice_of, publish

MAIN = Path(__file__).parents[2] / "app" / "desk" / "streamlit_app.py"

PAGE = """
from app.desk import state, streamlit_app
state.set_defaults()
streamlit_app.PAGES["{0}"].run()
"""


@pytest.fixture
def open_desk(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens the desk on a store, as `outvoted app` would."""

    def opened(store: Store, run: str = "", page: str = "", query: Any = ()) -> AppTest:
        settings = {
            "store": str(store.root),
            "run": run,
            "journal": str(store.folder("verdicts.sqlite")),
            "curator": "anna",
        }
        monkeypatch.setenv("OUTVOTED_DESK", json.dumps(settings))
        app = AppTest.from_string(PAGE.format(page)) if page else AppTest.from_file(str(MAIN))
        app.default_timeout = 600
        for name, value in dict(query).items():
            app.query_params[name] = value
        return app.run()

    return opened


def shown(app: AppTest) -> str:
    """Everything the page says, as one text."""
    kinds = (app.error, app.info, app.title, app.text, app.code, app.warning)
    bodies = [element.proto.body for element in app.get("html")]
    said = [*(str(e.value) for kind in kinds for e in kind), *bodies]
    return "\n".join([*said, in_component(app)])


def journalled(store: Store) -> list[dict[str, Any]]:
    journal = Journal(store.folder("verdicts.sqlite"))
    try:
        return journal.rows()
    finally:
        journal.close()


def by_minority(store: Store) -> list[str]:
    rows = read_findings(store, "r", "minority").to_pylist()
    return [row["pair_id"] for row in sorted(rows, key=lambda row: -row["minority"])]


def test_the_queue_begins_with_the_largest_u(make_store: StoreFactory, open_desk: Any) -> None:
    store = judgeable(make_store)
    app = open_desk(store)
    assert not app.exception
    assert app.session_state["pair_id"] == by_minority(store)[0]
    assert "1 of 40" in shown(app)
    assert "nothing saved yet" in shown(app)


def test_a_verdict_is_in_the_journal_and_the_next_pair_comes(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store)
    first, second = by_minority(store)[:2]
    app = press(open_desk(store), "Flip")
    (row,) = journalled(store)
    label = {r["pair_id"]: r["label"] for r in labels(store)}[first]
    assert (row["pair_id"], row["curator"], row["label_set"]) == (first, "anna", "flip20")
    assert row["choice"] == ("image_1" if label == 1.0 else "image_0")
    assert json.loads(row["shown"])["run"] == "r"
    assert app.session_state["pair_id"] == second
    assert "1 verdict ·" in shown(app)


def labels(store: Store) -> list[dict[str, Any]]:
    from toolkit.store.connection import effective_labels

    return list(effective_labels(store, "flip20").to_pylist())


def test_a_link_opens_its_view_and_its_pair(make_store: StoreFactory, open_desk: Any) -> None:
    store = judgeable(make_store)
    third = by_minority(store)[2]
    app = open_desk(store, query={"text": "a square", "way": "down", "pair": third})
    assert app.session_state["view"] == View(text="a square")
    assert app.session_state["pair_id"] == third
    assert app.session_state["address"] == ("queue", {"text": "a square"})


@pytest.mark.parametrize(("seconds", "text"), [(0, "a square"), (60, "")])
def test_an_address_left_behind_by_a_quick_click_is_no_link_and_a_later_way_back_is(
    seconds: int, text: str, make_store: StoreFactory, open_desk: Any
) -> None:
    app = open_desk(judgeable(make_store), query={"text": "a square"})
    app.session_state["previous_address"] = (("queue", {}), time.monotonic() - seconds)
    app.query_params.clear()
    app.run()
    assert app.session_state["view"] == View(text=text)


def test_a_link_to_every_pair_says_so_and_one_to_no_pair_shows_the_first(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store)
    app = open_desk(store, query={"text": "a square number 1"})
    app.query_params.clear()
    app.query_params["state"] = "any"  # what `state.link` writes for the default view
    app.run()
    assert app.session_state["view"] == View()
    app = open_desk(store, query={"pair": "gone"})
    assert app.session_state["pair_id"] == by_minority(store)[0]
    assert "no pair gone" in shown(app)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"state": "done"}, "state=done"),
        ({"order": "beauty"}, "no column of numbers 'beauty'"),
        ({"where": "minority >"}, "is no comparison"),
        ({"run": "nobody"}, "Run 'nobody' has no finding"),
    ],
)
def test_a_bad_link_is_a_sentence_above_the_default_view(
    make_store: StoreFactory, open_desk: Any, query: dict[str, str], words: str
) -> None:
    app = open_desk(judgeable(make_store), query=query)
    assert not app.exception
    assert app.session_state["view"] == View()
    assert words in shown(app).replace("\\", "")
    assert "1 of 40" in shown(app)


def test_undo_walks_back_pair_by_pair(make_store: StoreFactory, open_desk: Any) -> None:
    store = judgeable(make_store)
    app = open_desk(store)
    order = by_minority(store)
    for word in ("Keep", "Flip", "Tie", "Drop", "Unsure"):
        app = press(app, word)
    assert app.session_state["pair_id"] == order[5]
    for step in range(5):
        app = press(app, "Undo")
        assert app.session_state["pair_id"] == order[4 - step]
    assert "0 verdicts" in shown(app)
    assert component(app)["undo"] is None
    assert len(journalled(store)) == 10


def test_verdicts_are_published_within_seconds(make_store: StoreFactory, open_desk: Any) -> None:
    assert verdict_state._LATEST_SECONDS <= 10
    store = judgeable(make_store)
    press(press(open_desk(store), "Keep"), "Drop")
    wait_for(lambda: parts(store.folder("verdicts")), "a published part")
    (part,) = parts(store.folder("verdicts"))
    assert pq.read_table(part).num_rows == 2


def test_filters_narrow_the_view(make_store: StoreFactory, open_desk: Any) -> None:
    store = judgeable(make_store)
    app = open_desk(store)
    app.text_input(key="filter-text").set_value("NUMBER 3").run()
    assert card(app)["place"] == "1 of 4"
    app.text_input(key="filter-text").set_value("").run()
    app.select_slider[0].set_value((0, 4)).run()
    low = sum(u < 4 / 32 * top for u, top in minorities(store))
    assert 0 < low < 40
    assert card(app)["place"] == f"1 of {low}"
    app = press_key(app, "clear-filter")
    assert "1 of 40" in shown(app)
    app.text_input(key="filter-where").set_value("label = 1").run()
    ones = sum(row["label"] == 1 for row in labels(store))
    assert card(app)["place"] == f"1 of {ones}"


def test_a_mistaken_condition_is_a_sentence_and_the_pairs_stay(
    make_store: StoreFactory, open_desk: Any
) -> None:
    app = open_desk(judgeable(make_store))
    app.text_input(key="filter-where").set_value("beauty > 1").run()
    assert not app.exception
    assert "names the column" in shown(app)
    assert "1 of 40" in shown(app)


def minorities(store: Store) -> list[tuple[float, float]]:
    values = read_findings(store, "r", "minority")["minority"].to_pylist()
    return [(u, max(values)) for u in values]


def press_key(app: AppTest, key: str) -> AppTest:
    return app.button(key=key).click().run()


def test_a_saved_view_is_found_again(make_store: StoreFactory, open_desk: Any) -> None:
    store = judgeable(make_store)
    app = open_desk(store, query={"text": "number 3"})
    app.text_input(key="view-name").set_value("threes").run()
    app = press(app, "Save this view")
    file = store.folder("verdicts_views.json")
    assert json.loads(file.read_text()) == {"threes": {"text": "number 3"}}
    assert "threes" in [link.proto.label for link in open_desk(store).get("page_link")]


def test_a_broken_file_of_views_is_a_sentence(make_store: StoreFactory, open_desk: Any) -> None:
    store = judgeable(make_store)
    store.folder("verdicts_views.json").write_text("[1]")
    app = open_desk(store)
    assert not app.exception
    assert "cannot be read" in shown(app)


def test_only_pairs_without_verdict_shrinks_as_verdicts_land(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store)
    app = open_desk(store)
    app.selectbox(key="filter-state").set_value("open").run()
    app = press(press(app, "Keep"), "Keep")
    assert "1 of 38" in shown(app)
    assert "2 of 40 with a verdict" in shown(app)


def test_fifty_verdicts_can_be_taken_back(make_store: StoreFactory, open_desk: Any) -> None:
    store = judgeable(make_store, pairs=52)
    app = open_desk(store)
    order = by_minority(store)
    for pair_id in order[:50]:
        assert app.session_state["pair_id"] == pair_id
        app = press(app, "Drop")
    for pair_id in order[:50][::-1]:
        app = press(app, "Undo")
        assert app.session_state["pair_id"] == pair_id
    assert "0 verdicts" in shown(app)


def test_swapped_sides_are_recorded_and_mean_the_same_images(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store)
    app = open_desk(store)
    keep = verdict(app, "Keep")
    send(app, {**keep, "sides": keep["sides"][::-1]})
    (row,) = journalled(store)
    label = {r["pair_id"]: r["label"] for r in labels(store)}[row["pair_id"]]
    assert row["choice"] == ("image_0" if label == 1.0 else "image_1")
    assert json.loads(row["shown"])["sides"] == ["image_1", "image_0"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pair": "elsewhere"}, "was not on screen"),
        ({"choice": "undo"}, "is no answer"),
        ({"sides": ["image_0", "image_0"]}, "is no answer"),
    ],
)
def test_only_what_was_on_screen_is_judged(
    make_store: StoreFactory, open_desk: Any, change: dict[str, Any], words: str
) -> None:
    store = judgeable(make_store)
    app = open_desk(store)
    app = send(app, {**verdict(app, "Keep"), **change})
    assert words in shown(app).replace("\\", "")
    assert journalled(store) == []
    press(app, "Keep")
    assert len(journalled(store)) == 1


def test_a_sequence_that_does_not_fit_is_refused_and_one_that_was_done_is_not_done_again(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store)
    app = open_desk(store)
    first = verdict(app, "Keep")
    app = send(app, first)
    second = verdict(app, "Drop")
    app = send(app, first, second, seq=1)  # the first had not been acknowledged when this was sent
    assert [row["choice"] for row in journalled(store)] == [first["choice"], "drop"]
    before = component(app)
    app = send(app, verdict(app, "Tie"), seq=before["ack"] + 2)
    assert f"Key press {before['ack'] + 2} arrived" in shown(app)
    assert component(app)["epoch"] == before["epoch"] + 1
    assert len(journalled(store)) == 2
    app = send(app, verdict(app, "Keep"), epoch=before["epoch"])  # sent before that was known
    assert len(journalled(store)) == 2
    app = press(app, "Tie")
    assert [row["choice"] for row in journalled(store)][2:] == ["tie"]


def test_what_was_pressed_on_a_page_that_was_left_is_said_to_be_lost(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store)
    app = open_desk(store)
    here = card(app)["pair"]
    app = send(app, {"do": "verdicts", "pairs": [here], "verdict": "drop"})
    assert "was not saved" in shown(app)
    assert journalled(store) == []


def test_blind_hides_what_would_anchor_and_the_verdict_follows(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store)
    app = press(open_desk(store), "Blind")
    for word in ("chosen", "rejected", "image_0", "percentile", "annotator-"):
        assert word not in body(app), word
    words = [answer["word"] for answer in card(app)["answers"]]
    assert not {"Keep", "Flip", "Drop"} & set(words)
    for word in ("Left", "Right", "Left", "Right"):
        app = press(app, word)
    for row, word in zip(journalled(store), ("Left", "Right") * 2, strict=True):
        seen = json.loads(row["shown"])
        assert seen["blind"]
        assert "label" not in seen
        assert row["choice"] == seen["sides"][0 if word == "Left" else 1]
        turned = is_swapped("anna", row["pair_id"])
        assert seen["sides"] == (["image_1", "image_0"] if turned else ["image_0", "image_1"])
    app = press(app, "End blind")
    assert "chosen" in body(app)


def body(app: AppTest) -> str:
    """What the page says of the pair, without style sheets."""
    bodies = [e.proto.body for e in app.get("html") if "<style" not in e.proto.body]
    return "\n".join([*bodies, in_component(app)])


def test_blind_sides_are_turned_for_half_the_pairs_and_otherwise_for_others() -> None:
    pairs = [f"p{k:011d}" for k in range(2000)]
    anna = [is_swapped("anna", pair) for pair in pairs]
    ben = [is_swapped("ben", pair) for pair in pairs]
    assert anna == [is_swapped("anna", pair) for pair in pairs]
    assert 900 < sum(anna) < 1100  # 4.5 standard deviations
    assert 900 < sum(a == b for a, b in zip(anna, ben, strict=True)) < 1100


def test_note_and_reasons_go_with_the_verdict_and_are_hidden_when_blind(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store)
    app = open_desk(store)
    app = send(app, verdict(app, "Drop", note=" two left hands ", reasons=["both bad"]))
    app = press(app, "Back")
    (row,) = journalled(store)
    assert (row["note"], row["reasons"]) == ("two left hands", ["both bad"])
    assert (card(app)["note"], card(app)["reasons"]) == ("two left hands", ["both bad"])
    app = press(app, "Blind")
    assert (card(app)["note"], card(app)["reasons"]) == ("", [])


def test_curators_see_each_other_and_where_they_differ(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store)
    first, second = by_minority(store)[:2]
    label = {r["pair_id"]: r["label"] for r in labels(store)}
    journal = Journal(store.folder("other.sqlite"))  # ben's desk on another machine
    choice = choice_of("flip", label[first])
    journal.record([Entry(first, "ben", choice), Entry(second, "ben", "drop")])
    publish(store, journal)
    journal.close()
    app = open_desk(store, query={"pair": first})
    assert "<i>ben</i><b>flip</b>" in body(app)
    app = press(press(app, "Keep"), "Back")
    app = press(app, "Back") if app.session_state["pair_id"] != first else app
    assert "curators differ" in body(app)
    app.selectbox(key="filter-state").set_value("differ").run()
    assert card(app)["place"] == "1 of 1"
    assert app.session_state["pair_id"] == first


def test_a_pair_that_its_source_marks_is_blurred(make_store: StoreFactory, open_desk: Any) -> None:
    store = judgeable(make_store, pairs=4)
    (part,) = parts(store.folder("pairs"))
    table = pq.read_table(part)
    write_whole(part, table.append_column("src_nsfw", pa.array([True] * 4)))
    app = open_desk(store)
    assert [one["blurred"] for one in component(app)["cards"]] == [True] * 4
    app.toggle(key="blur").set_value(False).run()
    assert [one["blurred"] for one in component(app)["cards"]] == [False] * 4


def test_without_a_run_pairs_are_judged_in_plain_order(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = make_store()
    app = open_desk(store)
    assert not app.exception
    assert "outvoted train" in body(app)
    assert "1 of 40" in shown(app)
    pairs = sorted(row["pair_id"] for row in effective_labels(store).to_pylist())
    assert app.session_state["pair_id"] == pairs[0]
    app = press(app, "Flip")
    assert app.session_state["pair_id"] == pairs[1]
    assert journalled(store)[0]["label_set"] == "original"


def test_a_judged_pair_shows_its_verdict(make_store: StoreFactory, open_desk: Any) -> None:
    app = press(press(open_desk(judgeable(make_store)), "Tie"), "Back")
    assert "<i>verdict</i><b>tie</b>" in shown(app)
    assert "1 of 40" in shown(app)


def test_the_smallest_come_first_when_asked(make_store: StoreFactory, open_desk: Any) -> None:
    store = judgeable(make_store)
    app = open_desk(store)
    app.toggle(key="filter-descending").set_value(False).run()
    assert app.session_state["pair_id"] == by_minority(store)[-1]


def test_when_all_are_judged_the_page_says_so(make_store: StoreFactory, open_desk: Any) -> None:
    store = judgeable(make_store, pairs=4)
    app = open_desk(store)
    app.selectbox(key="filter-state").set_value("open").run()
    for _ in range(4):
        app = press(app, "Keep")
    assert not app.exception
    assert "No pair is left in this view" in shown(app)
    app = press(app, "Undo")
    assert card(app)["place"] == "1 of 1"


def test_a_broken_image_shows_its_reason_and_takes_a_verdict(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store, broken=True)
    app = open_desk(store)
    assert "cannot be decoded" in shown(app)
    press(app, "Drop")
    assert journalled(store)[0]["choice"] == "drop"


def test_a_tie_label_offers_the_images_instead_of_keep_and_flip(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store, label=0.5)
    app = open_desk(store)
    assert "Keep" not in [answer["word"] for answer in card(app)["answers"]]
    press(app, "Right")
    assert journalled(store)[0]["choice"] == "image_1"


def test_an_empty_store_says_what_to_type(tmp_path: Path, open_desk: Any) -> None:
    store = create_store(tmp_path / "empty")
    for page in ("", "overview"):
        app = open_desk(store)
        assert not app.exception
        assert f"outvoted ingest KIND PATH --store {store.root}" in shown(app), page


def test_a_store_without_run_or_finding_says_what_to_type(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = make_store(run=True, name="second")
    assert f"outvoted analyze {store.root} --run r" in body(open_desk(store))
    assert f"outvoted analyze {store.root} --run r" in shown(open_desk(store, run="r"))


def test_a_store_without_images_still_takes_verdicts(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store)
    for file in parts(store.folder("images")):
        file.unlink()
    app = open_desk(store)
    assert "outvoted ingest" in shown(app)
    assert "the store has no image" in shown(app)
    press(app, "Keep")
    assert len(journalled(store)) == 1


def test_a_journal_that_cannot_be_written_keeps_the_pair_and_says_so(
    make_store: StoreFactory, open_desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.errors import StoreError

    store = judgeable(make_store)
    app = open_desk(store)
    here = app.session_state["pair_id"]

    def full(*_: Any) -> None:
        raise StoreError("The verdict was NOT saved: the disk is full.")

    monkeypatch.setattr(Journal, "record", full)
    app = press(app, "Keep")
    assert app.session_state["pair_id"] == here
    assert "NOT saved" in shown(app)
    assert "nothing saved yet" in shown(app)


def test_a_surprise_is_a_sentence(
    make_store: StoreFactory, open_desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.store.queue import tables as queries

    def breaks(*_: Any) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(queries, "card", breaks)
    app = open_desk(judgeable(make_store))
    assert not app.exception
    assert "could not do this" in shown(app)


def test_the_overview_counts(make_store: StoreFactory, open_desk: Any) -> None:
    store = judgeable(make_store)
    press(press(open_desk(store), "Flip"), "Keep")
    write_part(
        store.folder("quarantine"),
        pa.table({"pair_id": ["x"], "reason": ["the image cannot be decoded"]}),
    )
    (store.root / "pairs" / ".part-1.parquet.99999999.unfinished").touch()
    app = open_desk(store, page="overview")
    assert not app.exception
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["pairs"] == "40"
    assert metrics["images"] == "80"
    assert metrics["label sets"] == "2"
    assert metrics["pairs with a verdict"] == "2"
    assert metrics["quarantined"] == "1"
    text = shown(app)
    assert "the image cannot be decoded" in text
    assert "1 unfinished file" in text.replace("\\", "")


def test_the_newest_run_comes_first_and_another_can_be_chosen(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store)
    pairs = [{"pair_id": row["pair_id"], "label": row["label"]} for row in labels(store)]
    make_store.add_run(store, pairs, visits=2, signal=1.0, run="later")
    update_run(store, "r", started="2020-01-01T00:00:00+00:00")
    add_finding(store, "later")
    app = open_desk(store)
    assert app.selectbox(key="filter-run").options == ["later", "r"]
    assert app.selectbox(key="filter-run").value == "later"
    app.selectbox(key="filter-run").set_value("r").run()
    assert app.session_state["view"] == View(run="r")
    assert app.session_state["pair_id"] == by_minority(store)[0]


def test_a_run_without_its_finding_is_told_even_where_another_has_one(
    make_store: StoreFactory, open_desk: Any
) -> None:
    store = judgeable(make_store)
    pairs = [{"pair_id": row["pair_id"], "label": row["label"]} for row in labels(store)]
    make_store.add_run(store, pairs, visits=2, signal=1.0, run="later")
    assert f"outvoted analyze {store.root} --run later" in shown(open_desk(store, run="later"))


def test_pairs_of_unknown_u_come_last_and_say_so(make_store: StoreFactory, open_desk: Any) -> None:
    store = judgeable(make_store)
    rows = read_findings(store, "r", "minority").to_pylist()
    unknown = [row | {"minority": None, "stability": None} for row in rows]
    write_findings(store, "r", "minority", pa.Table.from_pylist(unknown), {"labels": "flip20"})
    app = open_desk(store)
    assert not app.exception
    assert "1 of 40" in shown(app)
    assert "not known" in shown(app)


def test_a_surprise_in_a_callback_is_a_sentence(
    make_store: StoreFactory, open_desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.store.queue import views as listing

    def breaks(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("division by zero")

    store = judgeable(make_store)
    app = open_desk(store)
    monkeypatch.setattr(listing, "neighbour", breaks)
    app = press(app, "Next")
    assert not app.exception
    assert "could not do this" in shown(app)


def test_a_view_asked_for_anew_sees_the_verdicts_since_its_siblings_were_made(
    make_store: StoreFactory,
) -> None:
    """Views that differ in state or bounds only share tables, which a verdict makes stale."""
    store = judgeable(make_store)
    desk = desk_of(store, "r", store.folder("verdicts.sqlite"))
    first = View(where='verdict = "flip"')
    assert listing.count(desk.cursor(first), first) == 0
    top = by_minority(store)[0]
    label = {row["pair_id"]: row["label"] for row in labels(store)}[top]
    desk.verdicts.record([Entry(top, "anna", choice_of("flip", label), "flip20")])
    for view in (replace(first, state="judged"), first.with_range("minority", 0.0, None)):
        assert listing.ids(desk.cursor(view), view) == [top]


def test_a_large_trajectory_is_read_behind_the_first_page_and_later_cards_have_their_curve(
    make_store: StoreFactory, open_desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    app = late_curves(store, open_desk, monkeypatch)
    assert "the visits of the run are being read" in shown(app)
    assert "ell over" not in shown(app)
    read_curves_now(store, monkeypatch)
    assert "ell over" in shown(press(app, "Keep"))
    assert "being read" not in shown(app)


def test_visits_that_cannot_be_read_leave_the_card_and_say_so(
    make_store: StoreFactory, open_desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    app = late_curves(store, open_desk, monkeypatch)
    next(store.run("r").glob("trajectory/rank-*/part-*.parquet")).write_bytes(b"not parquet")
    read_curves_now(store, monkeypatch)
    assert "could not be read; the terminal says why" in shown(press(app, "Keep"))
    assert len(journalled(store)) == 1


def test_a_record_too_large_to_hold_is_told_with_the_way_to_the_curve(
    make_store: StoreFactory, open_desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_AT_ONCE_BYTES", 0)
    monkeypatch.setattr(connection, "_TRAJECTORY_BYTES", 1)
    said = shown(open_desk(judgeable(make_store)))
    assert "too large to keep in memory; the page Pair draws" in said
    assert "ell over" not in said


def late_curves(store: Store, open_desk: Any, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The desk on a trajectory that counts as large, whose reading does not begin."""
    monkeypatch.setattr(connection, "_AT_ONCE_BYTES", 0)
    monkeypatch.setattr(connection, "_SERIES_DELAY", 3600.0)
    app: AppTest = open_desk(store)
    return app


def read_curves_now(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SERIES_DELAY", 0.0)
    desk = desk_of(store, "r", store.folder("verdicts.sqlite"))
    desk.read_series()
    wait_for(lambda: desk.series != "loading", "the visits")
