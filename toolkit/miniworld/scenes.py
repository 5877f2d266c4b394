"""Scenes of the mini world: a coloured shape on a background, drawn by code.

A `Scene` names five attributes in words and a jitter seed. `look` turns it into the numbers that
are painted, `draw` paints them. Both are pure functions of the scene, so that every image can be
redrawn from its record and its truth is known exactly.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw

IMAGE_SIZE = 64
_SUPERSAMPLING = 4

SHAPES = ("circle", "square", "triangle", "cross", "star", "ring")
HUES: Mapping[str, float] = MappingProxyType(
    {
        "red": 0.0,
        "orange": 28.0,
        "yellow": 54.0,
        "green": 120.0,
        "cyan": 180.0,
        "blue": 228.0,
        "purple": 272.0,
        "pink": 322.0,
    }
)
"""Centre hue of each colour word, in degrees."""
RADII: Mapping[str, float] = MappingProxyType({"small": 9.5, "large": 16.0})
"""Radius of the shape for each size word, in pixels."""
PLACES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "middle": (0.0, 0.0),
        "left": (-12.0, 0.0),
        "right": (12.0, 0.0),
        "top": (0.0, -12.0),
        "bottom": (0.0, 12.0),
    }
)
"""Offset (x, y) of the shape's centre from the image's centre for each place word, in pixels."""
LUMINANCES: Mapping[str, float] = MappingProxyType({"dark": 0.11, "grey": 0.48, "light": 0.9})
"""Grey level of each background word, 0 to 1."""

VOCABULARY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "shape": SHAPES,
        "colour": tuple(HUES),
        "size": tuple(RADII),
        "place": tuple(PLACES),
        "background": tuple(LUMINANCES),
    }
)
ATTRIBUTES = tuple(VOCABULARY)


@dataclass(frozen=True)
class Scene:
    """Five attributes in words and the seed of everything that the words leave open."""

    shape: str
    colour: str
    size: str
    place: str
    background: str
    jitter: int = 0

    def __post_init__(self) -> None:
        for attribute, words in VOCABULARY.items():
            if getattr(self, attribute) not in words:
                raise ValueError(
                    f"{getattr(self, attribute)!r} is no {attribute} of the mini world; "
                    f"choose one of {', '.join(words)}"
                )
        if self.jitter < 0:
            raise ValueError(f"jitter is a seed, 0 or more, not {self.jitter}")


@dataclass(frozen=True)
class Look:
    """What is painted: hue and angle in degrees, lengths in pixels, the rest from 0 to 1."""

    shape: str
    hue: float
    saturation: float
    value: float
    radius: float
    x: float
    y: float
    angle: float
    luminance: float


@lru_cache(maxsize=8192)
def look(scene: Scene) -> Look:
    """The numbers behind a scene: its words' centres, each moved a little by the jitter seed."""
    rng = np.random.default_rng([0x5CE11E, scene.jitter])
    hue, saturation, value, radius, x, y, angle, luminance = rng.uniform(-1.0, 1.0, 8)
    dx, dy = PLACES[scene.place]
    centre = (IMAGE_SIZE - 1) / 2
    return Look(
        shape=scene.shape,
        hue=(HUES[scene.colour] + 5.0 * hue) % 360.0,
        saturation=0.85 + 0.15 * saturation,
        value=0.9 + 0.1 * value,
        radius=RADII[scene.size] * (1.0 + 0.07 * radius),
        x=centre + dx + 1.2 * x,
        y=centre + dy + 1.2 * y,
        angle=10.0 * angle,
        luminance=LUMINANCES[scene.background] + 0.04 * luminance,
    )


def draw(scene: Scene) -> Image.Image:
    """The scene as an RGB image of 64 x 64 pixels with smooth edges."""
    return paint(look(scene))


def paint(what: Look) -> Image.Image:
    """A `Look` as an RGB image of 64 x 64 pixels with smooth edges."""
    grey = round(255 * what.luminance)
    side = IMAGE_SIZE * _SUPERSAMPLING
    image = Image.new("RGB", (side, side), (grey, grey, grey))
    canvas = ImageDraw.Draw(image)
    colour = hsv_to_rgb(what.hue, what.saturation, what.value)
    # Pixel centres of the small image are at half steps of the large one.
    centre = ((what.x + 0.5) * _SUPERSAMPLING, (what.y + 0.5) * _SUPERSAMPLING)
    outline = _OUTLINES[what.shape]()
    canvas.polygon(_placed(outline, centre, what.radius, what.angle), fill=colour)
    if what.shape == "ring":
        hole = _placed(outline, centre, 0.52 * what.radius, what.angle)
        canvas.polygon(hole, fill=(grey, grey, grey))
    return image.reduce(_SUPERSAMPLING)


