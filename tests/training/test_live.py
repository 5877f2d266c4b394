import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.factories import StoreFactory
from tests.training.test_resume import table_of
from toolkit.files.atomic import parts
from toolkit.store import Store
from toolkit.store.journal import Entry, Journal
from toolkit.store.verdicts import publish
from training import trainer as loop
from training import verdict_updates as live
from training.pairs import apply_verdicts, load_pairs
from training.recipe import Recipe
from training.trainer import resume, train
from training.verdict_updates import VerdictLog

MakeRecipe = Callable[..., Recipe]


def rows_of(store: Store, run: str) -> list[dict]:
    rows = []
    for part in parts(store.run(run) / "trajectory" / "rank-0"):
        rows += pq.read_table(part).to_pylist()
    return rows


def other(label: float) -> str:
    return "image_1" if label == 1 else "image_0"


def same(label: float) -> str:
    return "image_0" if label == 1 else "image_1"


def publishing(store: Store, journal: Journal, at: dict[int, list[Entry]]) -> Callable:
    """A train_step that publishes verdicts while the given steps are computed."""
    real = loop.train_step

    def step_and_publish(learner: object, batches: object, count: int, step: int) -> object:
        rows = real(learner, batches, count, step)  # type: ignore[arg-type]
        if step in at:
            journal.record(at[step])
            publish(store, journal)
        return rows

    return step_and_publish


