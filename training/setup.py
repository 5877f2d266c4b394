"""What a recipe needs, prepared once: for training, caches, estimates and probes alike.

`prepare_inputs` loads what is read: store, accelerator, pairs, held-out pairs, backbone, its
hashes, and the cache of encoded images and prompts. `prepare` adds what learns: the policy with
reference and footprints, optimiser and metric.

Hashing a backbone reads all of its bytes, so the main process does it, once a run, and sends the
result to the others.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import RecipeError, StoreError, TrainingError
from toolkit.store import Store
from toolkit.store.images import image_versions
from toolkit.store.locks import Lease, run_lease
from training import recipe as sections
from training.batches import BatchSource
from training.caches import (
    Encoded,
    ReferenceErrors,
    image_ingredients,
    network_ingredients,
    text_ingredients,
)
from training.devices import accelerator_of, divide, divides, frozen_twin
from training.ema import footprints_of, snapshot, tensors_hash, trainable
from training.live_metric import LiveMetric
from training.lora import is_fresh
from training.models import Models, hash_parts, load_models, prepare_trainable
from training.pairs import (
    Pairs,
    Verdicts,
    apply_label_weights,
    apply_stored_weights,
    apply_verdicts,
    load_pairs,
    published_verdicts,
    refuse_graded,
    store_of,
)
from training.recipe import Recipe
from training.step import Learner

ENCODERS = ("vae", "text")
"""Parts of a backbone that decide what the cache of encoded images and prompts contains."""

NETWORK = ("unet", "scheduler")
"""Parts that decide an error, besides the encoders."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a recipe reads."""

    recipe: Recipe
    store: Store
    accelerator: Any
    source: BatchSource
    """The pairs to train on, with backbone and cache."""
    held_out: BatchSource | None
    """The held-out pairs, where the recipe has any."""
    hashes: Mapping[str, str]
    """sha256 of the backbone's folders, by name, as far as they were computed."""

    @property
    def pairs(self) -> Pairs:
        """The pairs to train on."""
        return self.source.pairs

    @property
    def models(self) -> Models:
        """The backbone."""
        return self.source.models


@dataclass(frozen=True, kw_only=True)
class Setup(Inputs):
    """What one process of a run works with."""

    learner: Learner
    reference_hash: str
    """sha256 of the reference's tensors; empty if `hashed` was empty."""


@contextmanager
def sole_writer(
    store: Store, run: str, accelerator: Any, to: str = "train"
) -> Iterator[Lease | None]:
    """Hold the lease of a run, on the main process; None on the others of this launch.

    StoreError, on each of them, where another process trains or probes the run (`to`). A run that
    was refused before it wrote its run.json leaves nothing.
    """
    from accelerate.utils import broadcast_object_list

    lease: Lease | None = None
    refused = None
    if accelerator.is_main_process:
        try:
            lease = run_lease(store, run, to)
        except StoreError as problem:
            refused = str(problem)
    if refused := broadcast_object_list([refused])[0]:
        raise StoreError(refused)
    try:
        yield lease
    finally:
        if lease is not None:
            lease.release(forget=not (store.run(run) / "run.json").exists())


def prepare_inputs(
    recipe: Recipe,
    *,
    accelerator: Any = None,
    verdicts: Verdicts | None = None,
    hashed: Sequence[str] = (),
) -> Inputs:
    """Load what a recipe reads.

    Args:
        recipe: A parsed recipe that names a store.
        accelerator: accelerate's, in the recipe's precision by default.
        verdicts: One a pair; by default those published now, if the recipe uses them.
        hashed: Parts of the backbone to hash (`ENCODERS`, `NETWORK`); the encoders are always
            hashed where the cache is on disk.

    Raises:
        RecipeError: The recipe names no store, or its stored weights cannot be used.
        TrainingError: There are no pairs to train on, or the backbone cannot be loaded.
    """
    store = store_of(recipe)
    accelerator = accelerator_of(recipe.precision) if accelerator is None else accelerator
    if verdicts is None:
        verdicts = published_verdicts(store) if recipe.verdicts else {}
    pairs = load_pairs(store, labels=recipe.labels, split=recipe.split, verdicts=verdicts)
    apply_verdicts(pairs, verdicts, recipe.live.keep)
    apply_stored_weights(store, recipe.weights, pairs)
    if recipe.label_weights:
        apply_label_weights(pairs)
    refuse_graded(recipe, pairs)
    others = None
    if recipe.held_out is not None:
        aside = recipe.held_out
        others = load_pairs(store, labels=aside.labels, split=aside.split)
    models = load_models(recipe.backbone.path)
    on_disk = recipe.caches.disk
    hashes = _shared_hashes(models, (*hashed, *(ENCODERS if on_disk else ())), accelerator)
    for part in (models.vae, *models.text_encoders):
        part.to(accelerator.device)
    encoded = Encoded(
        store,
        models,
        recipe.backbone.resolution,
        memory_gb=recipe.caches.memory_gb,
        hashes=hashes if on_disk else None,
    )
    return Inputs(
        recipe=recipe,
        store=store,
        accelerator=accelerator,
        source=BatchSource(recipe, pairs, models, encoded, None),
        held_out=None if others is None else BatchSource(recipe, others, models, encoded, None),
        hashes=hashes,
    )


