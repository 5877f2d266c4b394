"""Figures of a finished cell's run: held-out accuracy by step, the best step, speed."""

import json
from collections.abc import Sequence
from statistics import median

import numpy as np
import pyarrow.compute as pc

from tests.benchmarks.paper_tables.tables import CLEAN, HELD_OUT, Cell, flips
from toolkit.store import Store
from toolkit.store.connection import effective_labels, read_pairs
from toolkit.store.trajectory import read_trajectory


def held_out_curve(store: Store, cell: Cell) -> list[dict[str, float]]:
    """Accuracy of ell by step: `clean` on one half of the held-out pairs under true labels, and
    `noisy` on the other under labels flipped at the training's rate, which is all that a user
    would have for early stopping."""
    steps, ids, gaps = _probed(store, cell)
    clean, noisy = (_labels(store, name) for name in (CLEAN, flips(cell.rate, cell.seed)))
    curve = []
    for step in np.unique(steps):
        here = steps == step
        names, which = np.unique(ids[here], return_inverse=True)
        ell = np.bincount(which, gaps[here]) / np.bincount(which)
        noisy_half = np.arange(len(names)) % 2 == 0
        curve.append(
            {
                "step": int(step),
                "clean": _accuracy(ell[~noisy_half], [clean[n] for n in names[~noisy_half]]),
                "noisy": _accuracy(ell[noisy_half], [noisy[n] for n in names[noisy_half]]),
            }
        )
    return curve


def best_step(curve: Sequence[dict[str, float]]) -> int:
    """The step of the highest accuracy under noisy labels; the earliest of equals."""
    return int(max(curve, key=lambda point: (point["noisy"], -point["step"]))["step"])


def speed(store: Store, cell: Cell) -> float:
    """Median pairs per second over a run's log points, the first one left out."""
    file = store.run(cell.name) / "metrics" / "scalars.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    speeds = [json.loads(line)["pairs_per_second"] for line in lines]
    return float(median(speeds[1:] or speeds))


def _probed(store: Store, cell: Cell) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Step, pair_id and ell as if image_0 were chosen, of every row on a held-out pair."""
    pairs = read_pairs(store, ["pair_id", "split"])
    aside = pairs.filter(pc.equal(pairs["split"], HELD_OUT))["pair_id"].combine_chunks()
    errors = ["err_ref_0", "err_ref_1", "err_0", "err_1"]
    rows = read_trajectory(store, cell.name, ["pair_id", "step", *errors], kind="probe")
    rows = rows.filter(pc.is_in(rows["pair_id"], aside))
    ref_0, ref_1 = (rows[name].to_numpy() for name in errors[:2])
    own_0, own_1 = (pc.list_element(rows[name], 0).to_numpy() for name in errors[2:])
    gap = (ref_0 - ref_1) - (own_0 - own_1)
    return rows["step"].to_numpy(), np.array(rows["pair_id"].to_pylist()), gap


def _labels(store: Store, name: str) -> dict[str, float]:
    table = effective_labels(store, name)
    return dict(zip(table["pair_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def _accuracy(gap: np.ndarray, label: Sequence[float]) -> float:
    """`gap` is ell as if image_0 were chosen; positive agrees with label 1."""
    sign = np.where(np.asarray(label) == 1, 1, -1)
    return float(np.mean(gap * sign > 0))
