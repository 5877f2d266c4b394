"""What a recipe will take, without training it: two trial steps, and the rest counted.

The trial takes real pairs through the real step and writes nothing into the store.

What probes and held-out pairs add to a run, counted from its recipe before it is run.

`training.trainer` measures after every so many steps and after the last; `training.probe` leaves
one row a pair and draw.

Two trial steps and a measuring, timed: what a plan multiplies.

What a run's files take on disk, counted before there are any.
"""

import io
import json
import resource
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch

from toolkit.errors import TrainingError
from toolkit.recorder import rows
from training.batches import Source, micro_batches
from training.devices import accelerator_of
from training.ema import trainable
from training.latent_cache import Encoded
from training.models import Models, load_models
from training.noising import epoch_order
from training.pairs import Pairs, load_pairs, published, store_of
from training.precompute import held_out_of, image_bytes, needed, prompt_bytes
from training.probe import probe_members
from training.recipe import HeldOut, Probe, Recipe
from training.setup import build_learner, pairs_per_step
from training.step import Batch, Learner, errors_aside, errors_of, train_step


@dataclass(frozen=True)
class Measuring:
    """Pairs that a run measures again and again, without gradient."""

    members: tuple[int, ...]
    """Which pairs, as indices."""
    draws: int
    times: int
    asks_once: bool
    """Whether the reference's errors are kept from the first time on."""

    @property
    def rows(self) -> int:
        """Trajectory rows, one a pair, draw and time."""
        return len(self.members) * self.draws * self.times

    def passes(self, models: int) -> int:
        """Forward passes of one network over one pair: `models` and the reference."""
        asked = 1 if self.asks_once else self.times
        return len(self.members) * self.draws * (models * self.times + asked)


