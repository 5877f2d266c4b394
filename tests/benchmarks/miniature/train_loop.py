"""What both pre-trainings share: order of the data, optimiser, schedule, progress."""

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from rich.progress import Progress

Report = Callable[[int, float], None]
"""Called with a step, counted from 1, and its loss."""


def optimiser(
    parameters: Iterable[torch.nn.Parameter], steps: int, rate: float
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW with a short linear warm-up and a cosine down to nothing."""
    adam = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    warm_up = max(1, min(100, steps // 20))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    return adam, torch.optim.lr_scheduler.LambdaLR(adam, factor)


def batches(count: int, batch: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of each step's batch: the data in a new order, as often as the steps ask for."""
    rng = np.random.default_rng([0xBA7C, seed])
    waiting = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(waiting) < batch:
            waiting = np.concatenate([waiting, rng.permutation(count)])
        yield waiting[:batch]
        waiting = waiting[batch:]


def progress_report(progress: Progress, title: str, steps: int, every: int = 100) -> Report:
    """A bar with the latest loss, and a printed line every `every` steps for a log."""
    bar = progress.add_task(title, total=steps)
    recent: list[float] = []

    def report(step: int, loss: float) -> None:
        recent.append(loss)
        progress.update(bar, completed=step, description=f"{title}, loss {loss:.4f}")
        if step % every == 0 or step == steps:
            progress.console.print(f"{title}: step {step}, mean loss {np.mean(recent):.4f}")
            recent.clear()

    return report


def final_mean(losses: list[float]) -> float:
    """Mean over the last tenth of the steps."""
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))
