"""The desk in a real Chromium: keys, clicks, a killed server, and nothing in the console."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.desk_stores import judgeable
from tests.browser.desk import (
    PATIENCE,
    Server,
    absent,
    browsing,
    free_port,
    ready,
    serving,
    settled,
)
from tests.factories import StoreFactory
from toolkit.files.atomic import parts
from toolkit.store import Store, create_store
from toolkit.store.journal import Journal
from toolkit.store.runs import read_findings

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(absent()), reason=absent() or "a browser is there"),
]

WILD = "<script>alert(1)</script> **x** $x^2$ `c` :smile: {{a}} ${b} <%= c %> &amp; _y_\n  # z"

OURS = ("http://127.0.0.1:", "http://localhost:", "data:", "blob:", "about:")


@pytest.fixture
def page() -> Iterator[Any]:
    """A page whose console stays silent and that asks nobody but the desk."""
    with browsing() as opened:
        yield opened
        # Opened at /overview, Streamlit's page looks for its server below that address first.
        assert [said for said in opened.said if "/_stcore/" not in said] == []
        assert [url for url in opened.asked if not url.startswith(OURS)] == []


def rows(store: Store) -> list[dict[str, Any]]:
    journal = Journal(store.folder("verdicts.sqlite"))
    try:
        return journal.rows()
    finally:
        journal.close()


def order(store: Store) -> list[str]:
    found = read_findings(store, "r", "minority").to_pylist()
    return [row["pair_id"] for row in sorted(found, key=lambda row: -row["minority"])]


def saved(page: Any) -> str:
    return str(page.inner_text("#desk-saved"))


def no_traceback(page: Any) -> None:
    assert page.query_selector('[data-testid="stException"]') is None
    assert "Traceback" not in page.inner_text("body")


def test_judging_by_keyboard_undoing_and_a_killed_server(
    make_store: StoreFactory, page: Any
) -> None:
    """Every verdict that the screen called saved is there after a SIGKILL in mid-work."""
    store = judgeable(make_store)
    queue, options = order(store), ("--port", str(free_port()), "--curator", "anna")
    with serving(store.root, *options) as server:
        page.goto(server.address)
        here = ready(page)
        assert here == queue[0]
        for key in "kftdu":
            page.keyboard.press(key)
            here = ready(page, other_than=here)
        assert here == queue[5]
        assert "5 verdicts" in saved(page)
        assert str(store.folder("verdicts.sqlite")) in saved(page)
        for back in (4, 3):
            page.keyboard.press("z")
            here = ready(page, other_than=here)
            assert here == queue[back]
        page.keyboard.press("ArrowRight")
        assert ready(page, other_than=here) == queue[4]
        page.keyboard.press("ArrowLeft")
        assert ready(page, other_than=queue[4]) == queue[3]
        page.keyboard.press("d")
        ready(page, other_than=queue[3])
        no_traceback(page)
        server.kill()
    page.said.clear()  # the browser rightly says that its server is gone
    assert [row["choice"] for row in rows(store)][3:] == ["drop", "unsure", "undo", "undo", "drop"]
    with serving(store.root, *options) as server:
        page.goto(server.address)
        assert ready(page) == queue[4]
        assert "4 verdicts" in saved(page)
        until = time.monotonic() + 8
        while time.monotonic() < until and not parts(store.folder("verdicts")):
            time.sleep(0.1)
        assert parts(store.folder("verdicts"))
        no_traceback(page)
        page.goto("about:blank")
    page.said.clear()


def test_a_key_pressed_twice_in_haste_never_judges_an_unseen_pair(
    make_store: StoreFactory, page: Any
) -> None:
    store = judgeable(make_store)
    with serving(store.root, "--port", str(free_port())) as server:
        page.goto(server.address)
        first = ready(page)
        page.evaluate(
            "() => { for (let n = 0; n < 4; n++) document.dispatchEvent(new KeyboardEvent("
            "'keydown', {key: 'd', code: 'KeyD', bubbles: true})) }"
        )
        ready(page, other_than=first)
        time.sleep(1)
        settled(page)
        assert {row["pair_id"] for row in rows(store)} == {first}


def test_a_key_held_down_gives_one_verdict(make_store: StoreFactory, page: Any) -> None:
    store = judgeable(make_store)
    with serving(store.root, "--port", str(free_port())) as server:
        page.goto(server.address.replace("127.0.0.1", "localhost"))
        first = ready(page)
        for _ in range(30):
            page.keyboard.down("d")
            time.sleep(0.05)
        page.keyboard.up("d")
        ready(page, other_than=first)
        assert [row["pair_id"] for row in rows(store)] == [first]


def test_a_click_on_a_bar_filters_the_link_says_so_and_the_chip_clears(
    make_store: StoreFactory, page: Any
) -> None:
    store = judgeable(make_store)
    with serving(store.root, "--port", str(free_port())) as server:
        page.goto(server.address)
        ready(page)
        bars = page.locator(".st-key-u-0 .barlayer .trace:last-child path")
        bars.first.wait_for()
        bars.first.click(position={"x": 2, "y": 2}, force=True)
        chip = page.locator(".st-key-clear-filter button").first
        chip.wait_for()
        narrowed = ready(page)
        place = page.inner_text(".desk-place")
        assert "of 40" not in place
        link = page.url
        assert "range=minority" in link
        chip.click()
        chip.wait_for(state="detached")
        ready(page)
        assert page.inner_text(".desk-place") == "1 of 40"
        page.goto(link)  # a saved link, in a session of its own
        page.locator(".st-key-clear-filter button").first.wait_for()
        assert ready(page) == narrowed
        assert page.inner_text(".desk-place") == place
        no_traceback(page)


def test_swapping_and_blind_work_change_what_is_seen_and_no_verdict(
    make_store: StoreFactory, page: Any
) -> None:
    store = judgeable(make_store)
    with serving(store.root, "--port", str(free_port()), "--curator", "anna") as server:
        page.goto(server.address)
        first = ready(page)
        sources = "() => [...document.querySelectorAll('.desk-mount img.own')].map((i) => i.src)"
        left, right = page.evaluate(sources)
        page.keyboard.press("s")
        page.wait_for_function(f"(src) => ({sources})()[0] === src", arg=right)
        assert page.evaluate(sources) == [right, left]
        page.keyboard.press("s")
        page.wait_for_function(f"(src) => ({sources})()[0] === src", arg=left)
        ready(page)
        page.keyboard.press("b")
        page.wait_for_selector("text=sides are shuffled")
        ready(page)
        assert "chosen" not in page.inner_text(".st-key-pair")
        seen = page.evaluate(sources)
        page.keyboard.press("1")
        ready(page, other_than=first)
        (row,) = rows(store)
        assert row["choice"] == ("image_0" if seen[0] == left else "image_1")
        no_traceback(page)


def test_zoom_follows_the_pair_that_the_keys_judge(make_store: StoreFactory, page: Any) -> None:
    """Prompt, labels and keys stay; both images move together; Escape leads back."""
    store = judgeable(make_store)
    queue = order(store)
    shown = "() => [...document.querySelectorAll('.desk-mount img.own')].map(i => i.dataset.image)"
    with serving(store.root, "--port", str(free_port())) as server:
        page.goto(server.address)
        ready(page)
        page.locator(".desk-mount img.own").first.click()
        page.wait_for_selector(".judge.zoomed[role=dialog]")
        first = page.evaluate(shown)
        page.keyboard.press("d")
        assert ready(page, other_than=queue[0]) == queue[1]
        assert page.query_selector(".judge.zoomed")
        assert not set(first) & set(page.evaluate(shown))
        assert page.inner_text(".desk-prompt").startswith("a square number")
        for words in ("Keep", "chosen", "rejected"):
            assert words in page.inner_text(".judge.zoomed")
        page.keyboard.press("p")
        page.mouse.move(400, 400)
        page.mouse.wheel(0, -200)
        transforms = "() => [...document.querySelectorAll('img.own')].map(i => i.style.transform)"
        page.wait_for_function(f"() => ({transforms})()[0].includes('scale(')")
        one, other = page.evaluate(transforms)
        assert one == other != "translate(0%, 0%) scale(1)"
        assert [row["pair_id"] for row in rows(store)] == [queue[0]]
        page.keyboard.press("Escape")
        page.wait_for_selector(".judge:not(.zoomed)")
        no_traceback(page)


def test_every_control_has_a_name_and_is_reached_by_tab(
    make_store: StoreFactory, page: Any
) -> None:
    store = judgeable(make_store)
    with serving(store.root, "--port", str(free_port())) as server:
        for path in ("", "/overview"):
            page.goto(server.address + path)
            page.wait_for_selector("#desk-ready, .st-key-counts", state="attached")
            settled(page)
            page.wait_for_timeout(500)
            assert page.evaluate(NAMELESS) == [], path
            assert page.evaluate(UNREACHED) == [], path
        page.goto("about:blank")


NAMELESS = """() => [...document.querySelectorAll(
    "button, a[href], input, textarea, select, img, [role=slider], [role=button]")]
  .filter((one) => one.offsetParent !== null && !one.closest("[aria-hidden=true]"))
  .filter((one) => !(one.getAttribute("aria-label") || one.getAttribute("alt") || one.title
    || (one.labels && one.labels.length) || one.getAttribute("aria-labelledby")
    || one.textContent.trim()))
  .map((one) => one.outerHTML.slice(0, 160))"""

UNREACHED = """() => [...document.querySelectorAll("button, a[href], input, [role=slider]")]
  .filter((one) => one.offsetParent !== null && !one.disabled && one.type !== "file")
  .filter((one) => one.tabIndex < 0 && !one.closest("[tabindex='0']")
    && !one.closest("[role=radiogroup], [data-testid=stButtonGroup], label, [inert]")
    // The arrow of a list: the field beside it is reached, and opens the list by arrow key.
    && !(one.ariaHasPopup === "listbox" && one.parentElement.querySelector("input")?.tabIndex >= 0))
  .map((one) => one.outerHTML.slice(0, 160))"""


def test_a_desk_with_a_token_asks_once_and_keeps_the_link(
    make_store: StoreFactory, page: Any
) -> None:
    store = judgeable(make_store)
    third = order(store)[2]
    options = ("--port", str(free_port()), "--token", "open sesame")
    with serving(store.root, *options) as server:
        page.goto(f"{server.address}/pair?pair={third}")
        page.wait_for_selector("text=The desk is locked")
        assert "a square" not in page.content()
        page.get_by_label("Your name").fill("anna")
        page.get_by_label("Token").fill("open sesame")
        page.keyboard.press("Enter")
        assert ready(page) == third
        for _ in range(2):
            page.reload()
            assert ready(page) == third
        page.keyboard.press("d")
        page.wait_for_selector('.judge button.current:has-text("Drop")')
        assert [(row["curator"], row["pair_id"]) for row in rows(store)] == [("anna", third)]
        page.evaluate("() => sessionStorage.setItem('outvoted-pass', 'guessed')")
        page.reload()
        page.wait_for_selector("text=The desk is locked")
        no_traceback(page)


def test_two_curators_are_dealt_different_pairs_and_see_where_they_differ(
    make_store: StoreFactory, page: Any
) -> None:
    store = judgeable(make_store)
    queue, token = order(store), ("--token", "open sesame")
    with serving(store.root, "--port", str(free_port()), *token) as server:
        other = page.context.browser.new_page(viewport={"width": 1440, "height": 900})
        other.set_default_timeout(1000 * PATIENCE)
        for seat, name in ((page, "anna"), (other, "berta")):
            seat.goto(f"{server.address}")
            seat.get_by_label("Your name").fill(name)
            seat.get_by_label("Token").fill("open sesame")
            seat.keyboard.press("Enter")
            ready(seat)
        for _ in range(8):
            for seat in (page, other):
                here = ready(seat)
                seat.keyboard.press("d")
                ready(seat, other_than=here)
        judged = [row["pair_id"] for row in rows(store)]
        assert len(judged) == len(set(judged)) == 16
        other.goto(f"{server.address}/?pair={queue[0]}")  # on purpose, they meet; no token again
        assert ready(other) == queue[0]
        other.keyboard.press("k")
        ready(other, other_than=queue[0])
        assert [row["curator"] for row in rows(store) if row["pair_id"] == queue[0]] == [
            "anna",
            "berta",
        ]
        page.goto(f"{server.address}/?pair={queue[0]}")
        assert ready(page) == queue[0]
        page.wait_for_selector("text=curators differ")
        page.wait_for_selector('.desk-chip.given i:text-is("berta")')
        for seat in (page, other):
            no_traceback(seat)
        other.close()


def test_letters_typed_into_a_filter_are_no_verdicts(make_store: StoreFactory, page: Any) -> None:
    store = judgeable(make_store)
    with serving(store.root, "--port", str(free_port())) as server:
        page.goto(server.address)
        ready(page)
        box = page.locator(".st-key-filter-text input")
        box.click()
        page.keyboard.type("ftdu")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=No pair is left in this view")
        assert rows(store) == []


def test_a_prompt_appears_character_by_character(make_store: StoreFactory, page: Any) -> None:
    store = judgeable(make_store, prompt=WILD)
    with serving(store.root, "--port", str(free_port())) as server:
        page.goto(server.address)
        ready(page)
        assert (
            page.evaluate("() => document.querySelector('.desk-prompt span').textContent") == WILD
        )
        no_traceback(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_fits_without_scrolling(make_store: StoreFactory, scheme: str) -> None:
    store = judgeable(make_store, prompt="a square " * 40)
    with serving(store.root, "--port", str(free_port())) as server, browsing(scheme) as page:
        page.goto(server.address)
        ready(page)
        height = "() => document.querySelector('[data-testid=\"stMain\"]').scrollHeight"
        assert page.evaluate(height) <= 900
        low = page.locator(".judge-aside").bounding_box()
        assert low["y"] + low["height"] <= 900
        cards = [card.bounding_box() for card in page.locator(".desk-mount").all()]
        assert (cards[0]["width"], cards[0]["height"]) == (cards[1]["width"], cards[1]["height"])
        assert page.evaluate("() => document.querySelector('img.own').naturalWidth") == 16
        assert page.said == []


def test_empty_and_broken_stores_open_with_a_sentence(
    make_store: StoreFactory, tmp_path: Path, page: Any
) -> None:
    stores = {
        "outvoted ingest KIND": create_store(tmp_path / "empty"),
        "outvoted analyze": make_store(run=True, name="unanalysed"),
        "outvoted train": make_store(name="unrun"),
        "cannot be shown": judgeable(make_store, name="broken", broken=True),
    }
    for words, store in stores.items():
        with serving(store.root, "--port", str(free_port())) as server:
            for path in ("", "/overview"):
                page.goto(server.address + path)
                page.wait_for_selector("h1, .desk-mount")
                settled(page)
                no_traceback(page)
                if not path:
                    page.wait_for_selector(f"text={words}")
            page.goto("about:blank")


def test_a_server_serves_this_machine_only(make_store: StoreFactory) -> None:
    with serving(make_store().root, "--port", str(free_port())) as server:
        assert isinstance(server, Server)
        port = int(server.address.rsplit(":", 1)[1])
        listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
        here = [line.split()[1] for line in listening if line.split()[3] == "0A"]
        assert [one for one in here if one.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
