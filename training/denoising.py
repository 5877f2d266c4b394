"""Denoising errors of a set of tensors: the policy's, the reference's or a footprint's."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TensorSet = Mapping[str, Tensor]


@dataclass(frozen=True)
class Condition:
    """What the UNet gets besides image and timestep, one row an image (R rows)."""

    states: Tensor
    """(R, tokens, width) hidden states of the text encoder(s)."""
    pooled: Tensor | None = None
    """(R, width) pooled embedding of SDXL's second text encoder."""
    time_ids: Tensor | None = None
    """(R, 6) original height, width, crop top, left, target height, width (SDXL)."""

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the UNet's forward."""
        if self.pooled is None:
            return {"encoder_hidden_states": self.states}
        added = {"text_embeds": self.pooled, "time_ids": self.time_ids}
        return {"encoder_hidden_states": self.states, "added_cond_kwargs": added}


def image_errors(
    unet: torch.nn.Module,
    noisy: Tensor,
    timesteps: Tensor,
    condition: Condition,
    target: Tensor,
    tensors: TensorSet | None = None,
) -> Tensor:
    """e(x) = mean over C, H, W of (target - prediction)^2, float32, (R,).

    With `tensors` the network uses those in place of its own trainable tensors, which do not
    change; so footprints and reference share one frozen base without a copy of it. Prediction and
    target become float32 before squaring, since the difference of two errors is multiplied by
    thousands.
    """
    arguments = {**condition.arguments(), "return_dict": False}
    with contextlib.nullcontext() if tensors is None else instead(unet, tensors):
        prediction = unet(noisy, timesteps, **arguments)[0]
    return (target.float() - prediction.float()).square().flatten(1).mean(1)


@contextlib.contextmanager
def instead(module: torch.nn.Module, tensors: TensorSet) -> Iterator[None]:
    """Let a module use other tensors in place of its own, by name; no copy, no autograd.

    What torch.func.functional_call does, without its walk over all modules at each call, which
    for a small network takes as long as the network.
    """
    places = [_place(module, name) for name in tensors]
    own = [slots[name] for slots, name in places]
    try:
        for (slots, name), tensor in zip(places, tensors.values(), strict=True):
            slots[name] = tensor
        yield
    finally:
        for (slots, name), parameter in zip(places, own, strict=True):
            slots[name] = parameter


def _place(module: torch.nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """The parameter table that a dotted name points into, and its key there."""
    path, _, last = name.rpartition(".")
    slots = module.get_submodule(path)._parameters
    if last not in slots:
        raise KeyError(name)
    return slots, last
