"""What one process of a run works with, and what a run says of itself before its first step."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from toolkit.store import Store
from toolkit.trajectory import Recorder
from training.batches import Source
from training.boards import Board, boards
from training.build import about_models, pairs_per_step, reference_errors
from training.cache import (
    Encoded,
    image_ingredients,
    network_ingredients,
    text_ingredients,
)
from training.conventions import said
from training.data import Pairs
from training.fill import announced_for_run, held_out_of
from training.footprints import tensors_hash
from training.live import LiveVerdicts
from training.models import Models
from training.monitor import Log
from training.recipe import Recipe
from training.recorder import RunRecorder
from training.step import Learner


@dataclass(frozen=True)
class Session:
    """What one process of a run works with."""

    recipe: Recipe
    store: Store
    run: str
    models: Models
    learner: Learner
    source: Source
    recorder: RunRecorder
    live: LiveVerdicts | None
    held_out: Source | None
    log: Log
    begin: int
    """Steps that are done already."""
    known: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)
    """The reference's errors on held-out pairs (`training.probe`)."""

    @property
    def main(self) -> bool:
        """Whether this process writes what is written once."""
        return bool(self.learner.accelerator.is_main_process)


def make_session(
    recipe: Recipe,
    store: Store,
    run: str,
    models: Models,
    learner: Learner,
    pairs: Pairs,
    live: LiveVerdicts | None,
    begin: int,
    console: Any,
) -> Session:
    """The parts that touch the disk, made once everything else stands."""
    accelerator = learner.accelerator
    caches = recipe.caches
    encoded = Encoded(
        store,
        models,
        recipe.backbone.resolution,
        memory_gb=caches.memory_gb,
        disk=caches.disk,
    )
    others = held_out_of(recipe, store)
    if accelerator.is_main_process:
        tell(console, announced_for_run(encoded, recipe, models, pairs, others))
    known = reference_errors(recipe, store, models, learner, pairs)
    if known is not None and begin:
        known.recall(store.run(run) / "trajectory" / f"rank-{accelerator.process_index}")
    source = Source(recipe, pairs, models, encoded, known)
    held_out = None if others is None else Source(recipe, others, models, encoded, None)
    writer = Recorder(store.run(run), about_models(learner), rank=accelerator.process_index)
    recorder = RunRecorder(writer, pairs, known, micro=begin * recipe.accumulation)
    main = accelerator.is_main_process
    shown = _boards(recipe, store.run(run), begin) if main else []
    log = Log(store.run(run), main=main, boards=shown, console=console)
    return Session(
        recipe, store, run, models, learner, source, recorder, live, held_out, log, begin
    )


def _boards(recipe: Recipe, run: Path, begin: int) -> list[Board]:
    return boards(
        run,
        begin=begin,
        tensorboard=recipe.tensorboard,
        wandb=recipe.wandb,
        recipe=recipe.model_dump(mode="json"),
    )


def describe(recipe: Recipe, models: Models, pairs: Pairs, learner: Learner) -> dict[str, Any]:
    """What run.json says before the first step."""
    return {
        "models": about_models(learner),
        "labels": recipe.labels,
        "split": recipe.split,
        "pairs": len(pairs),
        "pairs_content": pairs.content(),
        "labels_content": pairs.labels_content(),
        "weights_content": pairs.weights_content(),
        "encoders_content": {
            **image_ingredients(models, recipe.backbone.resolution),
            **text_ingredients(models),
        },
        "left_out": pairs.left_out,
        "metric": asdict(learner.metric.metric),
        "objective": recipe.objective.model_dump(mode="json"),
        "reference": tensors_hash(dict(learner.reference)),
        "backbone": recipe.backbone.path,
        "backbone_content": network_ingredients(models),
        "family": models.family,
        "train_timesteps": models.timesteps,
        "batch_size": recipe.batch_size,
        "pairs_per_step": pairs_per_step(recipe, learner),
        "planned_steps": recipe.steps,
        "finished": False,
    }


def tell(console: Any, text: str) -> None:
    """A line for the person who watches, where there is one."""
    if console is not None:
        console.print(text)


def introduce(console: Any, recipe: Recipe, pairs: Pairs, learner: Learner) -> None:
    """Say what the run trains on and how, before its first step."""
    seen = recipe.steps * pairs_per_step(recipe, learner) / len(pairs)
    left_out = ", ".join(f"{n} {why}" for why, n in sorted(pairs.left_out.items()))
    tell(
        console,
        f"{len(pairs)} pairs under labels {recipe.labels!r}"
        + (f" (left out: {left_out})" if left_out else "")
        + f", {recipe.steps} steps, {seen:.1f} visits a pair; models: "
        + ", ".join(about_models(learner)),
    )
    if learner.frozen is not None:
        tell(console, f"network divided over {learner.accelerator.num_processes} processes")
    elif recipe.network.shard:
        tell(
            console,
            "network.shard changes nothing in a single process; under `accelerate launch "
            "--multi_gpu` the network is divided",
        )
    for line in said(recipe, pairs_per_step(recipe, learner)):
        tell(console, line)
