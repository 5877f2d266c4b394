"""What a run logs as it trains: numbers on disk and on boards, warnings, and reasons to stop.

`metrics/scalars.jsonl` has one JSON object a log point, `metrics/held_out.jsonl` one a measurement
of held-out pairs. A recipe may also send them to TensorBoard and Weights & Biases.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from toolkit.errors import BrokenLoss, TrainingError
from toolkit.files.atomic import write_text_whole
from toolkit.ids import short_hash
from toolkit.minority import timestep_bin
from toolkit.progress import SILENT, Progress
from toolkit.store.run_log import read_log
from training.devices import agreed, local
from training.recipe import Recipe
from training.trajectory_writer import Seen


class Board(NamedTuple):
    """Where logged numbers are sent."""

    write: Callable[[str, float, int], None]
    """Takes a name such as train/loss, its value, and the step."""
    close: Callable[[], None]


def boards(run: Path, recipe: Recipe, done: int) -> list[Board]:
    """The boards that a recipe asks for, for a run that has done `done` steps.

    TensorBoard drops what an earlier attempt logged past them, W&B keeps it. TrainingError where a
    package is not installed, or the service refuses.
    """
    open_boards = []
    if recipe.tensorboard:
        open_boards.append(_tensorboard(run / "metrics" / "tensorboard", done))
    if recipe.wandb is not None:
        open_boards.append(_wandb(run, recipe.wandb, recipe.model_dump(mode="json")))
    return open_boards


def _tensorboard(folder: Path, begin: int) -> Board:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as problem:
        raise TrainingError(
            "The recipe says tensorboard: true, and tensorboard is not installed; type "
            "`pip install tensorboard`, or remove the line."
        ) from problem
    writer = SummaryWriter(folder, purge_step=begin + 1 if begin else None)
    return Board(writer.add_scalar, writer.close)


def _wandb(run: Path, project: str, recipe: dict[str, Any]) -> Board:
    """One W&B run a run, resumed with it; WANDB_MODE=offline keeps it local."""
    try:
        import wandb
    except ImportError as problem:
        raise TrainingError(
            f"The recipe says wandb: {project}, and wandb is not installed; type "
            "`pip install wandb`, or remove the line."
        ) from problem
    folder = run / "metrics"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        board = wandb.init(
            project=project,
            name=run.name,
            id=short_hash(str(run.resolve())),
            resume="allow",
            dir=folder,
            config=recipe,
            settings=wandb.Settings(silent=True),
        )
    except wandb.Error as problem:
        raise TrainingError(
            f"Weights & Biases refuses ({' '.join(str(problem).split())}); type `wandb login`, set "
            "WANDB_MODE=offline, or remove `wandb` from the recipe."
        ) from problem
    # Numbers of held-out pairs follow those of the same training step; wandb would drop them.
    board.define_metric("*", step_metric="step")

    def write(name: str, value: float, step: int) -> None:
        board.log({name: value, "step": step})

    return Board(write, board.finish)


BINS = 5
"""Equal parts of the noise schedule by which the growth of errors is logged."""

_KEPT = 0.9
"""Decay of the accuracy's moving average at a log point."""

_GROWTH = 0.05
"""Relative growth of the policy's error on the chosen images that causes a warning."""


def log_entry(step: int, seen: Seen, speed: float, timesteps: int, accelerator: Any) -> Any:
    """Means over all ranks since the last log point. BrokenLoss where the loss is 0, inf or NaN.

    `chosen_growth` and `rejected_growth` are the policy's error minus the reference's, divided by
    the reference's error on the chosen image, in all and by equal parts of the noise schedule.
    """
    sums = accelerator.reduce(torch.from_numpy(_sums(seen, timesteps)).to(accelerator.device))
    loss, agree, ell, rows, *by_bin = sums.cpu().tolist()
    chosen, rejected, reference = np.array(by_bin).reshape(3, BINS)
    mean = loss / rows
    if not math.isfinite(mean) or mean == 0:
        raise BrokenLoss(
            f"The loss became {mean:g} before step {step}; rows and checkpoints up to there are "
            "kept. Lower the learning rate or beta and start again under another --run."
        )
    return {
        "step": step,
        "loss": mean,
        "accuracy": agree / rows,
        "ell": ell / rows,
        "chosen_growth": _share(chosen.sum(), reference.sum()),
        "rejected_growth": _share(rejected.sum(), reference.sum()),
        "chosen_growth_by_timestep": [
            _share(*pair) for pair in zip(chosen, reference, strict=True)
        ],
        "rejected_growth_by_timestep": [
            _share(*pair) for pair in zip(rejected, reference, strict=True)
        ],
        "pairs_per_second": speed,
    }


