"""The page Runs while a trainer writes: nothing half-written shows, and its state is told truly."""

import json

import pytest

from tests.app.desk_pages import open_page, shown
from tests.factories import StoreFactory, png
from toolkit.store import Store
from toolkit.store.runs import update_run


def training(make: StoreFactory) -> Store:
    """A store whose run r is at step 20 of 100, with a half-written log line and sample."""
    store = make(pairs=20, run=True)
    update_run(store, "r", finished=False, planned_steps=100, steps=0, pairs_per_step=10)
    folder = store.run("r")
    (folder / "metrics").mkdir()
    lines = [
        {"step": step, "loss": 0.7 - step / 100, "accuracy": 0.5, "pairs_per_second": 10.0,
         "chosen_growth": 0.01} for step in (10, 20)
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 30, "loss'
    (folder / "metrics/scalars.jsonl").write_text(text)
    held = {"step": 20, "accuracy": 0.62, "low": 0.5, "high": 0.73, "pairs": 64}
    (folder / "metrics/held_out.jsonl").write_text(json.dumps(held) + "\n")
    samples = folder / "samples/step-000020"
    samples.mkdir(parents=True)
    (samples / "prompts.txt").write_text("a red square\na blue square\n")
    (samples / "00.png").write_bytes(png((255, 0, 0)))
    (samples / "01.png").write_bytes(png((0, 0, 255))[:40])
    return store


def test_a_run_going_on_shows_what_is_whole(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = training(make_store)
    app = open_page(monkeypatch, store, "runs")
    said = shown(app)
    assert not app.exception
    assert "running: step 20 of 100" in said
    assert "62 % (50–73) of 64 at step 20" in said
    assert "still being written" in said
    assert "a red square, step 20" in said
    more = {"step": 30, "loss": 0.4, "accuracy": 0.9, "pairs_per_second": 10.0}
    with (store.run("r") / "metrics/scalars.jsonl").open("a") as log:
        log.write('": 0.4}\n' + json.dumps(more | {"step": 40}) + "\n")
    assert "running: step 40 of 100" in shown(app.run())


def test_a_silent_run_is_not_called_running(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    store = training(make_store)
    (store.run("r") / "checkpoints/step-000010").mkdir(parents=True)
    for path in [store.run("r"), *store.run("r").rglob("*")]:
        os.utime(path, (1e9, 1e9))
    said = shown(open_page(monkeypatch, store, "runs"))
    assert "nothing was written for" in said
    assert "from step 10" in said
    assert f"outvoted resume {store.root} --run r" in said


def test_runs_are_held_against_each_other(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    store = training(make_store)
    shutil.copytree(store.run("r"), store.run("twin"))
    update_run(store, "twin", finished=True, steps=100, started="2030-01-01")
    app = open_page(monkeypatch, store, "runs")
    assert app.multiselect[0].value == ["twin"]  # the newest
    app = app.multiselect[0].set_value(["twin", "r"]).run()
    said = shown(app)
    assert "finished after 100 steps" in said
    assert "running: step 20 of 100" in said
    assert "twin, step 20" in said
    assert not app.exception
