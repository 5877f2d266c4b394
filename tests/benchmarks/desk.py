"""The desk at 1,000,000 pairs: first page, next pair, filter and histogram, memory.

    python -m tests.benchmarks.desk WORK_FOLDER [--write] [--pairs N] [--only server]

The server is the real one, in a process of its own, and a real Chromium looks at it; the figures
"at the server" are those of the page's script, driven without a browser in a third process.
`--pairs` makes a smaller store, for a quick look; `--only` measures one part (server, browser).
`--write` puts the table into tests/benchmarks/results/desk.md.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Found: TypeAlias = dict[str, list[float | None]]
"""Seconds by the clock, and CPU seconds where they can be told."""
PAIRS, PICTURED = 1_000_000, 4_000
VISITS, MODELS, PART = 2, ("policy", "ema"), 250_000
RESULTS = Path(__file__).parent / "results" / "desk.md"
ASKED = {
    "first page, in the browser, server warm, new session": "3 s",
    "first page, at the server, nothing read yet": "3 s",
    "next pair, verdict included, in the browser": ".2 s",
    "next pair, verdict included, at the server": ".2 s",
    "the same with the whole page drawn anew, sidebar and all": "",
    "filter and histogram, at the server": ".5 s",
    "curves of every pair, read behind the first page": "",
    "memory of the server after all this, MB": "1,500",
}


def make_store(root: Path, count: int) -> None:
    """`count` pairs with votes and findings; the 2,000 highest u have images of 512 px."""
    import pyarrow as pa

    from toolkit.files.atomic import write_part
    from toolkit.schema import PAIRS as SCHEMA
    from toolkit.schema import VOTES, conform
    from toolkit.store import create_store
    from toolkit.store.runs import start_run, write_findings

    store = create_store(root)
    rng = np.random.default_rng(0)
    ids = pa.array([f"p{k:011d}" for k in rng.permutation(count)])
    u = rng.beta(2, 5, count)
    top = np.argsort(-u)[: PICTURED // 2]
    names = [np.full(count, f"no-image-{slot}", dtype=object) for slot in (0, 1)]
    for slot in (0, 1):
        names[slot][top] = [f"image-{k:05d}-{slot}" for k in range(len(top))]
    pairs = {
        "pair_id": ids,
        "comparison_id": ids,
        "prompt": pa.array([f"a fox in a winter wood, oil on canvas, number {k // 20}"
                            for k in range(count)]),
        "image_0": pa.array(names[0]),
        "image_1": pa.array(names[1]),
        "label": rng.integers(0, 2, count).astype(np.float32),
        "split": pa.array(["train"] * count),
        "source": pa.array(["synthetic"] * count),
    }  # fmt: skip
    write_part(store.folder("pairs"), conform(pa.table(pairs), SCHEMA))
    voters = pa.array([f"annotator-{k}" for k in rng.integers(0, 5000, count)])
    votes = {"pair_id": ids, "annotator": voters, "choice": pairs["label"]}
    write_part(store.folder("votes"), conform(pa.table(votes), VOTES))
    _pictures(store, len(top))
    start_run(store, "r", {"models": list(MODELS), "labels": "original"}, "")
    _visited(store, ids, pairs["label"], rng)
    scores = {"confidence": rng.beta(2, 3, count), "stability": rng.beta(3, 3, count)}
    visits = np.full(count, VISITS, np.int32)
    table = pa.table({"pair_id": ids, "visits": visits, **scores, "minority": u})
    write_findings(store, "r", "minority", table, {"labels": "original"})
    other = pa.table({"pair_id": ids, "variability": rng.beta(2, 2, count)})
    write_findings(store, "r", "cartography", other, {"labels": "original"})


def _visited(store: Any, ids: Any, label: Any, rng: np.random.Generator) -> None:
    """VISITS visits a pair, with the errors of the policy and one footprint."""
    import pyarrow as pa

    from toolkit.files.atomic import write_part
    from toolkit.recorder import TRAJECTORY

    folder = store.run("r") / "trajectory" / "rank-0"
    count, size = len(ids), min(PART, len(ids))
    for part in range(VISITS * count // size):
        at = np.arange(part * size, (part + 1) * size)
        mine, few = at % count, {"visit": at // count, "step": at // 64, "micro": at // 16}
        errors = {name: rng.random((size, len(MODELS)), np.float32) for name in ("err_0", "err_1")}
        columns = {
            "pair_id": ids.take(pa.array(mine)),
            "kind": ["train"] * size,
            "label": label[mine],
            **{name: rng.random(size, np.float32) for name in ("err_ref_0", "err_ref_1")},
            **{name: pa.array(list(rows)) for name, rows in errors.items()},
            **few,
        }
        nothing = pa.nulls(size)
        told = [pa.array(columns.get(name, nothing)).cast(TRAJECTORY.field(name).type)
                for name in TRAJECTORY.names]  # fmt: skip
        table = pa.table(told, names=TRAJECTORY.names)
        write_part(folder, table.cast(TRAJECTORY), name=f"part-{part:06d}.parquet")


def _pictures(store: Any, count: int) -> None:
    import io

    from PIL import Image

    from toolkit.image_files import decode
    from toolkit.store.images import image_row, write_images

    rng = np.random.default_rng(1)
    rows = []
    for k in range(count):
        for slot in (0, 1):
            rough = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            out = io.BytesIO()
            rough.resize((512, 512), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
            data = out.getvalue()
            rows.append(image_row(f"image-{k:05d}-{slot}", data, decode(data)))
        if len(rows) >= 1000:
            write_images(store, rows)
            rows = []
    write_images(store, rows)


def at_the_server(root: Path, journal: Path) -> Found:
    """The page's script without a browser: seconds a run."""
    from streamlit.testing.v1 import AppTest

    from app.desk.queries.connection import open_desk
    from tests.app.desk_pages import press
    from toolkit.store import open_store

    settings = {"store": str(root), "journal": str(journal), "curator": "curator"}
    os.environ["OUTVOTED_DESK"] = json.dumps(settings)
    main = Path(__file__).parents[2] / "app" / "desk" / "streamlit_app.py"
    app = AppTest.from_file(str(main), default_timeout=300)
    found = _both("first page, at the server, nothing read yet", [_taken(app.run)])
    desk = open_desk(open_store(root), "r", journal)
    since = time.perf_counter()
    while desk.series == "loading":
        time.sleep(0.1)
    found["curves of every pair, read behind the first page"] = [time.perf_counter() - since, None]
    assert desk.series == "ready"
    nexts, wholes = [], []
    with _timed() as parts:
        app.run()  # the buttons call what is timed from here on
        for _ in range(20):
            parts.clear()
            wholes.append(_taken(lambda: press(app, "Keep")))
            assert len(parts) == 2, "a verdict is recorded once, and the pair drawn once"
            nexts.append(tuple(map(sum, zip(*parts, strict=True))))
    assert not app.exception
    found |= _both("next pair, verdict included, at the server", nexts)
    found |= _both("the same with the whole page drawn anew, sidebar and all", wholes)
    slowest = max(_queries(root, journal), key=lambda taken: taken[1])
    return found | _both("filter and histogram, at the server", [slowest])


