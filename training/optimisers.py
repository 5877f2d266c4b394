"""Optimisers, and what makes a network cheaper to train: one place for every option.

adamw       torch's, fused on a GPU
adamw_8bit  bitsandbytes', where it is installed: a quarter of AdamW's state
adafactor   torch's: a row and a column of squares instead of a matrix, no first moment
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import TrainingError
from training import sections


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
