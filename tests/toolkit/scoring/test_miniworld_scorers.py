import math

import numpy as np
import pytest
from PIL import Image

from toolkit.miniworld.scenes import Prompt, Scene, draw, sample_prompts
from toolkit.scoring.miniworld_scorers import mentions_met, scores


def shown(prompt: Prompt) -> Image.Image:
    rest = {"shape": "circle", "colour": "red", "size": "large", "place": "middle"}
    return draw(Scene(**{**rest, "background": "light", **prompt.mentioned}))


def test_a_scene_that_keeps_to_its_prompt_meets_every_mention() -> None:
    prompts = sample_prompts(20)
    images = [shown(prompt) for prompt in prompts]
    figures = scores(prompts, images)
    assert np.mean(figures["accuracy"]) > 0.95
    assert np.mean(figures["alignment"]) > 0.9
    assert min(figures["presence"]) > 0.9
    shuffled = scores(prompts, images[::-1])
    for name in ("reward", "alignment", "accuracy"):
        assert np.mean(shuffled[name]) < np.mean(figures[name]) - 0.2, name


def test_a_blank_image_shows_nothing() -> None:
    blank = Image.new("RGB", (64, 64), "white")
    prompt = Prompt(shape="star", colour="red")
    figures = scores([prompt], [blank])
    assert figures["alignment"] == [0.0]
    assert figures["accuracy"] == [0.0]
    assert mentions_met([prompt], [blank]) == [{"shape": False, "colour": False}]


def test_a_prompt_that_mentions_nothing_has_no_accuracy() -> None:
    assert math.isnan(scores([Prompt()], [shown(Prompt())])["accuracy"][0])


def test_prompt_k_is_the_same_whatever_the_count() -> None:
    assert sample_prompts(9)[:4] == sample_prompts(4)
    assert sample_prompts(9, seed=1) != sample_prompts(9)
    assert len({prompt.shape for prompt in sample_prompts(50)} - {None}) > 1


@pytest.mark.parametrize("size", [16, 64, 100])
def test_images_of_any_size_are_scored(size: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    figures = scores([Prompt(shape="star")], [Image.fromarray(noise)])
    assert all(np.isfinite(values).all() for values in figures.values())
