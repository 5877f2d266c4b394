"""Two trial steps and a measuring, timed: what a plan multiplies."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from training.recipe import Recipe
from training.step import Batch, Learner, errors_aside, errors_of, train_step


class Tried(NamedTuple):
    """Seconds."""

    encode: float
    """To encode a pair."""
    step: float
    """Of one optimiser step."""
    forward: float
    """Of one network over one pair without gradient; 0 where nothing is measured."""


def trial(recipe: Recipe, learner: Learner, stream: Iterator[Batch]) -> Tried:
    """Two optimiser steps, the second timed, and a measuring where the recipe has any."""
    device = learner.accelerator.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = _now(device)
    batches: list[Batch] = [next(stream) for _ in range(2 * recipe.accumulation)]
    encode = (_now(device) - began) / (len(batches) * recipe.batch_size)
    ahead = iter(batches)
    train_step(learner, ahead, recipe.accumulation, 0)  # compiles, allocates, fills pools
    began = _now(device)
    train_step(learner, ahead, recipe.accumulation, 1)
    step = _now(device) - began
    measures = recipe.probe is not None or recipe.held_out is not None
    return Tried(encode, step, _forward(learner, batches[0]) if measures else 0.0)


@torch.no_grad()
def _forward(learner: Learner, batch: Batch) -> float:
    """Seconds of a network over a pair, from all of them over a batch, read a second time."""
    for _ in range(2):
        began = _now(learner.accelerator.device)
        with learner.accelerator.autocast():
            errors_of(learner.bare, batch)
        networks = 1 + len(errors_aside(learner, batch))
        took = _now(learner.accelerator.device) - began
    return took / (networks * len(batch.pair))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def device_name(accelerator: Any) -> str:
    """What a person calls the device that the trial ran on."""
    if accelerator.device.type == "cuda":
        return str(torch.cuda.get_device_name(accelerator.device))
    return f"the CPU, {torch.get_num_threads()} threads"