def hsv_to_rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    """Hue in degrees, saturation and value 0 to 1, as three bytes."""

    def channel(n: float) -> int:
        k = (n + hue / 60.0) % 6.0
        return round(255 * (value - value * saturation * max(0.0, min(k, 4.0 - k, 1.0))))

    return channel(5), channel(3), channel(1)


def all_scenes(jitter: int = 0) -> list[Scene]:
    """Every combination of the vocabulary's words once, each with a jitter seed of its own."""
    combinations = itertools.product(*VOCABULARY.values())
    return [
        Scene(shape, colour, size, place, background, jitter + index)
        for index, (shape, colour, size, place, background) in enumerate(combinations)
    ]


def scene_of(words: Mapping[str, str], jitter: int = 0) -> Scene:
    """The scene with the given word for each attribute."""
    return Scene(
        shape=words["shape"],
        colour=words["colour"],
        size=words["size"],
        place=words["place"],
        background=words["background"],
        jitter=jitter,
    )


def any_word(rng: np.random.Generator, attribute: str) -> str:
    """One of an attribute's words, each as likely as the others."""
    words = VOCABULARY[attribute]
    return words[int(rng.integers(len(words)))]


def random_scene(rng: np.random.Generator, **fixed: str) -> Scene:
    """A scene whose attributes are drawn evenly, save those given by name."""
    words = {name: fixed.get(name) or any_word(rng, name) for name in ATTRIBUTES}
    return scene_of(words, int(rng.integers(2**31)))


def _placed(
    outline: np.ndarray, centre: tuple[float, float], radius: float, angle: float
) -> list[tuple[float, float]]:
    """A unit outline (N, 2) rotated by degrees and scaled to a radius in pixels."""
    turn = math.radians(angle)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    points = outline @ rotation.T * (radius * _SUPERSAMPLING) + np.asarray(centre)
    return [(float(x), float(y)) for x, y in points]


def _regular(corners: int, radius: float, start: float) -> np.ndarray:
    angles = math.radians(start) + 2.0 * math.pi * np.arange(corners) / corners
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


@cache
def _circle() -> np.ndarray:
    return _regular(64, 1.0, 0.0)


@cache
def _square() -> np.ndarray:
    return _regular(4, 0.88 * math.sqrt(2.0), 45.0)


@cache
def _triangle() -> np.ndarray:
    return _regular(3, 1.15, -90.0)


@cache
def _cross() -> np.ndarray:
    arm, width = 1.05, 0.34
    corner = np.array([[width, -arm], [width, -width], [arm, -width]])
    turns = [np.array([[0, -1], [1, 0]]), np.array([[-1, 0], [0, -1]]), np.array([[0, 1], [-1, 0]])]
    return np.concatenate([corner, *(corner @ turn.T for turn in turns)])


@cache
def _star() -> np.ndarray:
    outer, inner = _regular(5, 1.15, -90.0), _regular(5, 0.46, -54.0)
    return np.stack([outer, inner], axis=1).reshape(10, 2)


_OUTLINES: Mapping[str, Callable[[], np.ndarray]] = MappingProxyType(
    {
        "circle": _circle,
        "square": _square,
        "triangle": _triangle,
        "cross": _cross,
        "star": _star,
        "ring": _circle,
    }
)


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
    asked: dict[str, str] = {}
    for word in re.findall(r"[a-z]+", text.lower()):
        for attribute, words in VOCABULARY.items():
            if word in words:
                asked.setdefault(attribute, word)
    return Prompt(**asked)


def random_prompt(rng: np.random.Generator, mention: Mapping[str, float] = MENTION) -> Prompt:
    """A prompt that mentions each attribute with the given probability, its value drawn evenly."""
    words: dict[str, str] = {}
    for name in ATTRIBUTES:
        spoken = rng.random() < mention.get(name, 0.0)
        value = any_word(rng, name)
        if spoken:
            words[name] = value
    return Prompt(**words)


def sample_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Prompts as the world makes them; prompt k is the same whatever the count."""
    return [random_prompt(np.random.default_rng([0x5A39, seed, k])) for k in range(count)]
