"""A run watched from outside: half-written lines, moved parts, and what can be said of its end."""

import json
import os
from pathlib import Path

import pytest

from tests.factories import StoreFactory
from toolkit.store.run_log import (
    QUIET_SECONDS,
    Watched,
    ell_by_timestep,
    read_log,
    sample_image,
    sample_prompts,
    status,
    thinned,
    watch,
)
from toolkit.store.runs import update_run


def watched(**changes: object) -> Watched:
    about = {"planned_steps": 100, "finished": False, "pairs_per_step": 32}
    given: dict = {
        "run": "r",
        "about": about,
        "scalars": [{"step": 40, "pairs_per_second": 16.0}],
        "held_out": [],
        "checkpoints": [20],
        "samples": [],
        "written": 1000.0,
    }
    return Watched(**{**given, **changes})


def test_a_half_written_last_line_is_not_yet_there(tmp_path: Path) -> None:
    path = tmp_path / "scalars.jsonl"
    path.write_text('{"step": 10, "loss": 0.7}\n{"step": 20, "lo')
    assert read_log(path) == [{"step": 10, "loss": 0.7}]
    path.write_text('{"step": 10, "loss": 0.7}\n{"step": 20, "loss": 0.6}\n')
    assert [point["step"] for point in read_log(path)] == [10, 20]


def test_broken_lines_are_passed_over_and_a_step_written_again_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "scalars.jsonl"
    lines = [
        '{"step": 20, "loss": 9}',
        "no json",
        "[1]",
        '{"loss": 1}',
        '{"step": 10, "loss": 2}',
        '{"step": 20, "loss": 3}',
    ]
    path.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    assert read_log(path) == [{"step": 10, "loss": 2}, {"step": 20, "loss": 3}]
    assert read_log(tmp_path / "absent.jsonl") == []


def test_a_finished_run_is_called_finished_however_long_ago() -> None:
    about = {"planned_steps": 100, "finished": True, "steps": 100}
    assert status(watched(about=about), 10, now=1e9).word == "finished"
    assert "100 steps" in status(watched(about=about), 10, now=1e9).sentence


def test_a_run_is_running_while_it_writes_at_its_own_pace() -> None:
    # 10 steps of 32 pairs at 16 a second: a log point each 20 s, so 6 of them are 120 s.
    assert status(watched(), 10, now=1000 + 119).word == "running"
    assert status(watched(), 10, now=1000 + 121).word == "silent"
    assert "step 40 of 100" in status(watched(), 10, now=1001).sentence


def test_a_silent_run_says_since_when_and_from_where_it_can_go_on() -> None:
    told = status(watched(), 10, now=1000 + 3600)
    assert told.word == "silent"
    assert "60 min" in told.sentence
    assert "from step 20" in told.sentence


def test_a_run_without_a_speed_gets_a_minute() -> None:
    fresh = watched(scalars=[], checkpoints=[])
    assert status(fresh, 10, now=1000 + QUIET_SECONDS - 1).word == "running"
    assert status(fresh, 10, now=1000 + QUIET_SECONDS + 1).word == "silent"


def test_another_trainers_record_is_not_called_interrupted() -> None:
    assert status(watched(about={"models": ["policy"]}), None, now=1e9).word == "recorded"


def test_many_points_become_means_of_neighbours() -> None:
    points = [{"step": k, "loss": float(k)} for k in range(10)]
    assert thinned(points, "loss", most=5) == ([1, 3, 5, 7, 9], [0.5, 2.5, 4.5, 6.5, 8.5])
    assert thinned([*points, {"step": 10, "loss": None}], "loss", most=99)[0] == list(range(10))


def test_ell_by_timestep_separates_planted_flips(make_store: StoreFactory) -> None:
    """The factory draws ell around +1.5e-3 for true labels and around -1.5e-3 for flipped ones."""
    store = make_store(pairs=200, run=True)
    flipped = json.loads((store.folder("labels", "flip20.json")).read_text())["flipped"]
    found = ell_by_timestep(store, "r", flipped)
    assert found is not None
    rows = found.to_pylist()
    assert {row["pairs"] for row in rows} == {"label as it was", "label flipped"}
    # 6 visits of 200 pairs in 120 steps; from step 83.3 on, 36 steps of 10 pairs are left.
    assert sum(row["count"] for row in rows) == 360
    for row in rows:
        if row["count"] > 5:
            assert (row["median"] > 0) == (row["pairs"] == "label as it was")
        assert row["lower"] <= row["median"] <= row["upper"]
    assert found["through"][0].as_py() == 119


def test_a_part_that_vanishes_while_it_is_read_is_no_error(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(pairs=20, run=True)
    from toolkit.store import run_log as watching

    kept = watching.add_trajectory

    def then_moved(con, store, run) -> None:
        kept(con, store, run)
        for part in store.run(run).glob("trajectory/rank-*/part-*.parquet"):
            part.unlink()  # a run that goes on moves its later parts aside

    monkeypatch.setattr(watching, "add_trajectory", then_moved)
    assert ell_by_timestep(store, "r", None) is None


def test_watching_a_real_store_reads_log_checkpoints_and_samples(make_store: StoreFactory) -> None:
    store = make_store(pairs=20, run=True)
    update_run(store, "r", finished=False, planned_steps=50, steps=0)
    folder = store.run("r")
    for name in ("metrics", "checkpoints/step-000020", "checkpoints/.step-000030.tmp"):
        (folder / name).mkdir(parents=True)
    for step in (0, 20):
        (folder / "samples" / f"step-{step:06d}").mkdir(parents=True)
    (folder / "samples/step-000020/prompts.txt").write_text("a cat\na d")
    (folder / "samples/step-000020/00.png").write_bytes(b"half")
    (folder / "metrics/scalars.jsonl").write_text('{"step": 30, "loss": 0.5}\n{"st')
    found = watch(store, "r")
    assert (found.step, found.checkpoints, found.samples) == (30, [20], [0, 20])
    assert sample_prompts(store, "r", 20) == ["a cat"]
    assert sample_image(store, "r", 20, 0) == b"half"
    assert sample_image(store, "r", 20, 1) is None
    for path in folder.rglob("*"):
        os.utime(path, (5000.0, 5000.0))
    assert watch(store, "r").written == 5000.0
