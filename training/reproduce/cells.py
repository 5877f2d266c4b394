"""One cell: train, follow held-out accuracy, draw and score samples at the end and at the best.

OUT/store                      the drawn world, its label sets and the cells' runs
OUT/cells/NAME.json            what a finished cell found; absent until it is whole
OUT/samples                    samples and scores of every cell (`training.evaluate`)

A cell that was interrupted goes on from its last checkpoint; one that is there is not run again.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.compute as pc

from toolkit.errors import BrokenLoss, TrainingError
from toolkit.miniworld.scorer import sample_prompts
from toolkit.miniworld.words import to_words
from toolkit.parts import write_text_whole
from toolkit.store import Store
from toolkit.store.query import effective_labels, read_pairs
from toolkit.store.runs import run_about
from toolkit.store.trajectories import read_trajectory
from training.checkpoint import checkpoint_folder
from training.evaluate import Evaluation, evaluate
from training.loop import resume, train
from training.policies import policy_of
from training.recipe import parse_recipe
from training.reproduce.tables import TUNING_SEED, Cell, Method
from training.sampling import Sampling

HELD_OUT = "held_out"
CLEAN = "clean"
FIRST = "pretrained"


@dataclass(frozen=True)
class Scale:
    """How large the cells are; the same for all cells of a folder."""

    backbone: str = "miniature:sd"
    resolution: int = 64
    pairs: int = 2000
    held_out: int = 600
    steps: int = 1000
    every: int = 100
    """Steps between checkpoints and measurings of held-out pairs."""
    batch_size: int = 32
    learning_rate: float = 5e-4
    grad_norm: float = 1.0
    """Every method's, at every step: poly_dpo's slope grows with alpha, and others differ too."""
    rank: int = 16
    draws: int = 4
    prompts: int = 200
    sampler_steps: int = 25
    guidance: float = 3.0
    device: str = "cpu"


def flips(rate: float, seed: int) -> str:
    """The label set that a cell of this rate and seed is trained under."""
    return f"flip{rate * 100:02.0f}-seed{seed}" if rate else "original"


def labels_of(cell: Cell) -> str:
    """The label set that a cell is trained under: its flips, or what scorers make of them."""
    name = flips(cell.rate, cell.seed)
    return f"vote-{name}" if cell.method.voters else name


def recipe_for(store: Store, cell: Cell, method: Method, scale: Scale) -> Any:
    """The recipe of a cell: the common one with the method's changes."""
    raw = {
        "store": str(store.root),
        "run": cell.name,
        "seed": cell.seed,
        "labels": labels_of(cell),
        "verdicts": False,
        "backbone": {
            "path": scale.backbone,
            "resolution": scale.resolution,
            "lora": {
                "rank": scale.rank,
                "targets": ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"],
            },
        },
        "optimiser": {"learning_rate": scale.learning_rate, "grad_norm": scale.grad_norm},
        "steps": scale.steps,
        "batch_size": scale.batch_size,
        "checkpoint_every": scale.every,
        "held_out": {
            "split": HELD_OUT,
            "labels": CLEAN,
            "every": scale.every,
            "draws": scale.draws,
        },
    }
    return parse_recipe({**raw, **method.changes}, f"The cell {cell.name}")


def run_cell(out: Path, store: Store, cell: Cell, scale: Scale, console: Any = None) -> None:
    """Make one cell's result. A run whose loss breaks down is one too: its sentence is kept.

    TrainingError for whatever else stands in the way, such as a full disk.
    """
    method = chosen(out, cell) if cell.method.choices else cell.method
    recipe = recipe_for(store, cell, method, scale)
    try:
        _train(store, cell, recipe, console)
    except BrokenLoss as problem:
        _write(out, cell, {"failed": str(problem), "method": method.name})
        return
    curve = held_out_curve(store, cell)
    best = best_step(curve)
    models = {FIRST: policy_of(scale.backbone)}
    for when, step in (("last", scale.steps), ("best", best)):
        models[f"{cell.name}/{when}"] = policy_of(
            str(checkpoint_folder(store.run(cell.name), step))
        )
    evaluate(evaluation(scale), models, out / "samples", device=scale.device)
    found = {"method": method.name, "curve": curve, "best_step": best}
    _write(out, cell, {**found, "pairs_per_second": speed(store, cell)})


def evaluation(scale: Scale) -> Evaluation:
    """The samples that every cell draws."""
    prompts = tuple(to_words(prompt) for prompt in sample_prompts(scale.prompts))
    return Evaluation(prompts, (0,), Sampling("ddim", scale.sampler_steps, scale.guidance))


def result(out: Path, cell: Cell) -> dict[str, Any] | None:
    """What a finished cell found; None where it is not there yet."""
    file = _file(out, cell)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def chosen(out: Path, cell: Cell) -> Method:
    """The choice that did best on the tuning seed at this cell's rate.

    TrainingError where none was run to its end.
    """
    found = []
    for choice in cell.method.choices:
        there = result(out, Cell(choice, cell.rate, TUNING_SEED))
        if there is not None and "curve" in there:
            found.append((max(point["noisy"] for point in there["curve"]), choice))
    if not found:
        raise TrainingError(
            f"No choice of {cell.method.name} was run at {cell.rate:.0%} flips, so none can be "
            "made; run the table's cells in their order."
        )
    return max(found, key=lambda pair: pair[0])[1]


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
        told = np.arange(len(names)) % 2 == 0
        curve.append(
            {
                "step": int(step),
                "clean": _accuracy(ell[~told], [clean[n] for n in names[~told]]),
                "noisy": _accuracy(ell[told], [noisy[n] for n in names[told]]),
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
    found = [json.loads(line)["pairs_per_second"] for line in lines]
    return float(median(found[1:] or found))


def check_scale(out: Path, scale: Scale) -> None:
    """Write the scale of a folder, or refuse another one than it has."""
    file = out / "scale.json"
    about = asdict(scale)
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        changed = [key for key in about if before.get(key) != about[key] and key != "device"]
        if changed:
            raise TrainingError(
                f"{out} holds cells with another {', '.join(changed)}; name another --out, or ask "
                "for the same."
            )
        return
    write_text_whole(file, json.dumps(about, indent=2) + "\n")


def scale_of(out: Path) -> Scale | None:
    """The scale of a folder; None before its first cell."""
    file = out / "scale.json"
    return Scale(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def _train(store: Store, cell: Cell, recipe: Any, console: Any) -> None:
    if not (store.run(cell.name) / "run.json").exists():
        train(recipe, console=console)
    elif not run_about(store, cell.name).get("finished"):
        resume(store, cell.name, console=console)


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


def _file(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{cell.name}.json"


def _write(out: Path, cell: Cell, found: dict[str, Any]) -> None:
    write_text_whole(_file(out, cell), json.dumps(found, indent=2) + "\n")