@contextmanager
def _timed() -> Iterator[list[tuple[float, float]]]:
    """Times what a verdict costs the server in a browser's session: the callback that records it,
    and the pair's fragment. The driver here runs the whole page instead."""
    from unittest.mock import patch

    from app.desk.components import judge
    from app.desk.views import queue_page

    parts: list[tuple[float, float]] = []

    def timed(act: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: parts.append(_taken(lambda: act(*given))) or ""

    with (
        patch.object(judge.Link, "receive", timed(judge.Link.receive)),
        patch.object(queue_page, "_draw", timed(queue_page._draw)),
    ):
        yield parts


def _queries(root: Path, journal: Path) -> list[tuple[float, float]]:
    """Four filters, none seen before: numbers of the view, and three histograms of it."""
    from app.desk.queries import queue
    from app.desk.queries.connection import open_desk
    from toolkit.store import open_store
    from toolkit.store.queue import views as listing
    from toolkit.store.queue.views import View

    desk = open_desk(open_store(root), "r", journal)
    views = [
        View(where="minority > 0.3 and confidence < 0.9 and visits >= 1"),
        View(text="number 77").with_range("minority", 0.2, None),
        View(order="cartography.variability").with_range("stability", 0.4, 0.9),
        View(annotator="annotator-77"),
    ]

    def asked(view: View) -> None:
        cursor = desk.cursor(view)
        assert listing.count(cursor, view) > 0
        for column in ("minority", "confidence", "stability"):
            queue.histogram(desk, view, column)

    return [_taken(lambda view=view: asked(view)) for view in views]


def in_the_browser(root: Path, journal: Path) -> Found:
    """What a curator sees: seconds from the address or the key to the drawn pair; the server's
    memory."""
    from tests.browser.desk import browsing, free_port, ready, serving

    options = ("--port", str(free_port()), "--journal", str(journal), "--curator", "curator")
    with serving(root, *options) as server:
        with browsing() as page:
            page.goto(server.address)
            ready(page)
            time.sleep(30)  # the curves are read by then
        with browsing() as page:
            start = time.perf_counter()
            page.goto(server.address)
            page.wait_for_selector("#desk-ready", state="attached")
            first = time.perf_counter() - start
            ready(page)
            nexts = [_next_pair(page) for _ in range(20)]
        memory = _memory(server.process.pid)
    return {
        "first page, in the browser, server warm, new session": [first, None],
        "next pair, verdict included, in the browser": [float(np.median(nexts)), None],
        "memory of the server after all this, MB": [memory, None],
    }


def _next_pair(page: Any) -> float:
    """Milliseconds are the browser's own: from the key to the next pair's images decoded."""
    page.wait_for_function("() => document.querySelector('.judge')?.dataset.state === 'ready'")
    milliseconds = page.evaluate(
        """async () => {
            const here = document.querySelector("#desk-ready").dataset.pair;
            const start = performance.now();
            document.dispatchEvent(new KeyboardEvent("keydown",
                {key: "k", code: "KeyK", bubbles: true}));
            while (document.querySelector("#desk-ready").dataset.pair === here)
                await new Promise((go) => setTimeout(go, 5));
            for (const image of document.querySelectorAll("img.own")) await image.decode();
            return performance.now() - start;
        }"""
    )
    return float(milliseconds) / 1000


def _memory(command: int) -> float:
    """Largest resident size of the server that the command started, MB."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if int(lines["PPid"]) == command:
            return int(lines["VmHWM"].split()[0]) / 1000
    raise SystemExit("the server was gone before its memory was read")


def _taken(act: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and CPU seconds of the process."""
    start, used = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - start, time.process_time() - used


def _both(name: str, taken: list[tuple[float, float]]) -> Found:
    """The medians."""
    return {name: [float(np.median(each)) for each in zip(*taken, strict=True)]}


PARTS = {"server": at_the_server, "browser": in_the_browser}


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.3f}" if value < 100 else f"{value:,.0f}"


