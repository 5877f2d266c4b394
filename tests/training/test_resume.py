import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tests.factories import StoreFactory
from toolkit.errors import StoreError, TrainingError
from toolkit.files.atomic import parts
from toolkit.store import Store
from toolkit.store.integrity import check_store
from toolkit.store.label_sets import write_label_set
from toolkit.store.locks import run_lease
from toolkit.store.runs import run_about, start_run, write_findings
from training import checkpoint, step
from training import trainer as due
from training import trainer as loop
from training.checkpoint import checkpoints, read_log, set_aside
from training.ema import trainable
from training.metrics_log import forget_after
from training.pairs import load_pairs
from training.probe import probe_run
from training.recipe import Recipe
from training.setup import prepare
from training.trainer import resume, train

MakeRecipe = Callable[..., Recipe]

RESUMED = {
    "steps": 11,
    "checkpoint_every": 4,
    "log_every": 3,
    "accumulation": 2,
    "batch_size": 5,
    "caption_dropout": 0.3,
    "backbone": {"lora": {"rank": 4, "dropout": 0.2}},
    "draws": {"kind": "fixed", "count": 2},
    "probe": {"every": 5, "pairs": 4, "draws": 1},
    "held_out": {"every": 6, "draws": 1},
}


def table_of(store: Store, run: str) -> list[dict]:
    """A run's rows in one order, and as text, so that NaN equals NaN."""
    rows = []
    for rank in sorted(store.run(run).glob("trajectory/rank-*")):
        for part in parts(rank):
            rows += pq.read_table(part).to_pylist()
    order = ("kind", "step", "rank", "micro", "pair_id", "visit", "draw")
    return [repr(row) for row in sorted(rows, key=lambda row: tuple(str(row[k]) for k in order))]


def state_of(store: Store, run: str) -> dict[str, torch.Tensor]:
    """Everything in a run's last checkpoint, by file and name."""
    folder = max(checkpoints(store.run(run)).items())[1]
    found = {}
    for path in sorted(folder.rglob("*.safetensors")):
        found |= {f"{path.name}/{name}": t for name, t in load_file(path).items()}
    training = torch.load(folder / "state" / "training.pt", weights_only=True)
    found |= {f"metric/{name}": tensor for name, tensor in training["metric"].items()}
    for k, moments in training["optimiser"]["state"].items():
        found |= {f"optimiser/{k}/{n}": torch.as_tensor(t) for n, t in moments.items()}
    return found


def assert_same_run(store: Store, one: str, other: str) -> None:
    assert table_of(store, one) == table_of(store, other)
    first, second = state_of(store, one), state_of(store, other)
    assert first.keys() == second.keys()
    different = [n for n in first if not torch.equal(first[n].nan_to_num(), second[n].nan_to_num())]
    assert different == []
    entries = [read_log(store.run(run), "held_out.jsonl") for run in (one, other)]
    assert entries[0] == entries[1]
    losses = [[e["loss"] for e in read_log(store.run(r), "scalars.jsonl")] for r in (one, other)]
    assert losses[0] == losses[1]


