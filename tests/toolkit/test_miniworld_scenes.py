"""Scenes and prompts are pure functions of their words and seeds."""

import numpy as np
import pytest

from toolkit.miniworld.scenes import (
    ATTRIBUTES,
    HUES,
    MENTION,
    VOCABULARY,
    WORDS,
    Prompt,
    Scene,
    all_scenes,
    draw,
    look,
    parse,
    random_prompt,
    random_scene,
    to_words,
)

SCENE = Scene("cross", "red", "large", "left", "dark", jitter=4)


def test_an_image_is_a_pure_function_of_its_scene() -> None:
    assert draw(SCENE).tobytes() == draw(Scene(**vars(SCENE))).tobytes()
    assert draw(SCENE).size == (64, 64)
    assert draw(SCENE).mode == "RGB"


def test_the_jitter_moves_what_the_words_leave_open_and_no_more() -> None:
    looks = [look(Scene("star", "green", "small", "top", "grey", jitter=k)) for k in range(200)]
    assert len({one.hue for one in looks}) == 200
    assert max(abs(one.hue - HUES["green"]) for one in looks) <= 5.0
    assert max(one.saturation for one in looks) <= 1.0
    assert min(one.saturation for one in looks) >= 0.7


def test_every_combination_of_words_is_one_scene() -> None:
    scenes = all_scenes()
    words = {tuple(getattr(scene, name) for name in ATTRIBUTES) for scene in scenes}
    assert len(scenes) == len(words) == np.prod([len(some) for some in VOCABULARY.values()])


def test_no_shape_is_cut_off_at_the_border() -> None:
    for scene in all_scenes(jitter=2)[::7]:
        pixels = np.asarray(draw(scene)).astype(int)
        away = np.abs(pixels - pixels[0, 0]).max(axis=2)
        rim = np.concatenate([away[0], away[-1], away[:, 0], away[:, -1]])
        assert (rim > 40).sum() <= 3


def test_an_unknown_word_is_refused_with_the_choice() -> None:
    with pytest.raises(ValueError, match="'mauve' is no colour of the mini world; choose one of"):
        Scene("cross", "mauve", "large", "left", "dark")


def test_what_is_asked_for_is_drawn_and_the_rest_varies() -> None:
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng, colour="blue", place="top") for _ in range(100)]
    assert {scene.colour for scene in scenes} == {"blue"}
    assert {scene.place for scene in scenes} == {"top"}
    assert {scene.shape for scene in scenes} == set(VOCABULARY["shape"])


def test_a_prompt_survives_the_way_into_words_and_back() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        prompt = random_prompt(rng, dict.fromkeys(ATTRIBUTES, 0.6))
        assert parse(to_words(prompt)) == prompt


def test_a_sentence_reads_as_a_person_would_write_it() -> None:
    asked = Prompt("cross", "red", "large", "left", "dark")
    assert to_words(asked) == "a large red cross on the left on a dark background"
    assert to_words(Prompt(shape="ring", colour="orange")) == "an orange ring"
    assert parse("Please: a LARGE red   cross, of course") == Prompt("cross", "red", "large")
    assert parse("") == Prompt()


def test_every_word_of_a_prompt_is_in_the_word_list() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        assert set(to_words(random_prompt(rng)).split()) <= set(WORDS)


def test_attributes_are_mentioned_as_often_as_promised() -> None:
    rng = np.random.default_rng(3)
    prompts = [random_prompt(rng) for _ in range(2000)]
    for name, share in MENTION.items():
        found = np.mean([name in prompt.mentioned for prompt in prompts])
        assert found == pytest.approx(share, abs=0.04)