def report(found: Found, loads: tuple[float, float]) -> str:
    """The results as Markdown."""
    rows = [
        f"| {name} | {_shown(clock)} | {_shown(cpu)} | {ASKED[name]} |"
        for name, (clock, cpu) in found.items()
    ]
    packages = ", ".join(f"{name} {version(name)}" for name in ("streamlit", "duckdb", "pyarrow"))
    return "\n".join(
        [
            "# The desk at a million pairs\n",
            f"`python -m tests.benchmarks.desk WORK_FOLDER --write`, on {os.cpu_count()} cores "
            f"({platform.machine()}), Python {platform.python_version()}, {packages}.\n",
            f"The load average was {loads[0]:.1f} when it began and {loads[1]:.1f} when it ended "
            "(2 is a full machine, and above it the clock says little); CPU seconds are the "
            "page's own process's, and what a free core would need. A verdict is the "
            "callback that records it and the pair's fragment, as in a browser's session. "
            "1,000,000 pairs with a vote and two visits each, synthetic findings, 4,000 images of "
            "512 pixels; seconds, medians of 20 pairs, the slowest of four filters that the desk "
            "had not seen before. No rival was run: no annotation tool with a pair as its unit is "
            "among the packages at hand.\n",
            "| what | seconds | CPU seconds | asked for |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _option(name: str) -> str | None:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


def main() -> int:
    """Make the store once, measure each part in a process of its own."""
    work = Path(sys.argv[1])
    root = work / "desk_store"
    if part := _option("--part"):
        journal = work / f"{part}-{time.time_ns()}.sqlite"
        print(json.dumps(PARTS[part](root, journal)))
        return 0
    count = int(_option("--pairs") or PAIRS)
    if "--write" in sys.argv and count != PAIRS:
        raise SystemExit("--write keeps the figures of a million pairs; leave --pairs out.")
    if not (root / "findings").exists():
        make_store(root, count)
    load = os.getloadavg()[0]
    found: Found = {}
    for part in filter(None, [_option("--only")] if "--only" in sys.argv else PARTS):
        command = [sys.executable, "-m", "tests.benchmarks.desk", str(work), "--part", part]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{part} failed:\n{done.stderr[-3000:]}")
        found |= json.loads(done.stdout.splitlines()[-1])
    text = report(found, (load, os.getloadavg()[0]))
    print(text)
    if "--write" in sys.argv:
        RESULTS.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