def test_a_verdict_published_in_mid_run_acts_from_the_next_look_on(
    make_store: StoreFactory,
    recipe_for: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = make_store(pairs=10)
    pairs = load_pairs(store, labels="original", split="train")
    ids, label = pairs.pair_id.tolist(), pairs.label.copy()
    journal = Journal(tmp_path / "verdicts.sqlite")
    first = [
        Entry(ids[0], "tester", other(label[0])),
        Entry(ids[1], "tester", "tie"),
        Entry(ids[2], "tester", "drop"),
        Entry(ids[3], "tester", "unsure"),
        Entry(ids[4], "tester", same(label[4])),
    ]
    again = [Entry(ids[1], "tester", same(label[1]))]
    monkeypatch.setattr(loop, "train_step", publishing(store, journal, {2: first, 5: again}))
    train(
        recipe_for(
            store,
            steps=12,
            batch_size=10,
            live={"every": 4, "keep": "one"},
            metric={"preset": "running", "rms_min_count": 2},
        )
    )
    rows = rows_of(store, "r")
    of = {k: {r["step"]: r for r in rows if r["pair_id"] == ids[k]} for k in range(10)}
    assert [of[0][s]["label"] for s in (3, 4)] == [label[0], 1 - label[0]]
    assert of[0][4]["verdict_id"] is not None
    assert of[0][3]["verdict_id"] is None
    for k in (1, 2):
        assert [of[k][s]["loss"] == 0 for s in (3, 4, 7)] == [False, True, True]
        assert of[k][4]["weight"] == 0
    assert of[1][8]["loss"] > 0
    assert of[2][8]["loss"] == 0
    assert of[3][8]["verdict_id"] is None
    late = [(of[k][s]["weight"], of[k][s]["minority"]) for k in (4, 5) for s in range(8, 12)]
    assert {weight for weight, _ in late[:4]} == {1.0}  # confirmed: keep is one
    assert all(weight < 1 for weight, minority in late[4:] if minority)
    logged = VerdictLog(store.run("r"), fresh=False).changes
    assert {step: len(changes) for step, changes in logged.items()} == {-1: 0, 4: 5, 8: 1}


def test_resume_replays_the_verdicts_at_their_steps_whatever_was_published_since(
    make_store: StoreFactory,
    recipe_for: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = make_store(pairs=20)
    pairs = load_pairs(store, labels="original", split="train")
    ids, label = pairs.pair_id.tolist(), pairs.label.copy()
    journal = Journal(tmp_path / "verdicts.sqlite")
    early = [Entry(ids[k], "tester", other(label[k])) for k in range(5)]
    late = [Entry(ids[k], "tester", "drop") for k in range(12)]
    recipe = recipe_for(store, steps=8, checkpoint_every=2, live={"every": 2})
    monkeypatch.setattr(loop, "train_step", publishing(store, journal, {1: early}))
    train(recipe)
    whole = table_of(store, "r")
    journal.record(late)
    publish(store, journal)
    # No checkpoint is left: the run begins again, with the log it wrote.
    shutil.rmtree(store.run("r") / "checkpoints")
    about = store.run("r") / "run.json"
    facts = json.loads(about.read_text())
    del facts["checksum"]  # as after an edit by hand
    about.write_text(json.dumps({**facts, "finished": False, "steps": 0}))
    resume(store, "r")
    assert table_of(store, "r") == whole


def test_a_run_gone_on_with_from_a_checkpoint_knows_the_verdicts_before_it(
    make_store: StoreFactory,
    recipe_for: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Verdicts are taken up before steps 2 and 4; the run is stopped in step 5 and goes on from
    the checkpoint of step 4, in a copy of the store."""
    store = make_store(pairs=10)
    shutil.copytree(store.root, tmp_path / "copy")
    copy = Store(tmp_path / "copy")
    pairs = load_pairs(store, labels="original", split="train")
    ids, label = pairs.pair_id.tolist(), pairs.label.copy()
    early = [Entry(ids[k], "tester", other(label[k])) for k in range(4)]
    early += [Entry(ids[4], "tester", "drop"), Entry(ids[5], "tester", "tie")]
    late = [Entry(ids[0], "tester", same(label[0])), Entry(ids[6], "tester", other(label[6]))]
    settings = {"batch_size": 10, "checkpoint_every": 2, "live": {"every": 2}}
    real = loop.train_step

    def stopped(*given: object) -> object:
        if given[3] == 5:
            raise KeyboardInterrupt
        return real(*given)  # type: ignore[arg-type]

    for where, step in ((store, real), (copy, stopped)):
        monkeypatch.setattr(loop, "train_step", step)
        journal = Journal(tmp_path / f"{where.root.name}.sqlite")
        at = {1: early, 3: late}
        monkeypatch.setattr(loop, "train_step", publishing(where, journal, at))
        recipe = recipe_for(where, steps=8, **settings)
        if step is stopped:
            with pytest.raises(KeyboardInterrupt):
                train(recipe)
        else:
            train(recipe)
    monkeypatch.setattr(loop, "train_step", real)
    resume(copy, "r")

    def told(where: Store, name: str) -> list:
        rows = sorted(rows_of(where, "r"), key=lambda row: (row["step"], row["pair_id"]))
        return [row[name] for row in rows]

    for name in ("step", "pair_id", "label", "weight", "err_0", "err_1", "loss"):
        assert told(copy, name) == told(store, name), name
    late_labels = [row["label"] for row in rows_of(copy, "r") if row["pair_id"] == ids[1]][-2:]
    assert late_labels == [1 - label[1]] * 2


def test_a_verdict_taken_back_restores_the_sets_label(make_store: StoreFactory) -> None:
    pairs = load_pairs(make_store(), labels="original", split="train")
    name, label = pairs.pair_id[3], float(pairs.label[3])
    assert (
        apply_verdicts(pairs, {name: {"choice": other(label), "verdict_id": "v"}}, "computed") == 1
    )
    assert (pairs.label[3], pairs.verdict_id[3]) == (1 - label, "v")
    apply_verdicts(pairs, {name: {"choice": "unsure", "verdict_id": None}}, "computed")
    assert (pairs.label[3], pairs.verdict_id[3], bool(pairs.dropped[3])) == (label, None, False)
    assert (
        apply_verdicts(pairs, {"stranger": {"choice": "drop", "verdict_id": "w"}}, "computed") == 0
    )


def test_half_a_line_at_the_logs_end_was_never_trained_on(tmp_path: Path) -> None:
    log = VerdictLog(tmp_path, fresh=True)
    log.append(-1, {})
    log.append(4, {"p": {"choice": "tie", "verdict_id": "v"}})
    with log.path.open("a") as stream:
        stream.write('{"step": 8, "chan')
    again = VerdictLog(tmp_path, fresh=False)
    assert sorted(again.changes) == [-1, 4]
    again.append(8, {})
    assert sorted(VerdictLog(tmp_path, fresh=False).changes) == [-1, 4, 8]
    assert VerdictLog(tmp_path, fresh=True).changes == {}


def test_what_is_trained_by_is_synced_to_the_disk_before(
    make_store: StoreFactory,
    recipe_for: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log's file at every look, and with the first the folder that names it."""
    store = make_store(pairs=10)
    journal = Journal(tmp_path / "verdicts.sqlite")
    first = load_pairs(store, labels="original", split="train").pair_id.tolist()[0]
    log, happened = store.run("r") / "verdicts.jsonl", []
    sync, sync_folder = os.fsync, live.sync_folder

    def synced(handle: int) -> None:
        sync(handle)
        if log.exists() and os.fstat(handle).st_ino == log.stat().st_ino:
            happened.append(f"{log.read_text().count(chr(10))} lines")

    def folder_synced(folder: Path) -> None:
        sync_folder(folder)
        happened.append(folder.name)

    publishes = publishing(store, journal, {1: [Entry(first, "tester", "drop")]})

    def trained(*given: object) -> object:
        happened.append(f"step {given[3]}")
        return publishes(*given)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr(live, "sync_folder", folder_synced)
    monkeypatch.setattr(loop, "train_step", trained)
    train(recipe_for(store, steps=4, live={"every": 2}))
    expected = ["1 lines", "r", "step 0", "step 1", "2 lines", "step 2", "step 3"]
    assert happened == expected
