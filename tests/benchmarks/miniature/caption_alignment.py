"""How well a miniature follows captions: how often the true caption has the smaller error.

python -m tests.benchmarks.miniature.caption_alignment miniature:sd
"""

import sys

import torch

from tests.benchmarks.miniature import caption_data as captioned
from tests.benchmarks.miniature.vae import to_pixels
from training.models import (
    Models,
    condition_of,
    encode_images,
    encode_prompts,
    load_models,
    sample_latents,
)

TIMESTEPS = (100, 300, 500, 700, 900)


@torch.no_grad()
def caption_wins(models: Models, count: int = 256, seed: int = 77) -> list[float]:
    """Share of `count` new scenes, one draw each, on which the scene's own caption beats the next
    scene's, at each of `TIMESTEPS`; .5 is a model that ignores captions."""
    scenes = captioned.drawn(count, seed, wrong=0.0)
    posterior = encode_images(models, to_pixels(scenes.images))
    states, pooled = encode_prompts(models, scenes.captions)
    side = scenes.images.shape[1]
    time_ids = torch.tensor([[side, side, 0, 0, side, side]]).repeat(count, 1)
    rng = torch.Generator().manual_seed(0)
    shares = []
    for step in TIMESTEPS:
        shape = (count, posterior.shape[1] // 2, *posterior.shape[2:])
        latents = sample_latents(models, posterior, torch.randn(shape, generator=rng))
        noise, t = torch.randn(shape, generator=rng), torch.full((count,), step)
        noisy = models.scheduler.add_noise(latents, noise, t)
        errors = []
        for shift in (0, 1):
            other = None if pooled is None else pooled.roll(shift, 0)
            condition = condition_of(states.roll(shift, 0), other, time_ids)
            predicted = models.unet(noisy, t, **condition.arguments()).sample
            errors.append((predicted - noise).square().flatten(1).mean(1))
        shares.append(float((errors[0] < errors[1]).float().mean()))
    return shares


if __name__ == "__main__":
    for step, share in zip(TIMESTEPS, caption_wins(load_models(sys.argv[1])), strict=True):
        print(f"t {step}: {share:.2f}")
