"""What a recipe will take, without training it: two trial steps, and the rest counted.

The trial takes real pairs through the real step and writes nothing into the store.
"""

import io
import resource
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from toolkit.errors import TrainingError
from toolkit.trajectory import rows
from training.batches import Source, micro_batches
from training.build import build_learner, pairs_per_step
from training.cache import Encoded
from training.data import Pairs, load_pairs, store_of
from training.fill import image_bytes, needed, prompt_bytes
from training.footprints import trainable
from training.models import Models, load_models
from training.precision import accelerator_of
from training.recipe import Recipe
from training.step import Batch, Learner, train_step


@dataclass(frozen=True)
class Plan:
    """A run foreseen. Bytes and seconds throughout."""

    device: str
    pairs: int
    images: int
    prompts: int
    steps: int
    processes: int
    """Each on a device like the one that was tried."""
    pairs_per_step: int
    """Over all processes."""
    numbers: int
    """Trainable numbers of the policy."""
    models: int
    """The policy and its footprints."""
    peak_memory: int
    """On a GPU what torch allocated there, else what the whole process held at most."""
    step_seconds: float
    """Of the second trial step, its images encoded before."""
    encode_seconds: float
    """To encode one pair's two images and its prompt and to draw its noise."""
    cache_bytes: int
    """Of every image and prompt the run will meet."""
    cache_limit: int | None
    """Of host memory; None where the recipe keeps its caches on disk."""
    row_bytes: float
    checkpoints: int
    divided: bool = False
    """Whether the run divides the network over its processes (`network.shard`). The trial is of
    one process, which holds the whole."""

    @property
    def shared_memory(self) -> int:
        """Bytes of one process where the network is divided: the trial's peak less what the other
        processes hold of weights, gradient, AdamW's two moments and the reference, each four bytes
        a number. The blocks that are whole while they compute come on top."""
        held = 5 * 4 * self.numbers
        return self.peak_memory - held + -(-held // self.processes)

    @property
    def rows(self) -> int:
        """Trajectory rows: pairs over all steps."""
        return self.steps * self.pairs_per_step

    @property
    def visits(self) -> float:
        """Of a pair, on average."""
        return self.rows / self.pairs

    @property
    def pairs_per_second(self) -> float:
        """Of the step alone, once everything is encoded."""
        return self.pairs_per_step / self.step_seconds

    @property
    def encoded_pairs(self) -> float:
        """How many pairs' worth of encoding the run does: each once, and what does not fit into
        the cache again at every visit."""
        met = min(self.pairs, self.rows)
        limit = self.cache_bytes if self.cache_limit is None else self.cache_limit
        kept = min(1.0, limit / max(self.cache_bytes, 1))
        return met + (self.rows - met) * (1 - kept)

    @property
    def hours(self) -> float:
        """Steps and encoding."""
        stepping = self.steps * self.step_seconds
        return (stepping + self.encoding_seconds) / 3600

    @property
    def encoding_seconds(self) -> float:
        """Shared out over the processes."""
        return self.encoded_pairs * self.encode_seconds / self.processes

    @property
    def trajectory_bytes(self) -> int:
        """On disk, over all ranks."""
        return round(self.rows * self.row_bytes)

    @property
    def checkpoint_bytes(self) -> int:
        """On disk: policy and footprints of all checkpoints in float32, and the newest one's state
        (the policy again and two moments)."""
        return (self.checkpoints * self.models + 3) * self.numbers * 4


def plan(recipe: Recipe, processes: int = 1) -> Plan:
    """Try two steps of a recipe on one device and count the rest for `processes` like it.

    What they say to each other takes time that no trial of one process shows. RecipeError,
    StoreError or TrainingError as `train` would raise them; TrainingError where the device has too
    little memory for the trial.
    """
    store = store_of(recipe)
    accelerator = accelerator_of(recipe.precision)
    pairs = load_pairs(store, labels=recipe.labels, split=recipe.split)
    models = load_models(recipe.backbone.path)
    try:
        learner = build_learner(recipe, models, pairs, accelerator)
        room = recipe.caches.memory_gb
        encoded = Encoded(store, models, recipe.backbone.resolution, memory_gb=room, disk=False)
        source = Source(recipe, pairs, models, encoded, None)
        encode, step = _trial(recipe, learner, micro_batches(source, rank=0, world=1))
    except torch.cuda.OutOfMemoryError as problem:
        raise TrainingError(
            f"The trial step does not fit into the memory of {_device_name(accelerator)}; lower "
            "batch_size and raise accumulation, or set network.gradient_checkpointing: true. (The "
            "trial is of one process; network.shard divides a network that trains as a whole over "
            "several.)"
        ) from problem
    return _counted(recipe, models, pairs, learner, encode, step, processes)


def _trial(recipe: Recipe, learner: Learner, stream: Any) -> tuple[float, float]:
    """Seconds to encode a pair, and of one optimiser step."""
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
    return encode, _now(device) - began


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _counted(
    recipe: Recipe,
    models: Models,
    pairs: Pairs,
    learner: Learner,
    encode: float,
    step: float,
    processes: int,
) -> Plan:
    images, prompts = needed(pairs)
    held = images * image_bytes(models, recipe.backbone.resolution) + prompts * prompt_bytes(models)
    together = processes * pairs_per_step(recipe, learner)
    met = min(1.0, recipe.steps * together / len(pairs))
    device = learner.accelerator.device
    return Plan(
        device=_device_name(learner.accelerator),
        pairs=len(pairs),
        images=images,
        prompts=prompts,
        steps=recipe.steps,
        processes=processes,
        pairs_per_step=together,
        numbers=sum(p.numel() for p in trainable(learner.bare).values()),
        models=1 + len(learner.footprints),
        peak_memory=(
            torch.cuda.max_memory_allocated()
            if device.type == "cuda"
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        ),
        step_seconds=step,
        encode_seconds=encode,
        cache_bytes=round(met * held),
        cache_limit=None if recipe.caches.disk else int(recipe.caches.memory_gb * 1e9),
        row_bytes=row_bytes(pairs.pair_id, 1 + len(learner.footprints)),
        checkpoints=-(-recipe.steps // recipe.checkpoint_every),
        divided=recipe.network.shard and learner.frozen is None,
    )


def row_bytes(pair_ids: np.ndarray, models: int, count: int = 20_000) -> float:
    """Bytes a trajectory row takes on disk, from a part of made-up rows of the real shape.

    Errors hardly compress, so numbers at random are as large as real ones. The scale of the
    metric is the same for many rows, as c2 is.
    """
    rng = np.random.default_rng(0)
    names = ("err_ref_0", "err_ref_1", "confidence", "stability", "minority", "weight", "loss")
    some = rng.permutation(np.resize(pair_ids, max(count, len(pair_ids))))[:count]
    table = rows(
        pair_id=some.tolist(),
        visit=rng.integers(0, 3, count),
        draw=rng.integers(0, 3, count),
        step=np.arange(count) // 64,
        rank=0,
        micro=np.arange(count) // 16,
        timestep=rng.integers(0, 1000, count),
        label=rng.integers(0, 2, count).astype(np.float32),
        **{name: rng.random(count, np.float32) for name in names},
        **{name: rng.random((models, count), np.float32) for name in ("err_0", "err_1")},
        scale=np.repeat(rng.random((models, count // 16 + 1), np.float32), 16, axis=1)[:, :count],
        margin=rng.random(count, np.float32),
        c2=np.repeat(rng.random(count // 16 + 1, np.float32), 16)[:count],
    )
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.tell() / count


def _device_name(accelerator: Any) -> str:
    if accelerator.device.type == "cuda":
        return str(torch.cuda.get_device_name(accelerator.device))
    return f"the CPU, {torch.get_num_threads()} threads"