def times_due(every: int, steps: int) -> int:
    """How often a run of `steps` does what is due every so many of them and after the last."""
    return -(-steps // every)


def measurings(
    recipe: Recipe, pairs: Pairs, held_out: Pairs | None
) -> tuple[Measuring | None, Measuring | None]:
    """A recipe's probe of `pairs`, and its measuring of `held_out`."""
    probe = aside = None
    if recipe.probe is not None:
        probe = _measuring(recipe.probe, recipe.steps, pairs, asks_once=False)
    if recipe.held_out is not None and held_out is not None:
        aside = _measuring(recipe.held_out, recipe.steps, held_out, asks_once=True)
    return probe, aside


def _measuring(section: Probe | HeldOut, steps: int, pairs: Pairs, *, asks_once: bool) -> Measuring:
    members = probe_members(section.seed, pairs.pair_id, section.pairs)
    return Measuring(tuple(members), section.draws, times_due(section.every, steps), asks_once)


@dataclass(frozen=True)
class Met:
    """What a run meets and therefore encodes: each once, where the cache holds it."""

    pairs: int
    images: int
    prompts: int


def met(
    recipe: Recipe,
    pairs: Pairs,
    held_out: Pairs | None,
    visits: int,
    measured: Sequence[Measuring | None],
) -> Met:
    """What `visits` of training and the probe meet of `pairs`, and `measured` of `held_out`."""
    probe, aside = measured
    first = epoch_order(recipe.seed, 0, len(pairs))[:visits]
    mine = np.union1d(first, np.array(probe.members if probe else (), np.int64))
    found = [(pairs, mine.tolist())]
    if held_out is not None and aside is not None:
        found.append((held_out, aside.members))
    return Met(
        sum(len(members) for _, members in found),
        len({name for some, members in found for name in _images(some, members)}),
        len({some.prompt[k] for some, members in found for k in members}),
    )


def _images(pairs: Pairs, members: Iterable[int]) -> Iterable[str]:
    for k in members:
        yield pairs.image_0[k]
        yield pairs.image_1[k]


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


_ENTRY = 270
"""What a tensor takes in torch.save's archive beside its numbers, as it was measured."""


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


def weights_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes of a .safetensors file of these in float32: eight, a JSON header, the numbers."""
    begins, header = 0, {}
    for name, tensor in tensors.items():
        ends = begins + 4 * tensor.numel()
        about = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begins, ends]}
        header[name], begins = about, ends
    return 8 + len(json.dumps(header, separators=(",", ":"))) + begins


def state_bytes(state: Any) -> int:
    """Bytes of all tensors in nested mappings and sequences, as torch.save writes them."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size() + _ENTRY
    if isinstance(state, Mapping):
        state = list(state.values())
    return sum(map(state_bytes, state)) if isinstance(state, list | tuple) else 0


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
    forward_seconds: float
    """Of one network over one pair without gradient, as probes and held-out pairs are read."""
    met: int
    """Pairs that the run meets at all, held-out ones among them."""
    cache_bytes: int
    """Of every image and prompt the run will meet."""
    cache_limit: int | None
    """Of host memory; None where the recipe keeps its caches on disk."""
    row_bytes: float
    checkpoints: int
    files: int
    """Of weights in each: the footprints' and the policy's, where it is adapters in two formats."""
    weights_bytes: int
    """Of one such file."""
    state_bytes: int
    """Of the optimiser's and the metric's state, which the newest checkpoint alone keeps."""
    probe: Measuring | None = None
    held_out: Measuring | None = None
    samples: int = 0
    """Images the run draws as it goes on; their time is not foreseen."""
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
    def trained(self) -> int:
        """Pairs over all steps, each a row."""
        return self.steps * self.pairs_per_step

    @property
    def measured(self) -> int:
        """Rows of probes and of held-out pairs."""
        return sum(one.rows for one in (self.probe, self.held_out) if one is not None)

    @property
    def rows(self) -> int:
        """Trajectory rows of all kinds."""
        return self.trained + self.measured

    @property
    def visits(self) -> float:
        """Of a pair in training, on average."""
        return self.trained / self.pairs

    @property
    def pairs_per_second(self) -> float:
        """Of the step alone, once everything is encoded."""
        return self.pairs_per_step / self.step_seconds

    @property
    def encoders(self) -> float:
        """How many processes encode a pair, on average: where each holds its own in memory, all
        those that meet it in one epoch or another."""
        if self.cache_limit is None:
            return 1.0
        return max(1.0, self.processes * (1 - (1 - 1 / self.processes) ** self.visits))

    @property
    def encoded_pairs(self) -> float:
        """How many pairs' worth of encoding the run does: each once by every process that encodes
        it, and what does not fit into the cache again at every visit and every measuring."""
        first = min(self.met * self.encoders, self.rows)
        kept = 1.0
        if self.cache_limit is not None:
            held = self.cache_bytes * self.encoders / self.processes
            kept = min(1.0, self.cache_limit / max(held, 1))
        return first + (self.rows - first) * (1 - kept)

    @property
    def hours(self) -> float:
        """Steps, encoding and measuring; samples are not among them."""
        stepping = self.steps * self.step_seconds
        return (stepping + self.encoding_seconds + self.measuring_seconds) / 3600

    @property
    def encoding_seconds(self) -> float:
        """Shared out over the processes."""
        return self.encoded_pairs * self.encode_seconds / self.processes

    @property
    def measuring_seconds(self) -> float:
        """Of probes and held-out pairs, shared out over the processes."""
        wanted = [one for one in (self.probe, self.held_out) if one is not None]
        passes = sum(one.passes(self.models) for one in wanted)
        return passes * self.forward_seconds / self.processes

    @property
    def trajectory_bytes(self) -> int:
        """On disk, over all ranks."""
        return round(self.rows * self.row_bytes)

    @property
    def checkpoint_bytes(self) -> int:
        """On disk: the weights of all checkpoints in float32, and the newest one's state."""
        return self.checkpoints * self.files * self.weights_bytes + self.state_bytes


def plan(recipe: Recipe, processes: int = 1) -> Plan:
    """Try two steps of a recipe on one device and count the rest for `processes` like it.

    What they say to each other takes time that no trial of one process shows. RecipeError,
    StoreError or TrainingError as `train` would raise them; TrainingError where the device has too
    little memory for the trial.
    """
    store = store_of(recipe)
    accelerator = accelerator_of(recipe.precision)
    rulings = published(store) if recipe.verdicts else None
    pairs = load_pairs(store, labels=recipe.labels, split=recipe.split, rulings=rulings)
    held_out = held_out_of(recipe, store)
    models = load_models(recipe.backbone.path)
    try:
        learner = build_learner(recipe, models, pairs, accelerator)
        room = recipe.caches.memory_gb
        encoded = Encoded(store, models, recipe.backbone.resolution, memory_gb=room, disk=False)
        source = Source(recipe, pairs, models, encoded, None)
        tried = trial(recipe, learner, micro_batches(source, rank=0, world=1))
    except torch.cuda.OutOfMemoryError as problem:
        raise TrainingError(
            f"The trial step does not fit into the memory of {device_name(accelerator)}; lower "
            "batch_size and raise accumulation, or set network.gradient_checkpointing: true. (The "
            "trial is of one process; network.shard divides a network that trains as a whole over "
            "several.)"
        ) from problem
    return _counted(recipe, models, (pairs, held_out), learner, tried, processes)


def _counted(
    recipe: Recipe,
    models: Models,
    which: tuple[Pairs, Pairs | None],
    learner: Learner,
    tried: Tried,
    processes: int,
) -> Plan:
    pairs, held_out = which
    images, prompts = needed(pairs)
    together = processes * pairs_per_step(recipe, learner)
    measured = measurings(recipe, pairs, held_out)
    meets = met(recipe, pairs, held_out, recipe.steps * together, measured)
    an_image = image_bytes(models, recipe.backbone.resolution)
    policy, drawn = trainable(learner.bare), recipe.samples
    state = [learner.optimiser.state_dict(), learner.metric.state()]
    device = learner.accelerator.device
    return Plan(
        device=device_name(learner.accelerator),
        pairs=len(pairs),
        images=images,
        prompts=prompts,
        steps=recipe.steps,
        processes=processes,
        pairs_per_step=together,
        numbers=sum(p.numel() for p in policy.values()),
        models=1 + len(learner.footprints),
        peak_memory=(
            torch.cuda.max_memory_allocated()
            if device.type == "cuda"
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        ),
        step_seconds=tried.step,
        encode_seconds=tried.encode,
        forward_seconds=tried.forward,
        met=meets.pairs,
        cache_bytes=meets.images * an_image + meets.prompts * prompt_bytes(models),
        cache_limit=None if recipe.caches.disk else int(recipe.caches.memory_gb * 1e9),
        row_bytes=row_bytes(pairs.pair_id, 1 + len(learner.footprints)),
        checkpoints=times_due(recipe.checkpoint_every, recipe.steps),
        files=1 + len(learner.footprints) + (recipe.backbone.train == "lora"),
        weights_bytes=weights_bytes(policy),
        state_bytes=state_bytes(state),
        probe=measured[0],
        held_out=measured[1],
        samples=len(drawn.prompts) * (1 + times_due(drawn.every, recipe.steps)) if drawn else 0,
        divided=recipe.network.shard and learner.frozen is None,
    )
