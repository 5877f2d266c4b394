"""The mini world's scorers: formulas over pixels that need no weights, for tests and the demo.

`world_reward` is exact: the majority's reward, which no scorer of real images can be. The others
err or see a part of it, as real scorers do, and are the ones to vote with.
"""

import math
from collections.abc import Callable, Sequence

from PIL import Image

from toolkit.miniworld.pixel_scorer import Reading, read
from toolkit.miniworld.reward import alignment, best_alignment, reward, vividness, warmth
from toolkit.miniworld.scenes import ATTRIBUTES, Prompt, parse
from toolkit.miniworld.world import STANDARD
from toolkit.scoring.scorer import Batch, Judge, Judged, Scorer, Setup, one_by_one
from toolkit.store.scores import Identity

Formula = Callable[[Prompt, Reading], float]
VERSION = "1"


def _loader(formula: Formula, look: Callable[[Image.Image], Reading]) -> Callable[[Setup], Judge]:
    def judge(batch: Batch) -> Judged:
        pairs = zip(map(parse, batch.prompts), batch.images, strict=True)
        scores = tuple(float(formula(prompt, reading)) for prompt, reading in pairs)
        return Judged(scores, (False,) * len(scores))

    identity = Identity(f"miniworld {VERSION}", None, "attributes read from pixels", "float64")
    return lambda _setup: Judge(identity, look, one_by_one(judge))


def _entry(
    name: str,
    short: str,
    about: str,
    formula: Formula,
    sees_prompt: bool = True,
    look: Callable[[Image.Image], Reading] = read,
) -> Scorer:
    return Scorer(name, f"mini world: {about}", short, _loader(formula, look), sees_prompt)


def _glance(image: Image.Image) -> Reading:
    """What is left of an image seen small: an eye that errs where shapes are alike."""
    small = image.resize((12, 12), Image.Resampling.BILINEAR)
    return read(small.resize(image.size, Image.Resampling.BILINEAR))


def _majority(prompt: Prompt, reading: Reading) -> float:
    return reward(prompt, reading, STANDARD.majority)


PROGRAMMATIC = (
    _entry(
        "world_reward",
        "reward",
        "the majority's exact reward",
        _majority,
    ),
    _entry(
        "world_glance",
        "glance",
        "the same reward, read from the image at 12 pixels: it errs",
        _majority,
        look=_glance,
    ),
    _entry("world_alignment", "align", "how well the prompt was kept to", alignment),
    _entry(
        "world_warmth",
        "warm",
        "warm colours, whatever the prompt",
        lambda _, reading: warmth(reading),
        False,
    ),
    _entry(
        "world_aesthetic",
        "aesth",
        "strong colours, whatever the prompt",
        lambda _, reading: vividness(reading),
        False,
    ),
)


def scores(prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> dict[str, list[float]]:
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
