"""The reward keeps to the prompt first, then to taste, on scenes and on readings alike."""

import dataclasses

import numpy as np
import pytest

from toolkit.miniworld.pixel_scorer import read
from toolkit.miniworld.reward import (
    alignment,
    best_alignment,
    likeness,
    matches,
    reward,
    vividness,
    warmth,
)
from toolkit.miniworld.scenes import (
    HUES,
    VOCABULARY,
    Prompt,
    Scene,
    all_scenes,
    draw,
    random_prompt,
)
from toolkit.miniworld.world import STANDARD

PROMPT = Prompt("cross", "red", "large", "left", "dark")
SCENE = Scene("cross", "red", "large", "left", "dark")


def test_a_perfect_image_has_the_best_alignment() -> None:
    assert alignment(PROMPT, SCENE) == best_alignment(PROMPT) == pytest.approx(6.1)


@pytest.mark.parametrize("name", VOCABULARY)
def test_a_miss_costs_and_only_where_it_is_mentioned(name: str) -> None:
    asked = getattr(PROMPT, name)
    for other in VOCABULARY[name]:
        missed = dataclasses.replace(SCENE, **{name: other})
        silent = dataclasses.replace(PROMPT, **{name: None})
        assert (alignment(PROMPT, missed) < best_alignment(PROMPT)) == (other != asked)
        assert alignment(silent, missed) == best_alignment(silent)


def test_a_near_miss_costs_less() -> None:
    assert likeness("colour", "red", "orange") > likeness("colour", "red", "yellow") > 0.0
    assert likeness("colour", "red", "cyan") == 0.0
    assert likeness("place", "left", "middle") > likeness("place", "left", "right") == 0.0
    assert likeness("shape", "circle", "ring") == 0.0


def test_likeness_is_the_same_both_ways() -> None:
    for name, words in VOCABULARY.items():
        for one in words:
            assert all(likeness(name, one, two) == likeness(name, two, one) for two in words)


def test_warm_and_cool_fall_on_either_side() -> None:
    signs = {hue: warmth(dataclasses.replace(SCENE, colour=hue)) for hue in HUES}
    assert min(signs[hue] for hue in ("red", "orange", "yellow", "pink")) > 0.4
    assert max(signs[hue] for hue in ("green", "cyan", "blue", "purple")) < 0.0


def test_the_minority_prefers_cool_colours_even_against_a_mentioned_one() -> None:
    warm, cool = SCENE, dataclasses.replace(SCENE, colour="blue")
    assert reward(PROMPT, warm, STANDARD.majority) > reward(PROMPT, cool, STANDARD.majority)
    assert reward(PROMPT, warm, STANDARD.minority) < reward(PROMPT, cool, STANDARD.minority)


def test_the_reward_of_a_drawing_is_the_reward_of_its_scene() -> None:
    rng = np.random.default_rng(0)
    for scene in all_scenes(jitter=8)[::29]:
        prompt = random_prompt(rng)
        truth = reward(prompt, scene, STANDARD.majority)
        assert reward(prompt, read(draw(scene)), STANDARD.majority) == pytest.approx(truth, abs=0.3)


def test_an_image_without_a_shape_keeps_to_no_prompt() -> None:
    nothing = read(np.full((64, 64, 3), 30, dtype=np.uint8))
    assert matches(PROMPT, nothing) == pytest.approx(
        {"shape": 0.0, "colour": 0.0, "size": 0.0, "place": 0.0, "background": 1.0}, abs=1e-3
    )
    assert warmth(nothing) == 0.0
    assert vividness(nothing) == -1.0
