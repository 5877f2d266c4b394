"""A run's learner: the policy on its device with reference, footprints, optimiser and metric.

Optimisers, and what makes a network cheaper to train: one place for every option.

adamw       torch's, fused on a GPU
adamw_8bit  bitsandbytes', where it is installed: a quarter of AdamW's state
adafactor   torch's: a row and a column of squares instead of a matrix, no first moment
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import RecipeError, TrainingError
from toolkit.store import Store
from toolkit.store.images import image_versions
from training import recipe as sections
from training.ema import footprints_of, snapshot, tensors_hash, trainable
from training.fsdp import divide, divides, frozen_twin
from training.latent_cache import image_ingredients, network_ingredients, text_ingredients
from training.live_metric import LiveMetric
from training.models import Models, prepare_trainable
from training.pairs import Pairs
from training.recipe import Recipe
from training.reference_errors import ReferenceErrors
from training.step import Learner


def make_optimiser(
    section: sections.Optimiser, tensors: Iterable[Tensor], device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser of a recipe over these tensors.

    TrainingError where `adamw_8bit` is asked for and bitsandbytes is not installed.
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
    """Its rate is relative to each tensor's root mean square, taken as .001 at the least."""
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

    Called on the device, after the trainable tensors are chosen and before accelerate wraps the
    network. None of it changes names of tensors, so checkpoints are the same with and without.
    """
    if section.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if section.channels_last:
        unet.to(memory_format=torch.channels_last)
    if section.compile:
        # The transformer blocks alone: they are alike, so one compilation serves them all, and
        # reference and footprints, read by the same code with other tensors, share it.
        unet.compile_repeated_blocks()


def build_learner(recipe: Recipe, models: Models, pairs: Pairs, accelerator: Any) -> Learner:
    """The policy on its device, its reference and footprints, optimiser, metric and objective."""
    kind = accelerator.distributed_type.value
    if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "TP"):
        raise TrainingError(
            f"accelerate was set up for {kind}, which splits the network that reference and "
            "footprints are read through; launch with --multi_gpu (DDP) instead, and set "
            "network.shard: true where a network that trains as a whole must be divided."
        )
    prepare_trainable(models, recipe.backbone)
    frozen = _placed(recipe, models, accelerator)
    section = recipe.optimiser
    tensors = trainable(models.unet).values()
    optimiser = make_optimiser(section, tensors, accelerator.device)
    warmup = section.warmup_steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda done: min(1.0, (done + 1) / (warmup + 1))
    )
    wrapped = accelerator.prepare(models.unet) if frozen is None else models.unet
    bare = accelerator.unwrap_model(wrapped)
    optimiser = accelerator.prepare(optimiser)
    footprints = footprints_of(bare, recipe.footprints)
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
    return Learner(
        accelerator,
        wrapped,
        bare,
        snapshot(bare) if frozen is None else dict(frozen.named_parameters()),
        footprints,
        recipe.objective,
        live,
        optimiser,
        schedule,
        section.max_grad_norm,
        section.grad_norm,
        recipe.seed,
        torch.zeros((), dtype=torch.bool, device=accelerator.device),
        frozen,
    )


def _placed(recipe: Recipe, models: Models, accelerator: Any) -> torch.nn.Module | None:
    """Every part on the device, or the policy divided over all processes' devices: then its start,
    divided beside it, is returned, since the reference cannot be read through the policy."""
    for part in (models.vae, *models.text_encoders):
        part.to(accelerator.device)
    if divides(recipe, accelerator):
        prepare_network(models.unet, recipe.network)
        divide(models.unet, accelerator, recipe.precision)
        return frozen_twin(models.unet, accelerator, recipe.precision)
    models.unet.to(accelerator.device)
    if recipe.precision != "fp32" and recipe.backbone.train == "lora":
        _halve_frozen(models.unet, recipe.precision)
    prepare_network(models.unet, recipe.network)
    return None


def reference_errors(
    recipe: Recipe, store: Store, models: Models, learner: Learner, pairs: Pairs
) -> ReferenceErrors | None:
    """The cache of the reference's errors; None unless draws are fixed and come round again."""
    if recipe.draws.kind != "fixed":
        return None
    ingredients = {
        **image_ingredients(models, recipe.backbone.resolution),
        **text_ingredients(models),
        **network_ingredients(models),
        "reference": tensors_hash(dict(learner.reference)),
        # With an adapter to start from, its alpha is part of the reference and of no tensor.
        "lora": recipe.backbone.lora.model_dump() if recipe.backbone.train == "lora" else None,
        "seed": recipe.seed,
        "draws": recipe.draws.count,
        "caption_dropout": recipe.caption_dropout,
        "precision": recipe.precision,
        # In half precision these two change an error's rounding, which beta multiplies.
        "network": [recipe.network.compile, recipe.network.channels_last],
        "pairs": pairs.content(),
    }
    on_disk = store if recipe.caches.disk else None
    if on_disk is not None:
        versions = image_versions(store)
        ingredients["images"] = [
            hashlib.sha256(repr([versions.get(name) for name in side]).encode()).hexdigest()
            for side in (pairs.image_0, pairs.image_1)
        ]
    return ReferenceErrors(pairs, recipe.draws.count, on_disk, ingredients)


def about_models(learner: Learner) -> list[str]:
    """Names of the M models in the order of a row's errors."""
    return ["policy", *(footprint.name for footprint in learner.footprints)]


def pairs_per_step(recipe: Recipe, learner: Learner) -> int:
    """Pairs that one optimiser step sees over all processes."""
    return recipe.batch_size * recipe.accumulation * int(learner.accelerator.num_processes)


def _halve_frozen(unet: torch.nn.Module, precision: str) -> None:
    """Frozen weights in half precision; adapters stay float32."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    for parameter in unet.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
