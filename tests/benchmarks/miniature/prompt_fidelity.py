"""How well a pipeline follows prompts of the mini world: samples, scored exactly from pixels.

python -m tests.benchmarks.miniature.prompt_fidelity DIR --grid samples.png
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from toolkit.miniworld.scenes import ATTRIBUTES, Prompt, sample_prompts, to_words
from toolkit.scoring.miniworld_scorers import mentions_met, scores
from training.sampling import Sample, Sampling, draw


def draw_samples(
    pipeline: Any,
    prompts: Sequence[Prompt],
    seed: int = 0,
    steps: int = 25,
    guidance: float = 3.0,
    batch: int = 50,
) -> list[Image.Image]:
    """One image a prompt by the pipeline's own sampler; batches do not matter."""
    samples = [Sample(k, to_words(prompt), seed) for k, prompt in enumerate(prompts)]
    made = draw(pipeline, samples, Sampling("own", steps, guidance), batch)
    return [image for _, images in made for image in images]


def score(prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> dict[str, float]:
    """Mean figures of images under their prompts, all read from the pixels.

    Those of `miniworld_scorers.scores`, `accuracy` over all mentions rather than by image,
    and for each attribute the share of its mentions that the image shows.
    """
    figures = {name: float(np.mean(values)) for name, values in scores(prompts, images).items()}
    every = mentions_met(prompts, images)
    met = {name: [hits[name] for hits in every if name in hits] for name in ATTRIBUTES}
    figures |= {f"accuracy_{name}": float(np.mean(hits)) for name, hits in met.items() if hits}
    figures["accuracy"] = float(np.mean([hit for hits in met.values() for hit in hits]))
    return figures


def grid(images: Sequence[Image.Image], columns: int = 10) -> Image.Image:
    """Images side by side, for the eye."""
    side = images[0].width + 2
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * side, rows * side), "white")
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * side, index // columns * side))
    return sheet


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.miniature.prompt_fidelity")
    parser.add_argument("folder", type=Path, help="a saved pipeline")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--grid", type=Path, help="write the samples as one picture")
    asked = parser.parse_args(arguments)
    pipeline = DiffusionPipeline.from_pretrained(asked.folder, torch_dtype=torch.float32)
    prompts = sample_prompts(asked.count, asked.seed)
    images = draw_samples(pipeline, prompts, asked.seed, asked.steps, asked.guidance)
    if asked.grid is not None:
        grid(images).save(asked.grid)
    for name, figure in score(prompts, images).items():
        print(f"{name:20} {figure:.3f}")


if __name__ == "__main__":
    main()
