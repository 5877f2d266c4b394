"""Reads the attributes back from the pixels of any image: the exact scorer of the mini world.

The background is what the border shows, the shape is what differs from it. The shape's outline is
brought to a standard place and size and compared with drawings of every shape; its hue, spread and
centre give the other attributes. Each answer is graded, so that a blurred or half-formed image gets
part of the credit, and an image without any shape gets none: nothing here raises on garbage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
from PIL import Image

from toolkit.miniworld.scenes import (
    ATTRIBUTES,
    HUES,
    IMAGE_SIZE,
    LUMINANCES,
    PLACES,
    RADII,
    SHAPES,
    VOCABULARY,
    Look,
    Scene,
    paint,
    scene_of,
)

_GRID = 24
_REACH = 2.2  # how far the standard square reaches from the centre, in root-mean-square radii
_ANGLES = (-9.0, -4.5, 0.0, 4.5, 9.0)


@dataclass(frozen=True)
class Reading:
    """What an image shows: for each attribute the share of belief in each of its words.

    The shares of an attribute sum to `presence` (to 1 for the background): 1 where a clear shape
    was found, 0 where there is none. `hue` (degrees), `saturation`, `radius`, `x`, `y` (pixels) and
    `luminance` are the measured numbers, NaN where there is nothing to measure.
    """

    belief: Mapping[str, Mapping[str, float]]
    presence: float
    hue: float
    saturation: float
    radius: float
    x: float
    y: float
    luminance: float

    def best(self, attribute: str) -> str | None:
        """The likeliest word, None where the image shows no shape."""
        shares = self.belief[attribute]
        word = max(shares, key=lambda key: shares[key])
        return word if shares[word] > 0.0 else None

    def scene(self) -> Scene | None:
        """The likeliest scene, None where the image shows no shape."""
        words = {name: word for name in ATTRIBUTES if (word := self.best(name)) is not None}
        return scene_of(words) if len(words) == len(ATTRIBUTES) else None


def read(image: Image.Image | np.ndarray) -> Reading:
    """Read an image, or an array (H, W, 3) of bytes. Other sizes are resized to 64 x 64."""
    pixels = _as_pixels(image)
    ground, calm = _ground(pixels)
    mask = _differs(pixels, ground)
    luminance = float(ground @ np.array([0.299, 0.587, 0.114]))
    backgrounds = _near(luminance, LUMINANCES, 0.08)
    area = float(mask.sum())
    if area < 12.0:
        return _nothing(backgrounds, luminance)
    y, x, spread = _moments(mask)
    shares, closeness = _shape(mask, y, x, spread)
    presence = calm * _ramp(closeness, 0.4, 0.7)
    radius = spread * sum(share * _outer_ratio()[name] for name, share in shares.items())
    # Parts that hardly cover their best template are a shape, but no particular one.
    likeness = _ramp(closeness, 0.65, 0.88)
    hue, saturation = _hue(pixels, mask)
    middle = (IMAGE_SIZE - 1) / 2
    belief = {
        "shape": {name: likeness * share for name, share in shares.items()},
        "colour": _near_hue(hue, saturation),
        "size": _near(radius, RADII, 2.0),
        "place": _near_place(x - middle, y - middle),
    }
    graded = {
        name: MappingProxyType({word: presence * share for word, share in words.items()})
        for name, words in belief.items()
    }
    graded["background"] = MappingProxyType(backgrounds)
    return Reading(MappingProxyType(graded), presence, hue, saturation, radius, x, y, luminance)


def _as_pixels(image: Image.Image | np.ndarray) -> np.ndarray:
    """(64, 64, 3) float from 0 to 1."""
    decoded = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    decoded = decoded.convert("RGB")
    if decoded.size != (IMAGE_SIZE, IMAGE_SIZE):
        decoded = decoded.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
    return np.asarray(decoded, dtype=np.float64) / 255.0


def _ground(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """The background's colour (3,) and how calm it is: 1 for an even border, 0 for noise."""
    inner = np.zeros(pixels.shape[:2], dtype=bool)
    inner[2:-2, 2:-2] = True
    border = pixels[~inner]
    ground = np.median(border, axis=0)
    unrest = float(np.median(np.abs(border - ground).max(axis=1)))
    return ground, 1.0 - _ramp(unrest, 0.06, 0.2)


def _differs(pixels: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """How much of each pixel belongs to the shape, 0 to 1, (64, 64).

    The scale is set by the image itself: a strong pixel of the shape counts 1, half its distance
    from the background .5, so that smooth edges keep their area. What is fainter than a tenth of
    the full range is never a shape.
    """
    distance = np.sqrt(((pixels - ground) ** 2).sum(axis=2))
    strong = float(np.quantile(distance, 0.97))
    if strong < 0.15:
        return np.zeros_like(distance)
    return np.asarray(np.clip((distance / strong - 0.2) / 0.6, 0.0, 1.0))


def _moments(mask: np.ndarray) -> tuple[float, float, float]:
    """Centre (y, x) and root-mean-square radius of a mask, in pixels."""
    rows, columns = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]]
    area = mask.sum()
    y, x = (mask * rows).sum() / area, (mask * columns).sum() / area
    square = (mask * ((rows - y) ** 2 + (columns - x) ** 2)).sum() / area
    return float(y), float(x), float(np.sqrt(square))


