"""Prompts to draw for, and exact scores of what was drawn, read from the pixels."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from toolkit.miniworld.pixel_scorer import read
from toolkit.miniworld.prompts import Prompt, random_prompt
from toolkit.miniworld.reward import alignment, best_alignment, reward
from toolkit.miniworld.scenes import ATTRIBUTES
from toolkit.miniworld.world import STANDARD

Figures = dict[str, list[float]]


def sample_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Prompts as the world makes them; prompt k is the same whatever the count."""
    return [random_prompt(np.random.default_rng([0x5A39, seed, k])) for k in range(count)]


def scores(prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> Figures:
    """Every image's figures under its prompt, (N,) each; larger is better throughout.

    `reward` in the majority's taste, `alignment` as a share of the best possible, `presence` of a
    clear shape, `accuracy`: the share of the prompt's mentions that the image shows.
    """
    shown = mentions_met(prompts, images)
    readings = [read(image) for image in images]
    pairs = list(zip(prompts, readings, strict=True))
    return {
        "reward": [reward(p, r, STANDARD.majority) for p, r in pairs],
        "alignment": [alignment(p, r) / max(best_alignment(p), 1e-9) for p, r in pairs],
        "presence": [r.presence for r in readings],
        "accuracy": [sum(hits.values()) / len(hits) if hits else math.nan for hits in shown],
    }


def mentions_met(prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> list[dict[str, bool]]:
    """For every image, which of its prompt's mentioned attributes it shows."""
    matches = []
    for prompt, image in zip(prompts, images, strict=True):
        seen, asked = read(image), prompt.mentioned
        matches.append({n: seen.best(n) == asked[n] for n in ATTRIBUTES if n in asked})
    return matches
