"""All randomness of a visit, keyed by what it belongs to and never by when it is drawn.

Timestep and noise = f(seed, pair, draw); the VAE's sample = f(seed, image, draw). So ranks differ,
a resumed run repeats itself, and two runs can be compared pair by pair. Drawn with numpy's Philox
on the host: the same bits on every device.
"""

import hashlib
from typing import Any

import numpy as np
import torch


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """A counter-based generator for one (seed, key)."""
    text = "\x1f".join(map(str, (seed, *key))).encode()
    digest = hashlib.blake2b(text, digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, np.uint64)))


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
