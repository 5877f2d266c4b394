import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from toolkit.errors import StoreError, TrainingError
from toolkit.files.atomic import parts, unfinished
from toolkit.recorder import TRAJECTORY, TrajectoryWriter, rows
from toolkit.schema import meaning_of
from toolkit.store import create_store

IDS = ["a", "b", "c"]
ROW = {"pair_id": IDS, "visit": 0, "step": 7, "err_0": np.arange(6.0).reshape(2, 3)}


def test_lists_hold_one_value_a_model_in_order() -> None:
    table = rows(**ROW)
    assert table.schema == TRAJECTORY
    assert table["err_0"].to_pylist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert table["step"].to_pylist() == [7, 7, 7]
    assert table["kind"].to_pylist() == ["train"] * 3
    assert table["err_1"].null_count == 3


def test_an_unknown_score_is_null_and_a_broken_error_stays_visible() -> None:
    nan = np.array([np.nan, 1.0, 2.0], np.float32)
    table = rows(**{**ROW, "stability": nan, "err_ref_0": nan})
    assert table["stability"].to_pylist() == [None, 1.0, 2.0]
    assert table["err_ref_0"].null_count == 0
    assert np.isnan(table["err_ref_0"][0].as_py())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stabilty": 1.0}, "no column stabilty"),
        ({"err_0": np.zeros((2, 4))}, r"err_0 must have shape \(models, 3\)"),
        ({"loss": [1.0]}, "loss has 1 values for 3 pairs"),
    ],
)
def test_what_does_not_fit_is_named(change: dict, says: str) -> None:
    with pytest.raises(StoreError, match=says):
        rows(**{**ROW, **change})


def test_every_column_says_what_it_means() -> None:
    assert all(meaning_of(field) for field in TRAJECTORY)


def test_a_strangers_loop_records_in_five_lines(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s")
    recorder = TrajectoryWriter(store.run("mine"), models=["policy"], part_rows=5)
    for step in range(4):
        recorder.append(**{**ROW, "step": step, "err_0": np.zeros((1, 3))})
    recorder.close()
    written = parts(store.run("mine") / "trajectory" / "rank-0")
    assert len(written) == 2
    assert all(re.fullmatch(r"part-\d{20}-[0-9a-f]{8}.parquet", path.name) for path in written)
    steps = [s for path in written for s in pq.read_table(path)["step"].to_pylist()]
    assert steps == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_two_recorders_at_one_folder_lose_no_row_of_each_other(tmp_path: Path) -> None:
    """A run in training, and a probe of it that begins and ends in between."""
    training = TrajectoryWriter(tmp_path, models=["policy"])
    probing = TrajectoryWriter(tmp_path, models=["policy"])
    for step, recorder in enumerate((training, probing, training, probing)):
        recorder.append(**{**ROW, "step": step})
        recorder.flush()
    training.close()
    probing.close()
    written = parts(tmp_path / "trajectory" / "rank-0")
    steps = [set(pq.read_table(path)["step"].to_pylist()) for path in written]
    assert steps == [{0}, {1}, {2}, {3}], "every part is there, in the order of writing"


def test_what_cannot_be_written_stops_the_caller_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "trajectory").write_text("a file where the folder should be")
    recorder = TrajectoryWriter(tmp_path, models=["policy"])
    recorder.append(**ROW)
    with pytest.raises(TrainingError, match="could not be written"):
        recorder.flush()


def test_a_full_disk_keeps_the_parts_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = TrajectoryWriter(tmp_path, models=["policy"])
    recorder.append(**ROW)
    recorder.flush()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("toolkit.files.atomic.os.fsync", full)
    recorder.append(**ROW)
    with pytest.raises(TrainingError, match="No space left on device"):
        recorder.flush()
    with pytest.raises(TrainingError, match="Free space"):
        recorder.append(**ROW)
    folder = tmp_path / "trajectory" / "rank-0"
    assert len(parts(folder)) == 1
    assert list(unfinished(folder)) == []  # it would hold space that the disk lacks


def test_run_json_is_json_for_every_reader(tmp_path: Path) -> None:
    from toolkit.store.runs import run_about, start_run

    store = create_store(tmp_path / "s")
    start_run(store, "r", {"models": ["policy"], "labels": "original"}, "a: 1\n")
    text = (store.run("r") / "run.json").read_text()
    assert json.loads(text).items() >= run_about(store, "r").items()