def prepare(
    recipe: Recipe,
    *,
    accelerator: Any = None,
    verdicts: Verdicts | None = None,
    hashed: Sequence[str] = (),
) -> Setup:
    """Load what a recipe reads (`prepare_inputs`, which see) and build what learns.

    Under fixed draws the source has the reference's errors, as far as a cache has them.
    """
    from accelerate.utils import set_seed

    set_seed(recipe.seed)  # of fresh adapters; all other randomness has keys of its own
    fixed = recipe.draws.kind == "fixed"
    hashed = (*hashed, *(NETWORK if fixed and recipe.caches.disk else ()))
    inputs = prepare_inputs(recipe, accelerator=accelerator, verdicts=verdicts, hashed=hashed)
    learner = build_learner(recipe, inputs.models, inputs.pairs, inputs.accelerator)
    reference_hash = _reference_hash(learner) if hashed else ""
    source = inputs.source
    if fixed:
        errors = _reference_errors(inputs, reference_hash)
        source = BatchSource(recipe, source.pairs, source.models, source.encoded, errors)
    return Setup(
        recipe=recipe,
        store=inputs.store,
        accelerator=inputs.accelerator,
        source=source,
        held_out=inputs.held_out,
        hashes=inputs.hashes,
        learner=learner,
        reference_hash=reference_hash,
    )


def _shared_hashes(models: Models, parts: Sequence[str], accelerator: Any) -> dict[str, str]:
    """`hash_parts`, read by the main process and sent to the others."""
    from accelerate.utils import broadcast_object_list

    if not parts:
        return {}
    hashes = [hash_parts(models, parts) if accelerator.is_main_process else None]
    return dict(broadcast_object_list(hashes)[0])


def _reference_hash(learner: Learner) -> str:
    """sha256 of the reference, by the main process. Divided tensors need every process."""
    from accelerate.utils import broadcast_object_list

    if learner.divided_reference is not None:
        return tensors_hash(dict(learner.reference))
    main = learner.accelerator.is_main_process
    hashes = [tensors_hash(dict(learner.reference)) if main else None]
    return str(broadcast_object_list(hashes)[0])


def build_learner(recipe: Recipe, models: Models, pairs: Pairs, accelerator: Any) -> Learner:
    """The policy on its device, with reference, footprints, optimiser and metric."""
    kind = accelerator.distributed_type.value
    if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "TP"):
        raise TrainingError(
            f"accelerate was set up for {kind}, which splits the network that reference and "
            "footprints are read through; launch with --multi_gpu (DDP) instead, and set "
            "network.shard: true to divide a network in full fine-tuning."
        )
    prepare_trainable(models, recipe.backbone)
    divided_reference = _place(recipe, models, accelerator)
    section = recipe.optimiser
    optimiser = make_optimiser(section, trainable(models.unet).values(), accelerator.device)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda done: min(1.0, (done + 1) / (section.warmup_steps + 1))
    )
    divided = divided_reference is not None
    wrapped = models.unet if divided else accelerator.prepare(models.unet)
    policy = accelerator.unwrap_model(wrapped)
    optimiser = accelerator.prepare(optimiser)
    footprints = footprints_of(policy, recipe.footprints)
    metric = recipe.metric.resolve()
    if metric.preset in ("released", "running", "paper") and not footprints:
        raise RecipeError(
            f"metric.preset {metric.preset} compares the policy with its footprints, and "
            "`footprints` is empty; give at least one decay, or use preset history."
        )
    live = LiveMetric(
        metric,
        models=1 + len(footprints),
        pairs=len(pairs),
        timesteps=models.timesteps,
        device=accelerator.device,
    )
    if divided_reference is None:
        reference = snapshot(policy)
    else:
        reference = dict(divided_reference.named_parameters())
    return Learner(
        recipe=recipe,
        accelerator=accelerator,
        policy=policy,
        wrapped=wrapped,
        reference=reference,
        # A compiled network would be compiled once more for it.
        reference_is_base=is_fresh(reference) and not recipe.network.compile,
        divided_reference=divided_reference,
        footprints=footprints,
        metric=live,
        optimiser=optimiser,
        schedule=schedule,
        gradient_seen=torch.zeros((), dtype=torch.bool, device=accelerator.device),
    )


