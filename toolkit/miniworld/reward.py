"""The exact reward of the mini world: how well an image keeps to its prompt, plus a taste.

The same formula scores a `Scene`, whose attributes are known, and a `Reading`, whose attributes
were recovered from pixels with graded belief.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from toolkit.miniworld.pixel_scorer import Reading
from toolkit.miniworld.scenes import ATTRIBUTES, HUES, Prompt, Scene, look

Shown = Scene | Reading

WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"shape": 2.0, "colour": 1.5, "size": 0.8, "place": 0.8, "background": 1.0}
)
"""What keeping to each mentioned attribute is worth, in units of reward."""


@dataclass(frozen=True)
class Taste:
    """What a group of annotators likes beyond the prompt, in units of reward.

    `alignment` multiplies the prompt's part, `warmth` is gained by the warmest hue and lost by the
    coolest, `vividness` gained by the strongest saturation of a scene and lost by the weakest.
    """

    alignment: float
    warmth: float
    vividness: float


def reward(prompt: Prompt, shown: Shown, taste: Taste) -> float:
    """Reward of an image under a prompt for annotators of a taste."""
    aligned = taste.alignment * alignment(prompt, shown)
    return aligned + taste.warmth * warmth(shown) + taste.vividness * vividness(shown)


def alignment(prompt: Prompt, shown: Shown) -> float:
    """Weighted sum of the matches, from 0 to `best_alignment` of the prompt."""
    return sum(WEIGHTS[name] * match for name, match in matches(prompt, shown).items())


def best_alignment(prompt: Prompt) -> float:
    """The alignment of an image that shows everything the prompt mentions."""
    return sum(WEIGHTS[name] for name in prompt.mentioned)


def matches(prompt: Prompt, shown: Shown) -> dict[str, float]:
    """How well each mentioned attribute was met, from 0 to 1; near misses get a part."""
    belief = _belief(shown)
    return {
        name: sum(share * likeness(name, asked, word) for word, share in belief[name].items())
        for name, asked in prompt.mentioned.items()
    }


def likeness(attribute: str, asked: str, word: str) -> float:
    """How far one word of an attribute satisfies another, from 0 to 1."""
    if asked == word:
        return 1.0
    if attribute == "colour":
        away = abs((HUES[asked] - HUES[word] + 180.0) % 360.0 - 180.0)
        return max(0.0, 1.0 - away / 60.0)
    return _NEAR_MISSES.get((attribute, frozenset((asked, word))), 0.0)


_NEAR_MISSES: Mapping[tuple[str, frozenset[str]], float] = MappingProxyType(
    {
        ("background", frozenset(("dark", "grey"))): 0.3,
        ("background", frozenset(("grey", "light"))): 0.3,
        **{
            ("place", frozenset(("middle", side))): 0.3
            for side in ("left", "right", "top", "bottom")
        },
    }
)


def warmth(shown: Shown) -> float:
    """1 for the warmest hue (between red and orange), -1 for the coolest, 0 without a colour."""
    hue, presence = (
        (shown.hue, shown.presence) if isinstance(shown, Reading) else (look(shown).hue, 1.0)
    )
    return 0.0 if presence == 0.0 else presence * math.cos(math.radians(hue - 20.0))


def vividness(shown: Shown) -> float:
    """Saturation on the scale of the drawn scenes: from -1 (weakest) to 1 (strongest)."""
    saturation, presence = (
        (shown.saturation, shown.presence)
        if isinstance(shown, Reading)
        else (look(shown).saturation, 1.0)
    )
    if presence == 0.0:
        return -1.0
    scaled = max(-1.0, min(1.0, (saturation - 0.85) / 0.15))
    return presence * (scaled + 1.0) - 1.0


def _belief(shown: Shown) -> Mapping[str, Mapping[str, float]]:
    if isinstance(shown, Reading):
        return shown.belief
    return {name: {getattr(shown, name): 1.0} for name in ATTRIBUTES}
