"""Where a run's figures are shown beside its own files: TensorBoard, Weights & Biases."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.errors import TrainingError
from toolkit.pairs import short_hash


class Board(NamedTuple):
    """A place that figures are sent to."""

    write: Callable[[str, float, int], None]
    """Takes a figure's name such as train/loss, its value, and the step."""
    close: Callable[[], None]


def boards(
    run: Path, *, begin: int, tensorboard: bool, wandb: str | None, recipe: dict[str, Any]
) -> list[Board]:
    """The boards that a recipe asks for, for a run that has done `begin` steps: TensorBoard drops
    what an attempt before showed past them, W&B keeps it. TrainingError where one's package is not
    installed, or where it refuses."""
    found = []
    if tensorboard:
        found.append(_tensorboard(run / "metrics" / "tensorboard", begin))
    if wandb is not None:
        found.append(_wandb(run, wandb, recipe))
    return found


def _tensorboard(folder: Path, begin: int) -> Board:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as problem:
        raise TrainingError(
            "The recipe says tensorboard: true, and tensorboard is not installed; type "
            "`pip install tensorboard`, or take the line out."
        ) from problem
    writer = SummaryWriter(folder, purge_step=begin + 1 if begin else None)
    return Board(writer.add_scalar, writer.close)


def _wandb(run: Path, project: str, recipe: dict[str, Any]) -> Board:
    """One W&B run a run, gone on with where the run is; WANDB_MODE=offline keeps it local."""
    try:
        import wandb
    except ImportError as problem:
        raise TrainingError(
            f"The recipe says wandb: {project}, and wandb is not installed; type "
            "`pip install wandb`, or take the line out."
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
            "WANDB_MODE=offline, or take the line wandb out of the recipe."
        ) from problem
    # Held-out figures come after the training's of the same step, which wandb would drop.
    board.define_metric("*", step_metric="step")

    def write(name: str, value: float, step: int) -> None:
        board.log({name: value, "step": step})

    return Board(write, board.finish)
