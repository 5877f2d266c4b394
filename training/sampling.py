"""Images from prompts: the same noise for a prompt and seed, whatever the model or the batch."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image

SAMPLERS: dict[str, str | None] = {
    "own": None,
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
}
"""Name -> diffusers' scheduler; `own` leaves the backbone's."""


class Sample(NamedTuple):
    """One image to be drawn."""

    prompt_index: int
    prompt: str
    seed: int


class Sampling(NamedTuple):
    """How images are drawn."""

    sampler: str = "ddim"
    steps: int = 30
    guidance: float = 7.5
    side: int | None = None
    """Of the images, in pixels; None for the backbone's own."""


def noise_of(prompt: str, seed: int) -> torch.Generator:
    """The generator of all noise in one image, on the host: f(prompt, seed) and nothing else."""
    digest = hashlib.blake2b(f"sample\x1f{seed}\x1f{prompt}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def use_sampler(pipeline: Any, name: str) -> None:
    """Exchange the pipeline's scheduler for `SAMPLERS[name]`, keeping its noise schedule."""
    import diffusers

    kind = SAMPLERS[name]
    if kind is not None:
        config = pipeline.scheduler.config
        pipeline.scheduler = getattr(diffusers, kind).from_config(config)


def draw(
    pipeline: Any, samples: Sequence[Sample], sampling: Sampling, batch: int = 50
) -> Iterator[tuple[list[Sample], list[Image.Image]]]:
    """Draw the samples in batches, each with a noise of its own, as they are finished."""
    pipeline.set_progress_bar_config(disable=True)
    use_sampler(pipeline, sampling.sampler)
    for start in range(0, len(samples), batch):
        some = list(samples[start : start + batch])
        made = pipeline(
            [sample.prompt for sample in some],
            generator=[noise_of(sample.prompt, sample.seed) for sample in some],
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance,
            height=sampling.side,
            width=sampling.side,
        )
        yield some, list(made.images)
