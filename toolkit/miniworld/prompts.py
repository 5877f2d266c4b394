"""Prompts of the mini world: which attributes are mentioned, in words and back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from toolkit.miniworld.scenes import ATTRIBUTES, VOCABULARY, any_word

_PLACE_PHRASES: Mapping[str, str] = MappingProxyType(
    {
        "middle": "in the middle",
        "left": "on the left",
        "right": "on the right",
        "top": "at the top",
        "bottom": "at the bottom",
    }
)
_FILLERS = ("a", "an", "on", "in", "at", "the", "background", "shape")
WORDS = (*_FILLERS, *(word for words in VOCABULARY.values() for word in words))
"""Every word that a prompt of the mini world can hold, for building a tokenizer."""
MENTION: Mapping[str, float] = MappingProxyType(
    {"shape": 1.0, "colour": 0.75, "size": 0.5, "place": 0.5, "background": 0.5}
)
"""How often a prompt of the mini world mentions each attribute."""


@dataclass(frozen=True)
class Prompt:
    """What a prompt asks for, attribute by attribute; None where it is not mentioned."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    place: str | None = None
    background: str | None = None

    @property
    def mentioned(self) -> dict[str, str]:
        """The attributes that the prompt speaks of, in the vocabulary's order."""
        values = {name: getattr(self, name) for name in ATTRIBUTES}
        return {name: value for name, value in values.items() if value is not None}


def to_words(prompt: Prompt) -> str:
    """The prompt as a sentence: "a large red cross on the left on a dark background"."""
    head = [prompt.size, prompt.colour, prompt.shape or "shape"]
    words = [word for word in head if word is not None]
    article = "an" if words[0][0] in "aeiou" else "a"
    tail = []
    if prompt.place is not None:
        tail.append(_PLACE_PHRASES[prompt.place])
    if prompt.background is not None:
        tail.append(f"on a {prompt.background} background")
    return " ".join([article, *words, *tail])


def parse(text: str) -> Prompt:
    """The attributes that a sentence mentions; words the world does not know are passed over."""
    found: dict[str, str] = {}
    for word in re.findall(r"[a-z]+", text.lower()):
        for attribute, words in VOCABULARY.items():
            if word in words:
                found.setdefault(attribute, word)
    return Prompt(**found)


def random_prompt(rng: np.random.Generator, mention: Mapping[str, float] = MENTION) -> Prompt:
    """A prompt that mentions each attribute with the given probability, its value drawn evenly."""
    found: dict[str, str] = {}
    for name in ATTRIBUTES:
        spoken = rng.random() < mention.get(name, 0.0)
        value = any_word(rng, name)
        if spoken:
            found[name] = value
    return Prompt(**found)