def _standard(mask: np.ndarray, y: float, x: float, spread: float) -> np.ndarray:
    """The mask sampled on a square around its centre that scales with its spread, flattened."""
    steps = np.linspace(-_REACH, _REACH, _GRID) * spread
    rows, columns = np.meshgrid(y + steps, x + steps, indexing="ij")
    return _sample(mask, rows, columns).ravel()


def _sample(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear lookup; beyond the image the mask is 0."""
    padded = np.pad(mask, 1)
    rows = np.clip(rows + 1.0, 0.0, padded.shape[0] - 1.001)
    columns = np.clip(columns + 1.0, 0.0, padded.shape[1] - 1.001)
    top, left = rows.astype(int), columns.astype(int)
    down, along = rows - top, columns - left
    upper = padded[top, left] * (1 - along) + padded[top, left + 1] * along
    lower = padded[top + 1, left] * (1 - along) + padded[top + 1, left + 1] * along
    return np.asarray(upper * (1 - down) + lower * down)


@cache
def _templates() -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Standard masks (T, G*G), the shape each belongs to (T,), and outer by mean-square radius."""
    masks, owners, ratios = [], [], {}
    for index, shape in enumerate(SHAPES):
        for size in RADII.values():
            for angle in _ANGLES:
                pixels = np.asarray(paint(_plain(shape, size, angle)), dtype=np.float64) / 255.0
                mask = _differs(pixels, pixels[0, 0])
                y, x, spread = _moments(mask)
                masks.append(_standard(mask, y, x, spread))
                owners.append(index)
                ratios[shape] = size / spread
    return np.stack(masks), np.asarray(owners), ratios


def _plain(shape: str, radius: float, angle: float) -> Look:
    middle = (IMAGE_SIZE - 1) / 2
    return Look(shape, 0.0, 1.0, 1.0, radius, middle, middle, angle, 0.1)


def _outer_ratio() -> dict[str, float]:
    return _templates()[2]


def _shape(mask: np.ndarray, y: float, x: float, spread: float) -> tuple[dict[str, float], float]:
    """Share of belief in each shape, and how well the best one covers the mask (0 to 1)."""
    masks, owners, _ = _templates()
    seen = _standard(mask, y, x, spread)
    both = np.minimum(masks, seen).sum(axis=1)
    either = np.maximum(masks, seen).sum(axis=1)
    overlap = both / np.maximum(either, 1e-9)
    best = np.array([overlap[owners == index].max() for index in range(len(SHAPES))])
    # What is outside the standard square (specks elsewhere) counts against the shape too.
    inside = seen.sum() * (2 * _REACH * spread / (_GRID - 1)) ** 2 / max(float(mask.sum()), 1e-9)
    shares = _shares(best / 0.03)
    closeness = float(best.max() * min(inside, 1.0))
    return dict(zip(SHAPES, shares, strict=True)), closeness


def _hue(pixels: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Hue in degrees and saturation of the median colour of the shape's inner pixels."""
    red, green, blue = np.median(pixels[mask >= 0.95 * mask.max()], axis=0)
    high, low = max(red, green, blue), min(red, green, blue)
    hue = np.degrees(np.arctan2(np.sqrt(3.0) * (green - blue), 2.0 * red - green - blue))
    return float(hue % 360.0), float((high - low) / max(high, 1e-9))


def _near_hue(hue: float, saturation: float) -> dict[str, float]:
    """Belief in each colour word; a grey thing has none of them."""
    away = np.array([abs((hue - centre + 180.0) % 360.0 - 180.0) for centre in HUES.values()])
    coloured = _ramp(saturation, 0.15, 0.45) * float(np.exp(-0.5 * (away.min() / 25.0) ** 2))
    shares = (coloured * share for share in _shares(-0.5 * (away / 6.0) ** 2))
    return dict(zip(HUES, shares, strict=True))


def _near_place(x: float, y: float) -> dict[str, float]:
    away = np.array([(x - dx) ** 2 + (y - dy) ** 2 for dx, dy in PLACES.values()])
    return dict(zip(PLACES, _shares(-0.5 * away / 2.5**2), strict=True))


def _near(value: float, centres: Mapping[str, float], width: float) -> dict[str, float]:
    away = np.array([abs(value - centre) for centre in centres.values()])
    return dict(zip(centres, _shares(-0.5 * (away / width) ** 2), strict=True))


def _shares(logits: np.ndarray) -> list[float]:
    """Softmax."""
    weights = np.exp(logits - logits.max())
    return [float(weight) for weight in weights / weights.sum()]


def _ramp(value: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, straight between."""
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def _nothing(backgrounds: dict[str, float], luminance: float) -> Reading:
    nan = float("nan")
    belief = {
        name: MappingProxyType(dict.fromkeys(VOCABULARY[name], 0.0))
        for name in ATTRIBUTES
        if name != "background"
    }
    belief["background"] = MappingProxyType(backgrounds)
    return Reading(MappingProxyType(belief), 0.0, nan, nan, nan, nan, nan, luminance)
