"""Every page of the desk on every kind of store: it opens, and says what to do next."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.app.desk_pages import open_page, shown
from tests.app.desk_stores import judgeable
from tests.factories import StoreFactory
from toolkit.ingest import ingest
from toolkit.store import Store, create_store
from toolkit.store.connection import read_pairs
from toolkit.store.runs import start_run, write_findings

PAGES = ("pair", "grid", "map", "prompts", "audit", "runs", "export")


def whole(make: StoreFactory, _: Path) -> Store:
    return judgeable(make)


def empty(_: StoreFactory, folder: Path) -> Store:
    return create_store(folder / "empty")


def without_run(make: StoreFactory, _: Path) -> Store:
    return make(pairs=8)


def without_findings(make: StoreFactory, _: Path) -> Store:
    return make(pairs=8, run=True)


def without_images(make: StoreFactory, _: Path) -> Store:
    store = judgeable(make, pairs=8)
    shutil.rmtree(store.folder("images"))
    return store


def with_broken_images(make: StoreFactory, _: Path) -> Store:
    return judgeable(make, pairs=8, broken=True)


def without_labels(make: StoreFactory, _: Path) -> Store:
    return judgeable(make, pairs=8, label=0.5)


def imported(make: StoreFactory, folder: Path) -> Store:
    """A run from another trainer's u of five pairs: no confidence, stability, steps or rows."""
    store = make(pairs=8)
    ids = sorted(read_pairs(store, ["pair_id"])[0].to_pylist())
    np.save(folder / "u.npy", np.array([0.5, 0.25, 0.75, 0.125, 0.625]))
    np.save(folder / "ids.npy", np.array(ids[:5]))
    index = [folder / "ids.npy"]
    ingest(store, "released-npy", [folder / "u.npy"], index=index, run="theirs", by="pair_id")
    return store


def with_u_alone(make: StoreFactory, _: Path) -> Store:
    """A finding of somebody's own that says a u and nothing beside it."""
    store = make(pairs=8)
    start_run(store, "own", {"models": ["policy"], "labels": "original"}, "")
    ids = read_pairs(store, ["pair_id"])[0]
    u = [0.125 * k for k in range(8)]
    write_findings(store, "own", "minority", pa.table({"pair_id": ids, "minority": u}), {})
    return store


NEXT = {
    empty: {
        "pair": "outvoted ingest",
        "grid": "outvoted ingest",
        "map": "outvoted train",
        "prompts": "outvoted ingest",
        "audit": "outvoted train",
        "runs": "outvoted train",
        "export": "outvoted ingest",
    },
    without_run: {
        "pair": "outvoted train",
        "grid": "1 to 8 of 8",
        "map": "outvoted train",
        "prompts": "outvoted train",
        "audit": "outvoted train",
        "runs": "outvoted train",
        "export": "outvoted export",
    },
    without_findings: {
        "pair": "outvoted analyze",
        "grid": "1 to 8 of 8",
        "map": "outvoted analyze",
        "prompts": "outvoted analyze",
        "audit": "outvoted analyze",
        "runs": "finished after",
        "export": "outvoted export",
    },
    without_images: {"pair": "the store has no image", "grid": "the store has no image"},
    with_broken_images: {"pair": "cannot be decoded", "grid": "cannot be decoded"},
    without_labels: {
        "pair": "states no preference",
        "grid": "tie",
        "prompts": "a square number",
        "audit": "Is u right?",
        "map": "8 pairs",
    },
    imported: {
        "queue": "80th percentile",
        "overview": "u of every pair",
        "pair": "Run theirs has no visit of this pair",
        "grid": "1 to 5 of 5",
        "map": "5 pairs drawn",
        "prompts": "a square number",
        "audit": "Is u right?",
        "runs": "finished after",
        "export": "outvoted export",
    },
    with_u_alone: {"queue": "87th percentile", "map": "8 pairs drawn"},
    whole: {
        "pair": "6 visits",
        "grid": "1 to 24 of 40",
        "map": "40 pairs",
        "prompts": "a square number",
        "audit": "Is u right?",
        "runs": "finished after",
        "export": "outvoted export",
    },
}
CONTROLS = (
    "button", "checkbox", "selectbox", "text_input", "toggle", "number_input", "radio",
    "multiselect", "text_area",
)  # fmt: skip
CASES = [(kind, page) for kind, told in NEXT.items() for page in told]


@pytest.mark.parametrize(("kind", "page"), CASES, ids=lambda one: getattr(one, "__name__", one))
def test_every_page_opens_on_every_store(
    make_store: StoreFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind,
    page: str,
) -> None:
    app = open_page(monkeypatch, kind(make_store, tmp_path), page)
    assert not app.exception
    assert not app.error, [error.value for error in app.error]
    assert NEXT[kind][page] in shown(app)
    controls = [control for name in CONTROLS for control in getattr(app, name)]
    assert all(control.label.strip() for control in controls)


@pytest.mark.parametrize("page", PAGES)
def test_prompts_stand_on_the_page_as_they_are(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    wild = "<script>alert(1)</script> **x** <img src=x onerror=alert(2)>"
    store = judgeable(make_store, pairs=8, prompt=wild)
    app = open_page(monkeypatch, store, page)
    assert not app.exception
    for body in (element.proto.body for element in app.get("html")):
        assert "<script>" not in body
        assert "<img src=x" not in body