def _place(recipe: Recipe, models: Models, accelerator: Any) -> torch.nn.Module | None:
    """Move the UNet to the device. Where it is divided over all processes' devices instead, return
    its divided copy: the reference, which cannot be read through the policy then."""
    if divides(recipe.network.shard, accelerator):
        prepare_network(models.unet, recipe.network)
        divide(models.unet, accelerator, recipe.precision)
        return frozen_twin(models.unet, accelerator, recipe.precision)
    models.unet.to(accelerator.device)
    if recipe.precision != "fp32" and recipe.backbone.train == "lora":
        _halve_frozen(models.unet, recipe.precision)
    prepare_network(models.unet, recipe.network)
    return None


def _halve_frozen(unet: torch.nn.Module, precision: str) -> None:
    """Frozen weights in half precision; adapters stay float32."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    for parameter in unet.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def _reference_errors(inputs: Inputs, reference_hash: str) -> ReferenceErrors:
    """The cache of the reference's errors under fixed draws, on disk if the recipe says so."""
    recipe, pairs = inputs.recipe, inputs.pairs
    if not recipe.caches.disk:
        return ReferenceErrors(pairs, recipe.draws.count, None, {})
    versions = image_versions(inputs.store)
    ingredients = {
        **image_ingredients(inputs.hashes, recipe.backbone.resolution),
        **text_ingredients(inputs.hashes),
        **network_ingredients(inputs.hashes),
        "reference": reference_hash,
        # With an adapter to start from, its alpha is part of the reference but not of its tensors.
        "lora": recipe.backbone.lora.model_dump() if recipe.backbone.train == "lora" else None,
        "seed": recipe.seed,
        "draws": recipe.draws.count,
        "caption_dropout": recipe.caption_dropout,
        "empty_prompt": recipe.empty_prompt,
        "time_ids": recipe.backbone.time_ids,
        "precision": recipe.precision,
        # In half precision these two change an error's rounding, which beta multiplies.
        "network": [recipe.network.compile, recipe.network.channels_last],
        "pairs": pairs.content(),
        "images": [
            hashlib.sha256(repr([versions.get(name) for name in side]).encode()).hexdigest()
            for side in (pairs.image_0, pairs.image_1)
        ],
    }
    return ReferenceErrors(pairs, recipe.draws.count, inputs.store, ingredients)


def make_optimiser(
    section: sections.Optimiser, tensors: Iterable[Tensor], device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser of a recipe over these tensors.

    TrainingError where `adamw_8bit` is set and bitsandbytes is not installed.
    """
    return _OPTIMISERS[section.name](section, list(tensors), device)


def _adamw(
    section: sections.Optimiser, tensors: list[Tensor], device: torch.device
) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        tensors,
        lr=section.learning_rate,
        betas=(section.beta1, section.beta2),
        weight_decay=section.weight_decay,
        fused=device.type == "cuda",
    )


def _adamw_8bit(
    section: sections.Optimiser, tensors: list[Tensor], _: torch.device
) -> torch.optim.Optimizer:
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as problem:
        raise TrainingError(
            "optimiser.name adamw_8bit needs the package bitsandbytes, which is not installed; "
            "type `pip install bitsandbytes`, or set optimiser.name to adamw or adafactor."
        ) from problem
    return AdamW8bit(
        tensors,
        lr=section.learning_rate,
        betas=(section.beta1, section.beta2),
        weight_decay=section.weight_decay,
    )


def _adafactor(
    section: sections.Optimiser, tensors: list[Tensor], _: torch.device
) -> torch.optim.Optimizer:
    """Its rate is relative to each tensor's root mean square, at least .001."""
    return torch.optim.Adafactor(
        tensors, lr=section.learning_rate, weight_decay=section.weight_decay
    )


_OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw_8bit": _adamw_8bit,
    "adafactor": _adafactor,
}


def prepare_network(unet: Any, section: sections.Network) -> None:
    """Gradient checkpointing, memory format and regional compilation, in place.

    To be called on the device, after the trainable tensors are chosen and before accelerate wraps
    the network. Names of tensors do not change, so checkpoints are the same with and without.
    """
    if section.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if section.channels_last:
        unet.to(memory_format=torch.channels_last)
    if section.compile:
        # Only the transformer blocks: one compilation serves them all, and also reference and
        # footprints, which are read by the same code with other tensors.
        unet.compile_repeated_blocks()
