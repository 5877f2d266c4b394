"""Words on the desk are readable: WCAG 2.2's contrast, computed from the colours."""

import re
import tomllib
from pathlib import Path

import pytest

from toolkit.colors import Ground, accent, ink

THEME = Path(__file__).parents[2] / "app" / "desk" / "theme.toml"
SIDES: tuple[Ground, ...] = ("light", "dark")
QUIET = 0.68
"""Opacity of words of the second rank, as style.css has it."""


def channels(colour: str) -> list[float]:
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def luminance(colour: list[float]) -> float:
    """WCAG 2.2, relative luminance of an sRGB colour."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: list[float], other: list[float]) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def grounds(side: Ground) -> list[list[float]]:
    theme = tomllib.loads(THEME.read_text(encoding="utf-8"))["theme"][side]
    return [channels(theme["backgroundColor"]), channels(theme["sidebar"]["backgroundColor"])]


def test_the_formula_knows_black_on_white_and_a_grey_at_the_bound() -> None:
    assert contrast(channels("#000000"), channels("#FFFFFF")) == pytest.approx(21)
    assert contrast(channels("#767676"), channels("#FFFFFF")) == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("side", SIDES)
def test_words_of_both_ranks_and_the_accent_pass_aa(side: Ground) -> None:
    for ground in grounds(side):
        words = channels(ink(side))
        quiet = [QUIET * word + (1 - QUIET) * under for word, under in zip(words, ground)]  # noqa: B905
        assert contrast(words, ground) >= 7
        assert contrast(quiet, ground) >= 4.5
        assert contrast(channels(accent(side)), ground) >= 4.5


@pytest.mark.parametrize("side", SIDES)
def test_the_theme_and_the_palette_are_one(side: Ground) -> None:
    theme = tomllib.loads(THEME.read_text(encoding="utf-8"))["theme"][side]
    assert theme["textColor"] == ink(side)
    assert theme["primaryColor"] == accent(side)


def test_style_sheet_has_no_fainter_words_than_those_that_were_computed() -> None:
    css = (THEME.parent / "style.css").read_text(encoding="utf-8")
    found = [float(value) for value in re.findall(r"opacity: (0\.\d+)", css)]
    assert found
    assert min(found) == QUIET