@pytest.mark.long
@pytest.mark.parametrize("preset", ["history", "running"])
def test_kills_at_random_moments_leave_no_trace_in_rows_or_weights(
    preset: str, make_store: StoreFactory, recipe_for: MakeRecipe, tmp_path: Path
) -> None:
    store = make_store(pairs=26, held_out=6)
    disk = {"disk": preset == "history"}
    metric = {"preset": preset, "rms_min_count": 4}
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe_for(store, **RESUMED, metric=metric, caches=disk).to_yaml())
    command = [sys.executable, "-m", "tests.training.killing", str(file), "6", "7"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    killed = json.loads(done.stdout.splitlines()[-1])["killed"]
    assert len(killed) == 6
    assert sum(killed) >= 5
    assert len(table_of(store, "whole")) == 11 * 10 + 3 * 4 + 2 * 6
    for k in range(len(killed)):
        assert_same_run(store, "whole", f"killed-{k}")


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.long)], indirect=True)
def test_a_stop_in_a_step_is_resumed_from_the_checkpoint_before_it(
    threads: int,
    make_store: StoreFactory,
    recipe_for: MakeRecipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert torch.get_num_threads() == threads
    store = make_store(pairs=26, held_out=6)
    train(recipe_for(store, **RESUMED, run="whole"))
    real = loop.train_step

    def breaks(learner: object, batches: object, count: int, step: int) -> object:
        if step == 10:
            raise KeyboardInterrupt
        return real(learner, batches, count, step)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", breaks)
    with pytest.raises(KeyboardInterrupt):
        train(recipe_for(store, **RESUMED))
    monkeypatch.undo()
    folder = store.run("r")
    assert [e["step"] for e in read_log(folder, "scalars.jsonl")] == [3, 4, 6, 8, 9]
    assert resume(store, "r") == "r"
    aside = [pq.read_table(p) for p in folder.glob("set_aside/0/rank-0/part-*.parquet")]
    steps = {step for table in aside for step in table["step"].to_pylist()}
    assert steps == {8, 9, 10}  # rows of two steps, and the probe after ten
    assert_same_run(store, "whole", "r")
    assert [bool(list(p.glob("state"))) for p in checkpoints(folder).values()] == [
        False,
        True,
        True,
    ]


def test_a_finished_run_can_be_given_more_steps(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store()
    train(recipe_for(store, steps=8, run="long", checkpoint_every=4))
    train(recipe_for(store, steps=4, checkpoint_every=4))
    with pytest.raises(TrainingError, match="has done its 4 steps; ask for more with --steps"):
        resume(store, "r")
    resume(store, "r", steps=8)
    assert run_about(store, "r")["steps"] == 8
    assert table_of(store, "long") == table_of(store, "r")


def test_a_run_that_was_killed_in_its_further_steps_goes_on_to_their_end(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    train(recipe_for(store, steps=8, run="long", checkpoint_every=2))
    train(recipe_for(store, steps=4, checkpoint_every=2, tensorboard=True, log_every=1))
    real = loop.train_step

    def breaks(*given: object) -> object:
        if given[3] == 7:
            raise KeyboardInterrupt
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", breaks)
    with pytest.raises(KeyboardInterrupt):
        resume(store, "r", steps=8)
    about = run_about(store, "r")
    assert (about["finished"], about["planned_steps"]) == (False, 8)
    assert max(checkpoints(store.run("r"))) == 6
    monkeypatch.setattr(loop, "train_step", real)
    resume(store, "r")
    assert run_about(store, "r")["finished"]
    assert table_of(store, "long") == table_of(store, "r")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(store.run("r") / "metrics" / "tensorboard"))
    events.Reload()
    # what the killed attempt showed past its checkpoint is shown once
    assert [point.step for point in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_reference_errors_that_a_killed_run_knew_are_read_back_from_its_trajectory(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 pairs, one draw each, held in memory: the first step asks about all of them."""
    store, asked = make_store(pairs=10), []
    ask = {"batch_size": 5, "draws": {"kind": "fixed", "count": 1}}
    history = {"metric": {"preset": "history"}, "footprints": []}
    train(recipe_for(store, steps=8, run="long", **ask, **history))
    train(recipe_for(store, steps=4, **ask, **history))
    real = step.errors_of

    def seen(*given: object) -> object:
        asked.append(len(given) > 2)  # with tensors of its own: the reference
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("training.step.errors_of", seen)
    resume(store, "r", steps=8)
    assert (len(asked), sum(asked)) == (4, 0)
    assert table_of(store, "long") == table_of(store, "r")


def test_changed_pairs_are_refused_with_nothing_touched(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store()
    train(recipe_for(store, steps=4))
    before = table_of(store, "r")
    part = parts(store.folder("pairs"))[0]
    table = pq.read_table(part)
    pq.write_table(table.slice(0, 39), part)
    with pytest.raises(TrainingError, match=r"its pairs .* changed since it began"):
        resume(store, "r", steps=8)
    assert table_of(store, "r") == before


def test_changed_stored_weights_or_labels_are_refused(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store(pairs=10)
    ids = load_pairs(store, labels="original", split="train").pair_id.tolist()
    start_run(store, "old", {"models": ["policy"], "labels": "original"}, "")

    def told(value: float) -> None:
        table = pa.table({"pair_id": ids, "weight": [value] * len(ids)})
        write_findings(store, "old", "trust", table, {})

    def labelled(label: int) -> None:
        for file in store.folder("labels").glob("mine.*"):
            file.unlink()  # sets are never overwritten, but a person may
        overlay = pa.table({"pair_id": ids, "label": [label] * len(ids)})
        write_label_set(store, "mine", overlay, {"kind": "test"})

    told(1.0)
    labelled(1)
    train(recipe_for(store, steps=4, labels="mine", weights="findings/old/trust"))
    told(0.25)
    with pytest.raises(TrainingError, match=r"its stored weights .* changed since it began"):
        resume(store, "r", steps=8)
    told(1.0)
    labelled(0)
    with pytest.raises(TrainingError, match="the labels of its label set changed since it began"):
        resume(store, "r", steps=8)
    labelled(1)
    resume(store, "r", steps=8)
    assert run_about(store, "r")["steps"] == 8


def test_two_processes_never_write_one_run(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, real, said = make_store(), loop.train_step, []

    def meanwhile(*given: Any) -> object:
        if given[3] == 3 and not said:  # its first checkpoint is there, so it could be resumed
            for other in (lambda: resume(store, "r"), lambda: train(recipe_for(store, steps=2))):
                with pytest.raises((StoreError, TrainingError)) as problem:
                    other()
                said.append(str(problem.value))
        if given[3] == 5:  # somebody takes over by force
            shutil.rmtree(store.run("r") / "lease")
        return real(*given)

    monkeypatch.setattr(loop, "train_step", meanwhile)
    with pytest.raises(StoreError, match="no longer writes to run 'r'"):
        train(recipe_for(store, steps=6, checkpoint_every=2))
    monkeypatch.undo()
    assert said[0].startswith(f"Run 'r' is being written by process {os.getpid()} on ")
    assert "has a run 'r' already" in said[1]
    assert len(table_of(store, "r")) == 4 * 10  # of step 5 and 6 none: another may write them
    resume(store, "r")
    assert check_store(store).faults == ()
    with run_lease(store, "r", "probe"), pytest.raises(StoreError, match="is being written by"):
        probe_run(store, "r", draws=1)


@pytest.mark.parametrize("manifest", [True, False])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_resumes_to_the_same_bits(
    manifest: bool, make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    """Without a manifest, as older versions left it, a file that is cut short is found."""
    store = make_store(pairs=10)
    ask = {"steps": 6, "checkpoint_every": 2}
    train(recipe_for(store, **ask, run="whole"))
    train(recipe_for(store, **ask))
    saved = store.run("r") / "checkpoints"
    shutil.copytree(saved / "step-000006", saved / "step-000006.bak")
    names = [path for path in (saved / "step-000006").rglob("*") if path.is_file()]
    needed = ("policy.safetensors", "ema_0.5.safetensors", "training.pt")
    for file in names if manifest else [p for p in names if p.name in needed]:
        before = file.read_bytes()
        if manifest:
            file.write_bytes(before[:-9] + bytes([before[-9] ^ 1]) + before[-8:])
        else:
            for listed in (saved / "step-000006").rglob("manifest.json"):
                listed.unlink()
            file.write_bytes(before[:-1])
        name = "" if file.name == "manifest.json" else re.escape(file.name)
        words = rf"step-000006 is damaged \(.*{name}.*step 4 is whole.*--checkpoint 4`"
        with pytest.raises(TrainingError, match=words):
            resume(store, "r", steps=8)
        if manifest:
            [fault] = check_store(store).faults
            assert f"a checkpoint of run r is damaged ({saved / 'step-000006'}" in fault.what
        file.write_bytes(before)
    (saved / "step-000006" / "policy.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"cannot be resumed from step 2 \(steps: 4, 6\)"):
        resume(store, "r", at=2)
    resume(store, "r", at=4)
    assert (store.run("r") / "set_aside" / "0" / "checkpoints" / "step-000006").is_dir()
    assert_same_run(store, "whole", "r")
    resume(store, "r", steps=7)


def test_a_policy_that_is_its_own_reference_is_refused(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    learner = prepare(recipe_for(make_store(pairs=10))).learner
    with pytest.raises(TrainingError, match="policy and its reference are the same tensors"):
        replace(learner, reference=dict(trainable(learner.policy)))


def test_fewer_steps_than_a_checkpoint_has_are_refused(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    real = loop.train_step

    def breaks(*given: object) -> object:
        if given[3] == 5:
            raise KeyboardInterrupt
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", breaks)
    with pytest.raises(KeyboardInterrupt):
        train(recipe_for(store, steps=8, checkpoint_every=4))
    monkeypatch.setattr(loop, "train_step", real)
    with pytest.raises(TrainingError, match=r"checkpoint of step 4 already, beyond the 3 asked"):
        resume(store, "r", steps=3)
    assert not run_about(store, "r")["finished"]
    resume(store, "r")
    assert run_about(store, "r")["steps"] == 8


def test_another_noise_schedule_is_refused(
    make_store: StoreFactory, recipe_for: MakeRecipe, sd: Path, tmp_path: Path
) -> None:
    store = make_store()
    folder = shutil.copytree(sd, tmp_path / "model")
    train(recipe_for(store, steps=2, backbone={"path": str(folder)}))
    file = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "prediction_type": "v_prediction"}))
    with pytest.raises(TrainingError, match=r"its backbone .* changed since it began"):
        resume(store, "r", steps=4)


def test_a_checkpoint_that_the_disk_refuses_is_a_sentence_and_the_run_goes_on_from_the_one_before(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    ask = {"steps": 6, "checkpoint_every": 2}
    train(recipe_for(store, **ask, run="whole"))
    real, limits = loop.train_step, resource.getrlimit(resource.RLIMIT_FSIZE)

    def refuses(learner: object, batches: object, count: int, step: int) -> object:
        if step == 2:  # the first checkpoint stands; a file may have 30 kB from here on
            resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
        return real(learner, batches, count, step)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", refuses)
    try:
        with pytest.raises(TrainingError, match=r"checkpoint of step 4 could not be written .*MB"):
            train(recipe_for(store, **ask))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    assert list(checkpoints(store.run("r"))) == [2]
    assert not list(store.run("r").glob("checkpoints/.*"))
    resume(store, "r")
    assert_same_run(store, "whole", "r")


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# What each library said on a full tmpfs (safetensors 0.8, torch 2.15); the last, on /dev/full.
FULL = [
    ("save", OSError(errno.ENOSPC, "No space left on device")),
    (
        "save_file",
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
    ),
    (
        "save",
        RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 768 vs 662"),
    ),
    ("save", RuntimeError("basic_ios::clear: iostream error")),
]


def test_a_full_disk_leaves_nothing_aside_and_another_error_is_not_called_one(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, given = make_store(), list[Any]()
    real = due.save_checkpoint

    def kept(*about: Any) -> Path:
        given[:] = about
        return real(*about)

    monkeypatch.setattr(due, "save_checkpoint", kept)
    train(recipe_for(store, steps=2))
    run, step, *rest = given
    before = files_in(run / "checkpoints")
    assert "step-000002/state/training.pt" in before

    def attempt(writer: str, problem: Exception) -> None:
        def fails(_: object, path: Path) -> None:
            path.write_bytes(b"half of it")
            raise problem

        with monkeypatch.context() as patch:
            patch.setattr(torch if writer == "save" else checkpoint, writer, fails)
            checkpoint.save_checkpoint(run, step + 1, *rest)

    for writer, problem in FULL:
        said = rf"step 3 could not be written .*{re.escape(str(problem))}; .* MB were free there\)"
        with pytest.raises(TrainingError, match=said):
            attempt(writer, problem)
        assert files_in(run / "checkpoints") == before
    with pytest.raises(RuntimeError, match=r"^CUDA error: device-side assert triggered"):
        attempt("save", RuntimeError("CUDA error: device-side assert triggered"))
    assert files_in(run / "checkpoints") == before
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000002"]


def test_rows_of_a_part_are_split_at_the_step(make_store: StoreFactory) -> None:
    store = make_store(run=True)
    rows = table_of(store, "r")
    middle = 1
    late = set_aside(store, "r", middle)
    assert 0 < late < len(rows)
    assert len(table_of(store, "r")) == len(rows) - late
    assert set_aside(store, "r", middle) == 0


def test_metrics_past_a_step_are_forgotten(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    lines = [json.dumps({"step": step}) + "\n" for step in (2, 4, 6)]
    (tmp_path / "metrics" / "scalars.jsonl").write_text("".join(lines) + '{"step": 8')
    forget_after(tmp_path, 4)
    assert [entry["step"] for entry in read_log(tmp_path, "scalars.jsonl")] == [2, 4]