def check_finite(tensors: Mapping[str, torch.Tensor], step: int, accelerator: Any) -> None:
    """BrokenLoss where weights are inf or NaN, before their checkpoint replaces a good one.

    A gradient may break them after a finite loss. Raised on every process, whichever of them has
    the broken part of a divided tensor.
    """
    finite = [local(tensor).isfinite().all() for tensor in tensors.values()]
    if not agreed(accelerator, bool(torch.stack(finite).all())):
        raise BrokenLoss(
            f"Weights are inf or NaN after step {step}; rows up to there and the checkpoint before "
            "it are kept. Lower the learning rate or beta and start again under another --run."
        )


def _sums(seen: Seen, timesteps: int) -> np.ndarray:
    part = timestep_bin(seen.timestep.astype(int), BINS, timesteps)
    by_bin = [
        np.bincount(part, weights=values, minlength=BINS)
        for values in (seen.chosen, seen.rejected, seen.reference)
    ]
    whole = [seen.loss.sum(), (seen.ell > 0).sum(), seen.ell.sum(), len(seen.loss)]
    return np.concatenate([whole, *by_bin]).astype(np.float64)


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 else None


class Log:
    """Writes the entries of one run on its main process, and sends them to its boards."""

    def __init__(
        self,
        run: Path,
        *,
        main: bool = True,
        boards: Sequence[Board] = (),
        progress: Progress = SILENT,
    ) -> None:
        self._folder = run / "metrics"
        self._progress = progress
        self._main = main
        self._warned = False
        self._boards = boards
        self._smooth = _last_smooth(self._folder / "scalars.jsonl")

    def scalars(self, entry: dict[str, Any]) -> None:
        """Append a log point with the moving average of its accuracy; warn once where the chosen
        images' own error grows."""
        now, before = entry["accuracy"], self._smooth
        self._smooth = now if before is None else _KEPT * before + (1 - _KEPT) * now
        entry["accuracy_ema"] = self._smooth
        self._write("scalars.jsonl", entry, "train")
        growth = entry["chosen_growth"]
        if growth is not None and growth > _GROWTH and not self._warned:
            self._warned = True
            self._progress.line(
                f"Step {entry['step']}: the model's error on the CHOSEN images is {growth:.0%} "
                "above the reference's, so ell rises only because the rejected images get worse "
                "faster; lower the learning rate or raise beta."
            )

    def held_out(self, step: int, accuracy: tuple[float, float, float], count: int) -> None:
        """Append the accuracy of held-out pairs: share, low and high end of its interval."""
        share, low, high = accuracy
        entry = {"step": step, "accuracy": share, "low": low, "high": high, "pairs": count}
        self._write("held_out.jsonl", entry, "held_out")
        self._progress.line(
            f"Step {step}: ell is positive on {share:.1%} ({low:.1%} to {high:.1%}) of {count} "
            "held-out pairs"
        )

    def close(self) -> None:
        """Close the boards."""
        for board in self._boards:
            board.close()

    def _write(self, name: str, entry: dict[str, Any], tag: str) -> None:
        if not self._main:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / name).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        for board in self._boards:
            for key, value in entry.items():
                if key != "step" and isinstance(value, float):
                    board.write(f"{tag}/{key}", value, entry["step"])


def _last_smooth(path: Path) -> float | None:
    """The last average that an earlier attempt at the run logged."""
    entries = read_log(path)
    return entries[-1].get("accuracy_ema") if entries else None


def forget_after(run: Path, step: int) -> None:
    """Delete the entries past a step; a resumed run writes them again."""
    for path in (run / "metrics").glob("*.jsonl"):
        kept = [json.dumps(entry) + "\n" for entry in read_log(path) if entry["step"] <= step]
        write_text_whole(path, "".join(kept))


def status(entry: dict[str, Any]) -> str:
    """A log point for the progress bar."""
    return (
        f"loss {entry['loss']:.3f} · ell > 0: {entry['accuracy_ema']:.0%} · "
        f"{entry['pairs_per_second']:.0f} pairs/s"
    )
