"""One cell: train, follow held-out accuracy, draw and score samples at the end and at the best.

OUT/store                      the drawn world, its label sets and the cells' runs
OUT/cells/NAME.json            a finished cell's result; absent until it is complete
OUT/samples/guidance-G         samples and scores of every cell (`training.evaluate`)

An interrupted cell resumes from its last checkpoint; a finished one is not run again.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.cli.console import ConsoleProgress
from tests.benchmarks.paper_tables.curves import best_step, held_out_curve, speed
from tests.benchmarks.paper_tables.tables import CLEAN, HELD_OUT, TUNING_SEED, Cell, Method, flips
from toolkit.errors import BrokenLoss, TrainingError
from toolkit.files.atomic import write_text_whole
from toolkit.miniworld.scenes import sample_prompts, to_words
from toolkit.store import Store
from toolkit.store.runs import run_about
from training.checkpoint import checkpoint_folder
from training.evaluate import Evaluation, evaluate
from training.recipe import parse_recipe
from training.sampling import Sampling, policy_of
from training.trainer import resume, train

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
    """Steps between checkpoints, and between probes of held-out pairs."""
    batch_size: int = 32
    learning_rate: float = 5e-4
    grad_norm: float = 1.0
    """Of every gradient of every method: poly_dpo's slope grows with alpha, and others differ."""
    rank: int = 16
    draws: int = 4
    prompts: int = 400
    sampler_steps: int = 15
    guidances: tuple[float, ...] = (1.0, 3.0)
    """Samples are drawn at each. The first, without guidance, is the headline: it shows what the
    denoiser was taught, which guidance would make up for."""
    device: str = "cpu"


def labels_of(cell: Cell) -> str:
    """The label set that a cell is trained under: its flips, or what scorers make of them."""
    name = flips(cell.rate, cell.seed)
    return f"vote-{name}" if cell.method.voters else name


def recipe_for(store: Store, cell: Cell, method: Method, scale: Scale) -> Any:
    """The recipe of a cell: the common recipe with the method's changes."""
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
    """Run one cell and write its result. A broken loss is a result too, and its message is kept.

    TrainingError for any other failure, such as a full disk.
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
    if cell.seed != TUNING_SEED:  # a choice is made by its curve
        _sample(out, store, cell, (scale.steps, best), scale)
    about = {"method": method.name, "curve": curve, "best_step": best}
    _write(out, cell, {**about, "pairs_per_second": speed(store, cell)})


def sampled(name: str, step: int) -> str:
    """The name of a cell's samples at a checkpoint."""
    return f"{name}/{step}"


def samples_folder(out: Path, guidance: float) -> Path:
    """The folder of samples at one guidance scale."""
    return out / "samples" / f"guidance-{guidance:g}"


def evaluation(scale: Scale, guidance: float) -> Evaluation:
    """The samples that every cell draws at one guidance scale."""
    prompts = tuple(to_words(prompt) for prompt in sample_prompts(scale.prompts))
    return Evaluation(prompts, (0,), Sampling("ddim", scale.sampler_steps, guidance))


def result(out: Path, cell: Cell) -> dict[str, Any] | None:
    """A finished cell's result; None before."""
    file = _file(out, cell)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def chosen(out: Path, cell: Cell) -> Method:
    """The choice that did best on the tuning seed at this cell's rate.

    TrainingError where none was run to its end.
    """
    ranked = []
    for choice in cell.method.choices:
        there = result(out, Cell(choice, cell.rate, TUNING_SEED))
        if there is not None and "curve" in there:
            ranked.append((max(point["noisy"] for point in there["curve"]), choice))
    if not ranked:
        raise TrainingError(
            f"No choice of {cell.method.name} was run at {cell.rate:.0%} flips, so none can be "
            "made; run the table's cells in their order."
        )
    return max(ranked, key=lambda pair: pair[0])[1]


def check_scale(out: Path, scale: Scale) -> None:
    """Write the scale of a new folder. TrainingError if the folder has another."""
    file = out / "scale.json"
    about = json.loads(json.dumps(asdict(scale)))
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        changed = [key for key in about if before.get(key) != about[key] and key != "device"]
        if changed:
            raise TrainingError(
                f"{out} holds cells with another {', '.join(changed)}; name another --out, or use "
                "the same."
            )
        return
    write_text_whole(file, json.dumps(about, indent=2) + "\n")


def scale_of(out: Path) -> Scale | None:
    """The scale of a folder; None before its first cell."""
    file = out / "scale.json"
    if not file.exists():
        return None
    about = json.loads(file.read_text(encoding="utf-8"))
    return Scale(**{**about, "guidances": tuple(about["guidances"])})


def _sample(out: Path, store: Store, cell: Cell, steps: Sequence[int], scale: Scale) -> None:
    models = {FIRST: policy_of(scale.backbone)}
    for step in dict.fromkeys(steps):
        folder = checkpoint_folder(store.run(cell.name), step)
        models[sampled(cell.name, step)] = policy_of(str(folder))
    for guidance in scale.guidances:
        folder = samples_folder(out, guidance)
        evaluate(evaluation(scale, guidance), models, folder, device=scale.device)


def _train(store: Store, cell: Cell, recipe: Any, console: Any) -> None:
    if not (store.run(cell.name) / "run.json").exists():
        with ConsoleProgress(console) as progress:
            train(recipe, progress=progress)
    elif not run_about(store, cell.name).get("finished"):
        with ConsoleProgress(console) as progress:
            resume(store, cell.name, progress=progress)


def _file(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{cell.name}.json"


def _write(out: Path, cell: Cell, content: dict[str, Any]) -> None:
    write_text_whole(_file(out, cell), json.dumps(content, indent=2) + "\n")
