"""What a recipe will take, without training it: two trial steps, and the rest counted.

The trial takes real pairs through the real step and writes nothing into the store.
"""

import resource
from dataclasses import dataclass

import torch

from toolkit.errors import TrainingError
from training.batches import Source, micro_batches
from training.build import build_learner, pairs_per_step
from training.cache import Encoded
from training.data import Pairs, load_pairs, published, store_of
from training.fill import held_out_of, image_bytes, needed, prompt_bytes
from training.footprints import trainable
from training.measuring import Measuring, measurings, met, times_due
from training.models import Models, load_models
from training.precision import accelerator_of
from training.recipe import Recipe
from training.sizes import row_bytes, state_bytes, weights_bytes
from training.step import Learner
from training.trial import Tried, device_name, trial


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
