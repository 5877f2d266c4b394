"""The pages beside the Queue in a real Chromium: menu, grid, map, audit and export."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.app.desk_stores import judgeable
from tests.browser.desk import PATIENCE, absent, browsing, free_port, ready, serving, settled
from tests.factories import StoreFactory
from toolkit.store import Store
from toolkit.store.journal import Journal
from toolkit.store.runs import read_findings
from toolkit.store.verdicts import resolve_rows

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(absent()), reason=absent() or "a browser is there"),
]

MENU = {
    "Grid": "#grid-ready",
    "Pair": ".judge .desk-mount",
    "Map": ".scatterlayer path.point",
    "Prompts": "text=Pairs with a u, at least",
    "Audit": "text=Draw the sample",
    "Runs": "text=ell by timestep",
    "Export": "text=The same in a terminal",
    "Overview": "text=What to do next",
}
"""A page of the menu, and what is there once it is drawn."""


@pytest.fixture
def page() -> Iterator[Any]:
    """A page whose console stays silent."""
    with browsing() as opened:
        yield opened
        assert opened.said == []


def rows(store: Store) -> list[dict[str, Any]]:
    journal = Journal(store.folder("verdicts.sqlite"))
    try:
        return journal.rows()
    finally:
        journal.close()


def go(page: Any, name: str) -> None:
    """Open a page from the menu, and wait until it is drawn."""
    page.get_by_role("link", name=name, exact=True).first.click()
    page.wait_for_selector(MENU[name], state="attached")
    settled(page)


def until(true: Any) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.1)


def tried(act: Any, true: Any) -> None:
    """Do what a person does again where a chart was drawn anew under the mouse."""
    for _ in range(PATIENCE // 6):
        act()
        end = time.monotonic() + 6
        while time.monotonic() < end:
            if true():
                return
            time.sleep(0.1)
    raise AssertionError("it never came true")


def test_every_page_opens_from_the_menu_with_a_silent_console(
    make_store: StoreFactory, page: Any
) -> None:
    store = judgeable(make_store)
    with serving(store.root, "--port", str(free_port())) as server:
        page.goto(server.address)
        page.wait_for_selector("#desk-ready", state="attached")
        for name in MENU:
            go(page, name)
            if name in ("Grid", "Map"):  # the sidebar shows the view, not its widgets' defaults
                assert page.get_by_label("Largest first").first.is_checked(), name
            assert page.query_selector('[data-testid="stException"]') is None, name
            assert page.query_selector('[data-testid="stAlertContentError"]') is None, name
            unnamed = page.evaluate(
                "() => [...document.querySelectorAll('button, input, textarea, a[href]')].filter("
                "e => e.offsetParent && !(e.textContent.trim() || e.getAttribute('aria-label') ||"
                " e.getAttribute('title') || e.labels?.length || e.closest('label') ||"
                " e.getAttribute('aria-labelledby'))).map(e => e.outerHTML.slice(0, 160))"
            )
            assert unnamed == [], name


def test_the_grid_judges_several_by_keyboard_and_takes_them_back_as_one(
    make_store: StoreFactory, page: Any
) -> None:
    store = judgeable(make_store)
    with serving(store.root, "--port", str(free_port()), "--curator", "anna") as server:
        page.goto(server.address)
        page.wait_for_selector("#desk-ready", state="attached")
        go(page, "Grid")
        boxes = page.locator(".desk-cell label")
        for place in (0, 2):
            boxes.nth(place).click()
            page.wait_for_selector(f'#grid-selected:has-text("{place // 2 + 1} selected")')
        settled(page)
        page.keyboard.press("d")
        until(lambda: len(rows(store)) == 2)
        found = read_findings(store, "r", "minority").to_pylist()
        by_u = [row["pair_id"] for row in sorted(found, key=lambda row: -row["minority"])]
        assert {row["pair_id"] for row in rows(store)} == {by_u[0], by_u[2]}
        page.wait_for_selector('button:has-text("Undo 2 verdicts")')
        page.wait_for_selector('.desk-cell .desk-chip:has-text("drop")')
        settled(page)
        page.keyboard.press("z")
        until(lambda: len(rows(store)) == 4)
        assert resolve_rows(rows(store)).num_rows == 0
        page.wait_for_selector('.desk-cell .desk-chip:has-text("drop")', state="detached")


def test_a_box_and_a_bar_on_the_map_become_the_view(make_store: StoreFactory, page: Any) -> None:
    store = judgeable(make_store)
    with serving(store.root, "--port", str(free_port())) as server:
        page.goto(server.address)
        page.wait_for_selector("#desk-ready", state="attached")
        go(page, "Map")

        def pairs() -> int:
            return int(page.get_attribute("#map-count", "data-pairs"))

        assert pairs() == 40

        def box() -> None:
            plot = page.locator('[data-testid="stMain"] .nsewdrag').nth(1).bounding_box()
            page.mouse.move(plot["x"] + 5, plot["y"] + 5)
            page.mouse.down()
            page.mouse.move(plot["x"] + plot["width"] / 2, plot["y"] + plot["height"] - 5, steps=8)
            page.mouse.up()

        tried(box, lambda: 0 < pairs() < 40)
        boxed = pairs()
        page.wait_for_function("() => location.search.includes('range=')")
        settled(page)
        page.get_by_role("link", name="Show them in the Grid").click()
        page.wait_for_selector("#grid-ready", state="attached")
        page.wait_for_selector(f'.desk-place:has-text("of {boxed}")')
        settled(page)
        go(page, "Map")
        page.get_by_role("button", name="Clear the box").click()
        until(lambda: pairs() == 40)
        settled(page)
        bars = page.locator('[data-testid="stMain"] .barlayer path')
        bars.first.wait_for()
        tried(lambda: bars.nth(0).click(force=True), lambda: 0 < pairs() < 40)


def test_an_audit_is_judged_blind_by_keyboard(make_store: StoreFactory, page: Any) -> None:
    store = judgeable(make_store)
    with serving(store.root, "--port", str(free_port()), "--curator", "anna") as server:
        page.goto(server.address)
        page.wait_for_selector("#desk-ready", state="attached")
        go(page, "Audit")
        page.get_by_role("button", name="Draw the sample").click()
        for number, key in enumerate(("1", "t", "2")):
            page.wait_for_selector(f'.desk-place:has-text("{number + 1} of")')
            ready(page)
            assert "chosen" not in page.inner_text(".desk-pair")
            page.keyboard.press("ArrowRight")  # the next pair on the Queue, and no verdict anywhere
            page.keyboard.press(key)
            until(lambda number=number: len(rows(store)) == number + 1)
        sides = [json.loads(row["shown"])["sides"] for row in rows(store)]
        choices = [row["choice"] for row in rows(store)]
        assert choices == [sides[0][0], "tie", sides[2][1]]


def test_an_export_is_written_from_the_page_and_reads_back(
    make_store: StoreFactory, tmp_path: Path, page: Any
) -> None:
    store, out = judgeable(make_store), tmp_path / "sets"
    options = ("--port", str(free_port()), "--exports", str(out))
    with serving(store.root, *options) as server:
        page.goto(server.address)
        page.wait_for_selector("#desk-ready", state="attached")
        go(page, "Export")
        top = page.get_by_label("Drop the top, % of the pairs with a score")
        top.fill("25")
        top.press("Enter")
        page.wait_for_selector('code:has-text("--drop-top 0.25")')
        page.wait_for_selector('td:has-text("30")')
        settled(page)
        page.get_by_role("button", name="Write the export").click()
        go(page, "Overview")  # it goes on when the page is left
        until(lambda: (out / "curated").exists())
        record = json.loads((out / "curated" / "curation.json").read_text())
        assert record["counts"]["after"]["pairs"] == 30
        read = sum(pq.read_table(file).num_rows for file in (out / "curated").rglob("*.parquet"))
        assert read == 30
        go(page, "Export")
        page.wait_for_selector("text=curated is written")
        assert str(out / "curated") in page.inner_text("body")


def test_a_bar_of_the_overview_opens_its_pairs_in_the_queue(
    make_store: StoreFactory, page: Any
) -> None:
    store = judgeable(make_store)
    with serving(store.root, "--port", str(free_port())) as server:
        page.goto(server.address)
        settled(page)
        go(page, "Overview")
        bars = page.locator("[data-testid=stPlotlyChart] .barlayer .trace:last-child path")
        bars.first.wait_for()

        def narrowed() -> bool:
            return "range=minority" in page.evaluate("() => location.search")

        tried(lambda: bars.first.click(position={"x": 2, "y": 2}, force=True), narrowed)
        page.wait_for_selector("#desk-ready", state="attached")
        chip = page.locator(".st-key-clear-filter button").first
        chip.wait_for()
        assert "of 40" not in page.inner_text(".desk-place")
