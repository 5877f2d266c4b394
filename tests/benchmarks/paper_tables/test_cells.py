"""Curves, early stopping and choices by hand; test_run.py runs whole cells."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.paper_tables.cells import Scale, check_scale, chosen
from tests.benchmarks.paper_tables.curves import best_step, held_out_curve, speed
from tests.benchmarks.paper_tables.tables import CLEAN, HELD_OUT, TUNING_SEED, Cell, Method
from tests.factories import StoreFactory
from toolkit.errors import TrainingError
from toolkit.files.atomic import parts, write_part
from toolkit.recorder import TrajectoryWriter
from toolkit.store.label_sets import write_label_set
from toolkit.store.runs import start_run

PLAIN = Method("plain", {})


def test_the_best_step_is_chosen_by_noisy_labels_and_the_earliest_wins() -> None:
    curve = [
        {"step": 10, "clean": 0.9, "noisy": 0.6},
        {"step": 20, "clean": 0.5, "noisy": 0.7},
        {"step": 30, "clean": 0.5, "noisy": 0.7},
    ]
    assert best_step(curve) == 20


def test_held_out_accuracy_averages_draws_and_keeps_the_halves_apart(
    make_store: StoreFactory,
) -> None:
    """Four held-out pairs a, b, c, d by id: a and c are judged under noisy labels, b and d under
    true ones. The model's ell for image_0, averaged over two draws: +, +, -, +."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = make_store(pairs=8)
    part = parts(store.folder("pairs"))[0]
    table = pq.read_table(part).sort_by("pair_id")
    part.unlink()
    spot = table.schema.get_field_index("split")
    split = pa.array([HELD_OUT] * 4 + ["train"] * 4)
    table = table.set_column(spot, table.schema.field(spot), split)
    write_part(part.parent, table)
    ids = table["pair_id"].to_pylist()
    labels = {"original": {}, CLEAN: dict(zip(ids, [0, 1, 0, 0], strict=False))}
    labels["flip20-seed0"] = dict(zip(ids, [1, 0, 1, 0], strict=False))
    for name in (CLEAN, "flip20-seed0"):
        overlay = pa.table({"pair_id": list(labels[name]), "label": list(labels[name].values())})
        write_label_set(store, name, overlay, {"kind": "test"})
    cell = Cell(PLAIN, 0.2, 0)
    start_run(store, cell.name, {"models": ["policy"], "labels": "original"}, "")
    recorder = TrajectoryWriter(store.run(cell.name), ["policy"])
    for draw, ell in enumerate(([3.0, 1.0, -3.0, -1.0, 9.0], [-1.0, 1.0, 1.0, 2.0, 9.0])):
        recorder.append(
            kind="probe",
            pair_id=ids[:5],  # the fifth is a training pair, probed as well
            visit=0,
            draw=draw,
            step=10,
            err_ref_0=np.array(ell),
            err_ref_1=np.zeros(5),
            err_0=np.zeros((1, 5)),
            err_1=np.zeros((1, 5)),
        )
    recorder.close()
    # noisy, a and c: + against 1 right, - against 1 wrong. clean, b and d: + 1 right, + 0 wrong
    assert held_out_curve(store, cell) == [{"step": 10, "clean": 0.5, "noisy": 0.5}]
    # at no flips the noisy labels are the source's own
    original = dict(zip(ids, table["label"].to_pylist(), strict=True))
    start_run(store, "plain-flip00-seed0", {"models": ["policy"], "labels": "original"}, "")
    store.run("plain-flip00-seed0").joinpath("trajectory").symlink_to(
        store.run(cell.name) / "trajectory"
    )
    expected = np.mean([original[ids[0]] == 1, original[ids[2]] == 0])
    assert held_out_curve(store, Cell(PLAIN, 0.0, 0))[0]["noisy"] == expected


def test_the_choice_is_the_best_of_the_tuning_seed_at_its_rate(tmp_path: Path) -> None:
    choices = tuple(Method(name, {}) for name in ("a", "b", "c"))
    asked = Cell(Method("either", {}, choices), 0.2, 0)
    with pytest.raises(TrainingError, match="No choice of either was run at 20% flips"):
        chosen(tmp_path, asked)
    folder = tmp_path / "cells"
    folder.mkdir()

    def found(choice: Method, rate: float, result: dict) -> None:
        name = Cell(choice, rate, TUNING_SEED).name
        (folder / f"{name}.json").write_text(json.dumps(result))

    found(choices[0], 0.2, {"curve": [{"noisy": 0.7}, {"noisy": 0.5}]})
    found(choices[1], 0.2, {"curve": [{"noisy": 0.6}, {"noisy": 0.65}]})
    found(choices[2], 0.2, {"failed": "The loss became nan"})
    found(choices[1], 0.0, {"curve": [{"noisy": 0.9}]})
    assert chosen(tmp_path, asked) == choices[0]


def test_speed_is_the_median_without_the_first_log_point(make_store: StoreFactory) -> None:
    store = make_store()
    folder = store.run(Cell(PLAIN, 0.0, 0).name) / "metrics"
    folder.mkdir(parents=True)
    lines = [json.dumps({"pairs_per_second": value}) for value in (1, 50, 60, 70)]
    (folder / "scalars.jsonl").write_text("\n".join(lines) + "\n")
    assert speed(store, Cell(PLAIN, 0.0, 0)) == 60


def test_a_folder_keeps_its_scale(tmp_path: Path) -> None:
    check_scale(tmp_path, Scale())
    check_scale(tmp_path, Scale(device="cuda"))
    with pytest.raises(TrainingError, match="another steps, prompts; name another --out"):
        check_scale(tmp_path, Scale(steps=5, prompts=5))
