"""What a recipe will take, without training it: two timed steps, peak memory, rows times bytes.

The steps take real pairs through the real step and write nothing into the store.
"""

import io
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from toolkit.errors import TrainingError
from toolkit.recorder import rows
from training.batches import micro_batches
from training.caches import image_bytes, prompt_bytes
from training.devices import accelerator_of
from training.ema import trainable
from training.pairs import Pairs, probe_members
from training.precompute import to_encode
from training.recipe import Draws, HeldOut, Probe, Recipe
from training.setup import Setup, prepare
from training.step import Batch, Learner, errors_of, frozen_errors, train_step

_ENTRY, _STATE_ENTRY = 150, 270
"""Bytes that a tensor takes beside its numbers, in .safetensors files and in torch.save's."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take, in bytes and seconds."""

    device: str
    pairs: int
    images: int
    prompts: int
    steps: int
    processes: int
    """Each on a device like the one that was timed."""
    pairs_per_step: int
    """All processes together."""
    trainable: int
    """Trainable numbers of the policy."""
    models: int
    """The policy and its footprints."""
    peak_memory: int
    """On a GPU what torch allocated, else the peak of the whole process."""
    step_seconds: float
    """Of the second optimiser step, without encoding."""
    encode_seconds: float
    """To encode a pair's two images and its prompt and to draw its noise."""
    forward_seconds: float
    """Of one network over one pair without gradient; 0 where nothing is measured."""
    cache_bytes: int
    """Of all images and prompts of the run."""
    cache_limit: int | None
    """Of host memory, for each process; None where the cache is on disk."""
    row_bytes: float
    measured: int
    """Rows of probes and held-out pairs."""
    checkpoints: int
    checkpoint_bytes: int
    """Of all checkpoints: weights in float32, and the newest one's state."""
    samples: int = 0
    """Images that the run draws; their time is not estimated."""
    divided: bool = False
    """Whether the run divides the network over its processes (`network.shard`). The steps are
    timed in one process, which has the whole network."""

    @property
    def shared_memory(self) -> int:
        """Bytes of one process where the network is divided: the peak less the other processes'
        part of weights, gradient, AdamW's two moments and the reference, four bytes a number each.
        The blocks that are whole while they compute come on top."""
        whole = 5 * 4 * self.trainable
        return self.peak_memory - whole + -(-whole // self.processes)

    @property
    def trained(self) -> int:
        """Pairs over all steps, each a row."""
        return self.steps * self.pairs_per_step

    @property
    def rows(self) -> int:
        """Trajectory rows of all kinds."""
        return self.trained + self.measured

    @property
    def visits(self) -> float:
        """Training visits of a pair, on average."""
        return self.trained / self.pairs

    @property
    def pairs_per_second(self) -> float:
        """Of the step alone, once everything is encoded."""
        return self.pairs_per_step / self.step_seconds

    @property
    def encoded(self) -> int:
        """Times that a pair is encoded: once by every process that keeps it, or for every row where
        the cache is too small."""
        if self.cache_limit is not None and self.cache_bytes > self.cache_limit:
            return self.rows
        copies = 1 if self.cache_limit is None else self.processes
        return min(self.pairs * copies, self.rows)

    @property
    def encoding_seconds(self) -> float:
        """Divided by the number of processes."""
        return self.encoded * self.encode_seconds / self.processes

    @property
    def measuring_seconds(self) -> float:
        """Of probes and held-out pairs: every model and the reference for each row."""
        return self.measured * (self.models + 1) * self.forward_seconds / self.processes

    @property
    def hours(self) -> float:
        """Steps, encoding and measuring, without samples."""
        stepping = self.steps * self.step_seconds
        return (stepping + self.encoding_seconds + self.measuring_seconds) / 3600

    @property
    def trajectory_bytes(self) -> int:
        """On disk, over all ranks."""
        return round(self.rows * self.row_bytes)


def estimate(recipe: Recipe, processes: int = 1) -> Estimate:
    """Time two steps of a recipe on one device and multiply, for `processes` devices like it.

    The time that processes need to exchange gradients is not part of it.

    Raises:
        RecipeError, StoreError, TrainingError: As `train` would raise them.
        TrainingError: The device has too little memory for a step.
    """
    # Errors of the reference are computed in every step, and nothing is written to the store.
    caches = recipe.caches.model_copy(update={"disk": False})
    timed = recipe.model_copy(update={"draws": Draws(), "caches": caches})
    accelerator = accelerator_of(recipe.precision)
    try:
        setup = prepare(timed, accelerator=accelerator)
        if accelerator.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = _time_steps(recipe, setup)
    except torch.cuda.OutOfMemoryError as problem:
        raise TrainingError(
            f"A step does not fit into the memory of {_device_name(accelerator)}; lower batch_size "
            "and raise accumulation, or set network.gradient_checkpointing: true. (The estimate is "
            "of one process; in full fine-tuning network.shard divides a network over several.)"
        ) from problem
    return _multiply(recipe, setup, seconds, processes)


def _time_steps(recipe: Recipe, setup: Setup) -> tuple[float, float, float]:
    """Seconds to encode a pair, of one optimiser step, and of one network over one pair."""
    learner = setup.learner
    device = learner.accelerator.device
    stream = micro_batches(setup.source, rank=0, world=1)
    began = _now(device)
    batches = [next(stream) for _ in range(2 * recipe.accumulation)]
    encode = (_now(device) - began) / (len(batches) * recipe.batch_size)
    ahead = iter(batches)
    train_step(learner, ahead, recipe.accumulation, 0)  # compiles, allocates, fills pools
    began = _now(device)
    train_step(learner, ahead, recipe.accumulation, 1)
    step = _now(device) - began
    measures = recipe.probe is not None or recipe.held_out is not None
    return encode, step, _time_forward(learner, batches[0]) if measures else 0.0


@torch.no_grad()
def _time_forward(learner: Learner, batch: Batch) -> float:
    """Seconds of one network over one pair, from all of them over a batch, the second time."""
    for _ in range(2):
        began = _now(learner.accelerator.device)
        with learner.accelerator.autocast():
            errors_of(learner.policy, batch)
        networks = 1 + len(frozen_errors(learner, batch))
        seconds = _now(learner.accelerator.device) - began
    return seconds / (networks * len(batch.pair))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _device_name(accelerator: Any) -> str:
    if accelerator.device.type == "cuda":
        return str(torch.cuda.get_device_name(accelerator.device))
    return f"the CPU, {torch.get_num_threads()} threads"


def _multiply(
    recipe: Recipe, setup: Setup, seconds: tuple[float, float, float], processes: int
) -> Estimate:
    learner, models = setup.learner, setup.models
    encode, step, forward = seconds
    images, prompts = (len(set(names)) for names in to_encode(setup))
    policy = trainable(learner.policy)
    count = 1 + len(learner.footprints)
    checkpoints = times_due(recipe.checkpoint_every, recipe.steps)
    files = count + 2 * (recipe.backbone.train == "lora")  # adapters are saved in three formats
    state = [learner.optimiser.state_dict(), learner.metric.state()]
    weights = checkpoints * files * tensor_bytes(policy, _ENTRY)
    samples = recipe.samples
    return Estimate(
        device=_device_name(setup.accelerator),
        pairs=len(setup.pairs),
        images=images,
        prompts=prompts,
        steps=recipe.steps,
        processes=processes,
        pairs_per_step=processes * learner.pairs_per_step,
        trainable=sum(p.numel() for p in policy.values()),
        models=count,
        peak_memory=(
            torch.cuda.max_memory_allocated()
            if setup.accelerator.device.type == "cuda"
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        ),
        step_seconds=step,
        encode_seconds=encode,
        forward_seconds=forward,
        cache_bytes=(
            images * image_bytes(models, recipe.backbone.resolution)
            + prompts * prompt_bytes(models)
        ),
        cache_limit=None if recipe.caches.disk else int(recipe.caches.memory_gb * 1e9),
        row_bytes=row_bytes(setup.pairs.pair_id, count),
        measured=_measured(recipe, setup),
        checkpoints=checkpoints,
        checkpoint_bytes=weights + min(checkpoints, 2) * tensor_bytes(state, _STATE_ENTRY),
        samples=(
            len(samples.prompts) * (1 + times_due(samples.every, recipe.steps)) if samples else 0
        ),
        divided=recipe.network.shard and learner.divided_reference is None,
    )


def _measured(recipe: Recipe, setup: Setup) -> int:
    """Rows of probes and held-out pairs: members x draws x times."""

    def count(section: Probe | HeldOut, pairs: Pairs) -> int:
        members = probe_members(section.seed, pairs.pair_id, section.pairs)
        return len(members) * section.draws * times_due(section.every, recipe.steps)

    measured = 0 if recipe.probe is None else count(recipe.probe, setup.pairs)
    if recipe.held_out is not None and setup.held_out is not None:
        measured += count(recipe.held_out, setup.held_out.pairs)
    return measured


def times_due(every: int, steps: int) -> int:
    """How often a run of `steps` does what is due every so many of them and after the last."""
    return -(-steps // every)


def row_bytes(pair_ids: np.ndarray, models: int, count: int = 20_000) -> float:
    """Bytes of a trajectory row on disk, from a part of made-up rows of the real shape.

    Errors hardly compress, so random numbers take as much as real ones. The metric's scale is the
    same in many rows, and so is c2.
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


def tensor_bytes(tensors: Any, entry: int) -> int:
    """Bytes of all tensors in nested mappings and sequences, and of an entry for each."""
    if isinstance(tensors, torch.Tensor):
        return tensors.numel() * tensors.element_size() + entry
    if isinstance(tensors, Mapping):
        tensors = list(tensors.values())
    if not isinstance(tensors, list | tuple):
        return 0
    return sum(tensor_bytes(part, entry) for part in tensors)
