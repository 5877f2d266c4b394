"""The noise of a visit, and the denoising errors of a set of tensors under it.

All randomness of a visit is keyed by what it belongs to and never by when it is drawn. Timestep and
noise = f(seed, pair, draw); the VAE's sample = f(seed, image, draw). So ranks differ, a resumed run
repeats itself, and two runs can be compared pair by pair. Drawn with numpy's Philox on the host:
the same bits on every device.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.ids import generator


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` pairs in an epoch: a permutation, f(seed, epoch)."""
    return generator(seed, "order", epoch).permutation(count)


def policy_seed(seed: int, step: int, micro: int, rank: int) -> int:
    """Seed of torch's own generator (dropout) for one micro-batch of a step on one rank."""
    return int(generator(seed, "policy", step, micro, rank).integers(2**62))


def pair_draw(
    seed: int, pair_id: str, draw: int, shape: tuple[int, ...], timesteps: int, strata: int = 0
) -> tuple[int, np.ndarray]:
    """Timestep in [0, timesteps) and noise of `shape` (float32) shared by a pair's two images.

    With `strata` = K the K fixed draws of a pair fall into K equal parts of the schedule, in an
    order of the pair's own.
    """
    rng = generator(seed, "pair", pair_id, draw)
    spot = rng.random()
    if strata:
        order = generator(seed, "strata", pair_id).permutation(strata)
        spot = (order[draw % strata] + spot) / strata
    return int(spot * timesteps), rng.standard_normal(shape, dtype=np.float32)


def image_noise(seed: int, image_id: str, draw: int, shape: tuple[int, ...]) -> np.ndarray:
    """The noise with which an image's VAE posterior is sampled, float32."""
    return generator(seed, "image", image_id, draw).standard_normal(shape, dtype=np.float32)


def add_noise(scheduler: Any, latents: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> Any:
    """x_t of the forward process, (R, C, H, W), by the backbone's own schedule."""
    return scheduler.add_noise(latents, noise, t)


def target_of(scheduler: Any, latents: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> Any:
    """What the network should predict: the noise, or the velocity under v-prediction."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return scheduler.get_velocity(latents, noise, t)
    raise NotImplementedError(kind)


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
    for a small network takes as long as the network. The others require a gradient where the own
    ones do, although none is kept: matmul chooses its kernel by that, and some CPUs round the
    kernels differently.
    """
    places = [_place(module, name) for name in tensors]
    own = [slots[name] for slots, name in places]
    try:
        for (slots, name), tensor in zip(places, tensors.values(), strict=True):
            slots[name] = tensor.detach().requires_grad_(slots[name].requires_grad)
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
