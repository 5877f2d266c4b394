"""What was pressed is what the journal has: at three keys a second, on a server without time."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.desk_stores import judgeable
from tests.browser.desk import WATCH, absent, browsing, free_port, new_page, ready, serving, settled
from tests.browser.test_desk import order, rows
from tests.factories import StoreFactory
from toolkit.store.journal import Entry, Journal

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(absent()), reason=absent() or "a browser is there"),
]

PACE = 1 / 3


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for the tests of this file."""
    with browsing() as opened:
        yield opened


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page whose console stays silent."""
    opened = new_page(chromium.context.browser)
    yield opened
    said = [said for said in opened.said if "/_stcore/" not in said]
    opened.close()
    assert said == []


def opened(page: Any, address: str) -> str:
    """Open the Queue, with a watch on the keys; the pair on screen."""
    page.goto(address)
    here = ready(page)
    page.evaluate(WATCH)
    return here


def on_screen(page: Any) -> None:
    """Wait until the pair on screen takes keys, as a person does; it need not be saved yet."""
    page.wait_for_function("() => document.querySelector('.judge')?.dataset.state === 'ready'")


def saved(page: Any) -> None:
    page.wait_for_function("() => document.querySelector('.judge')?.dataset.unsaved === '0'")


CHOICES = {"t": "tie", "d": "drop", "u": "unsure", "z": "undo"}


def test_verdicts_undo_and_zoom_at_three_keys_a_second_on_a_slowed_server(
    make_store: StoreFactory, page: Any
) -> None:
    """Every key that met a pair is a row on that pair, in order, and there is no other row."""
    store = judgeable(make_store, pairs=80)
    with serving(store.root, "--port", str(free_port())) as server:
        opened(page, server.address)
        with server.slowed():
            for key in "dutdzuodtdzzudtodutzdutdddtuzdutdutdzzz":
                on_screen(page)
                started = time.monotonic()
                page.keyboard.press(key)
                time.sleep(max(0.0, PACE - (time.monotonic() - started)))
        saved(page)
        pressed = [key for key in page.evaluate("() => window.pressed") if key["key"] in CHOICES]
        judged, expected = [], []
        for key in pressed:
            assert key["state"] == "ready"
            if key["key"] == "z":  # the pair that comes back is the one judged last
                expected.append((judged.pop(), "undo"))
            else:
                judged.append(key["pair"])
                expected.append((key["pair"], CHOICES[key["key"]]))
        journal = [(row["pair_id"], row["choice"]) for row in rows(store)]
        assert journal == expected
        images = {tuple(key["images"]) for key in pressed if key["key"] != "z"}
        assert len(images) == len({key["pair"] for key in pressed if key["key"] != "z"})


def test_keys_faster_than_pairs_appear_judge_at_most_the_pair_they_met(
    make_store: StoreFactory, page: Any
) -> None:
    """A blind typist: keys that come too early are lost, and none judges two pairs or another."""
    store = judgeable(make_store, pairs=80)
    with serving(store.root, "--port", str(free_port())) as server:
        opened(page, server.address)
        session = page.context.new_cdp_session(page)
        session.send("Emulation.setCPUThrottlingRate", {"rate": 6})
        with server.slowed():
            for _ in range(40):
                page.keyboard.press("d")
                time.sleep(0.07)
        session.send("Emulation.setCPUThrottlingRate", {"rate": 1})
        saved(page)
        met = [key["pair"] for key in page.evaluate("() => window.pressed")]
        journal = [row["pair_id"] for row in rows(store)]
        assert 2 < len(journal) < 40
        assert len(set(journal)) == len(journal)
        assert journal == [pair for pair in dict.fromkeys(met) if pair in set(journal)]


def test_a_note_is_left_by_enter_and_its_keys_are_letters(
    make_store: StoreFactory, page: Any
) -> None:
    """Keys are off while a field has focus, and said to be; an undo keeps what was typed."""
    store = judgeable(make_store)
    with serving(store.root, "--port", str(free_port())) as server:
        here = opened(page, server.address)
        page.keyboard.press("c")
        page.wait_for_selector('.judge[data-state="typing"]')
        assert "keys off" in page.inner_text(".desk-keys")
        page.keyboard.type("took")
        page.keyboard.press("Enter")
        on_screen(page)
        page.keyboard.press("k")
        ready(page, other_than=here)
        assert [row["note"] for row in rows(store)] == ["took"]
        page.keyboard.press("z")
        on_screen(page)
        assert page.input_value(".judge-note-field") == "took"
        page.locator(".st-key-filter-text input").click()
        page.wait_for_selector('.judge[data-state="typing"]')
        page.keyboard.press("Escape")
        assert ready(page) == here


def test_an_undo_of_many_verdicts_is_asked_about_first(make_store: StoreFactory, page: Any) -> None:
    store = judgeable(make_store)
    journal = Journal(store.folder("verdicts.sqlite"))
    shown = {"page": "grid", "batch": "b"}
    journal.record([Entry(pair, "anna", "drop", shown=shown) for pair in order(store)[:24]])
    journal.close()
    with serving(store.root, "--port", str(free_port()), "--curator", "anna") as server:
        opened(page, server.address)
        page.keyboard.press("z")
        page.wait_for_selector('.judge-say:has-text("covers 24 pairs")')
        page.keyboard.press("Escape")
        page.keyboard.press("z")
        page.keyboard.press("d")  # not what was asked: a verdict on the pair on screen
        saved(page)
        assert [row["choice"] for row in rows(store)][24:] == ["drop"]


def test_an_audit_changes_no_verdict_until_its_curator_says_so(
    make_store: StoreFactory, page: Any
) -> None:
    store = judgeable(make_store, pairs=12)
    journal = Journal(store.folder("verdicts.sqlite"))
    journal.record([Entry(pair, "anna", "drop") for pair in order(store)])
    journal.close()
    with serving(store.root, "--port", str(free_port()), "--curator", "anna") as server:
        opened(page, server.address)
        page.get_by_role("link", name="Audit", exact=True).first.click()
        page.get_by_role("button", name="Draw the sample").click()
        page.wait_for_selector('.desk-place:has-text("1 of 12")')
        with server.slowed():
            for number in range(12):
                page.wait_for_selector(f'.desk-place:has-text("{number + 1} of 12")')
                on_screen(page)
                page.keyboard.press("t")
        page.wait_for_selector("text=You have answered every pair")
        saved(page)
        assert [row["choice"] for row in rows(store)] == ["drop"] * 12 + ["tie"] * 12
        audits = [json.loads(row["shown"]).get("audit") for row in rows(store)]
        assert audits == [None] * 12 + [audits[-1]] * 12
        page.get_by_role("link", name="Queue", exact=True).first.click()
        ready(page)
        page.wait_for_selector('.desk-chip:has-text("drop")')
        page.get_by_role("link", name="Audit", exact=True).first.click()
        page.get_by_text("Results", exact=True).click()
        page.get_by_role("button", name="Use my 12 answers as verdicts, replacing 12").click()
        page.wait_for_selector("text=12 answers are verdicts now")
        page.get_by_role("link", name="Queue", exact=True).first.click()
        ready(page)
        page.wait_for_selector('.desk-chip:has-text("tie")')


def test_a_phone_shows_the_pair_and_every_verdict_at_once(
    make_store: StoreFactory, page: Any
) -> None:
    store = judgeable(make_store, prompt="a square " * 60)
    page.set_viewport_size({"width": 390, "height": 844})
    with serving(store.root, "--port", str(free_port())) as server:
        page.goto(server.address)
        ready(page)
        settled(page)
        for word in ("Keep", "Flip", "Tie", "Drop", "Unsure", "Undo", "Back", "Next"):
            box = page.locator(f'.judge-row [data-word="{word}"]').bounding_box()
            assert box["x"] >= 0, word
            assert box["x"] + box["width"] <= 390, word
            assert box["y"] + box["height"] <= 844, word
        more = page.get_by_role("button", name="All of the prompt")
        before = page.locator(".desk-prompt").bounding_box()["height"]
        more.click()
        assert page.locator(".desk-prompt").bounding_box()["height"] > before
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390


def test_an_export_and_a_saved_view_take_what_the_fields_say(
    make_store: StoreFactory, tmp_path: Path, page: Any
) -> None:
    """The button is pressed while the field still has focus."""
    store, out = judgeable(make_store), tmp_path / "sets"
    options = ("--port", str(free_port()), "--exports", str(out))
    with serving(store.root, *options) as server:
        opened(page, server.address)
        page.get_by_role("button", name="Saved views").click()
        name = page.get_by_label("Name for this view")
        for view in ("first", "second"):
            name.fill(view)
            page.get_by_role("button", name="Save this view").click()
            page.get_by_role("link", name=view).first.wait_for()
        views = json.loads(store.folder("verdicts_views.json").read_text())
        assert sorted(views) == ["first", "second"]
        page.goto(f"{server.address}/export")
        drop = page.get_by_label("Drop where (one condition a line)")
        drop.fill("minority > 0.5")
        drop.press("Control+Enter")
        page.wait_for_selector('code:has-text("minority > 0.5")')
        settled(page)
        drop.fill("minority > 0.8")
        with server.slowed():
            page.get_by_role("button", name="Write the export").click()
            deadline = time.monotonic() + 60
            while not (out / "curated" / "curation.json").exists():
                assert time.monotonic() < deadline, "nothing was written"
                time.sleep(0.1)
        record = json.loads((out / "curated" / "curation.json").read_text())
        assert "minority > 0.8" in json.dumps(record)
        assert "minority > 0.5" not in json.dumps(record)
