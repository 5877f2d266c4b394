"""Colours that every figure and the desk share: Okabe and Ito's set, safe for colour blindness.

Source: Okabe and Ito, "Color Universal Design" (2008). Each meaning has one colour, so that a
reader who learnt it on one screen knows it on the next; no meaning is carried by colour alone.
"""

from typing import Literal

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"

OKABE_ITO = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW, BLACK)
"""In the order in which series take them."""

VERDICT_COLOURS = {
    "keep": GREEN,
    "flip": ORANGE,
    "tie": SKY,
    "drop": VERMILION,
    "unsure": PURPLE,
}

Ground = Literal["light", "dark"]


def accent(ground: Ground) -> str:
    """The colour of what is chosen, pressed or selected; readable on its background."""
    return SKY if ground == "dark" else BLUE


def muted(ground: Ground) -> str:
    """Bars, lines and words of the second rank."""
    return "#7F8894" if ground == "dark" else "#8A929C"


def hairline(ground: Ground) -> str:
    """Axes and rules."""
    return "#3A424D" if ground == "dark" else "#D8DADD"


def ink(ground: Ground) -> str:
    """Words."""
    return "#E4E6E9" if ground == "dark" else "#1F2328"
