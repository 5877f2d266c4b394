"""Trainable tensors besides the policy's: the reference (its start) and the EMA footprints.

Float32 clones of the trainable tensors only (adapters, or the whole UNet when all of it trains).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from training.devices import whole

USUAL_RAMP = 10.0
"""The decay of update n is min(cap, (1 + n) / (10 + n)), as in the authors' release."""


def trainable(module: torch.nn.Module) -> dict[str, Tensor]:
    """The tensors that receive gradient, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    """Float32 clones of the trainable tensors, without gradient.

    Taken before the first step this is the reference: the START of the run, also where training
    begins from a loaded adapter (switching adapters off would give the bare base instead).
    """
    return {name: p.detach().float().clone() for name, p in trainable(module).items()}


def tensors_hash(tensors: dict[str, Tensor]) -> str:
    """sha256 over names, shapes and values: names the reference that errors belong to.

    Divided tensors are put together, so all processes must call this.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = whole(tensors[name].detach()).float().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


class Averaging(Protocol):
    """How a footprint follows the policy: a recipe's entry."""

    @property
    def decay(self) -> float: ...
    @property
    def ramp(self) -> float: ...


def footprint_name(decay: float, ramp: float = USUAL_RAMP) -> str:
    """The name of a footprint in `models` of run.json."""
    return f"ema_{decay:g}" + (f"_ramp_{ramp:g}" if ramp != USUAL_RAMP else "")


@dataclass
class Footprint:
    """An exponential moving average of the policy's trainable tensors."""

    cap: float
    tensors: dict[str, Tensor]
    ramp: float = USUAL_RAMP
    updates: int = 0

    @property
    def name(self) -> str:
        return footprint_name(self.cap, self.ramp)

    @torch.no_grad()
    def update(self, policy: dict[str, Tensor]) -> None:
        """Move towards the policy by 1 - decay, decay = min(cap, (1 + n) / (ramp + n))."""
        decay = min(self.cap, (1 + self.updates) / (self.ramp + self.updates))
        names = list(self.tensors)
        torch._foreach_lerp_(
            [self.tensors[name] for name in names],
            [policy[name].detach().float() for name in names],
            1 - decay,
        )
        self.updates += 1


def footprints_of(module: torch.nn.Module, wanted: Sequence[Averaging]) -> list[Footprint]:
    """One footprint an entry, each starting from the policy's current tensors."""
    return [Footprint(entry.decay, snapshot(module), entry.ramp) for entry in wanted]
