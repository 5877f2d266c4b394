"""Captioned images to pre-train on, and the three places they come from."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from toolkit.miniworld.scenes import (
    IMAGE_SIZE,
    MENTION,
    VOCABULARY,
    WORDS,
    Prompt,
    draw,
    random_prompt,
    random_scene,
    to_words,
)

_NAME_COLUMNS = ("name", "file", "image", "path")
_CAPTION_COLUMNS = ("prompt", "caption", "text")


@dataclass(frozen=True)
class Captioned:
    """Images (N, 64, 64, 3) uint8 with one caption each, and the words a tokenizer should know."""

    name: str
    images: np.ndarray
    captions: tuple[str, ...]
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.captions):
            raise ValueError(
                f"{self.name}: {len(self.images)} images but {len(self.captions)} captions"
            )
        if not self.captions:
            raise ValueError(f"{self.name} holds no captioned image")


def drawn(
    count: int, seed: int = 0, wrong: float = 0.15, mention: Mapping[str, float] = MENTION
) -> Captioned:
    """Scenes of the mini world with imperfect captions.

    Each mentioned attribute is wrong with probability `wrong`, so that a model trained on the
    captions leaves something to align. Item k is the same whatever the count.
    """
    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    captions = []
    for index in range(count):
        rng = np.random.default_rng([0xCA97, seed, index])
        asked = random_prompt(rng, mention).mentioned
        images[index] = np.asarray(draw(random_scene(rng, **asked)))
        captions.append(to_words(_misremembered(asked, wrong, rng)))
    return Captioned("miniworld", images, tuple(captions), WORDS)


def from_parquet(path: Path) -> Captioned:
    """A Parquet file with the columns `caption` and `png`."""
    table = pq.read_table(path, columns=["caption", "png"])
    captions = tuple(str(caption) for caption in table.column("caption").to_pylist())
    encoded = (io.BytesIO(data) for data in table.column("png").to_pylist())
    images = np.stack([_squared(Image.open(one)) for one in encoded])
    return Captioned(path.stem, images, captions, _words_of(captions))


def from_csv(path: Path, folder: Path) -> Captioned:
    """A CSV file with an image name and a prompt on each line, and the folder of the images."""
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    columns = tuple(rows[0]) if rows else ()
    name = _column(path, columns, _NAME_COLUMNS)
    caption = _column(path, columns, _CAPTION_COLUMNS)
    images = np.stack([_squared(Image.open(folder / row[name])) for row in rows])
    captions = tuple(row[caption] for row in rows)
    return Captioned(path.parent.name, images, captions, _words_of(captions))


def joined(*parts: Captioned) -> Captioned:
    """Several sets as one."""
    if len(parts) == 1:
        return parts[0]
    return Captioned(
        name=" + ".join(part.name for part in parts),
        images=np.concatenate([part.images for part in parts]),
        captions=tuple(caption for part in parts for caption in part.captions),
        words=tuple(word for part in parts for word in part.words),
    )


def _misremembered(asked: Mapping[str, str], wrong: float, rng: np.random.Generator) -> Prompt:
    told = dict(asked)
    for name, value in asked.items():
        others = [word for word in VOCABULARY[name] if word != value]
        slip, other = rng.random() < wrong, str(rng.choice(others))
        if slip:
            told[name] = other
    return Prompt(**told)


def _squared(image: Image.Image) -> np.ndarray:
    """The middle square of an image at 64 x 64 pixels; what is see-through becomes grey."""
    if image.mode in ("RGBA", "LA", "P"):
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, (128, 128, 128, 255))
        image.alpha_composite(layer)
    image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Small pixel art stays crisp when it is enlarged; photographs are averaged down.
    how = Image.Resampling.NEAREST if side <= IMAGE_SIZE else Image.Resampling.LANCZOS
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((IMAGE_SIZE, IMAGE_SIZE), how))


def _words_of(captions: tuple[str, ...]) -> tuple[str, ...]:
    """All words with their repetitions: how often a word occurs decides whether it gets a token."""
    return tuple(word for caption in captions for word in caption.lower().split())


def _column(path: Path, columns: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise ValueError(
        f"{path} has the columns {', '.join(columns) or '(none)'}; one of them must be named "
        f"{' or '.join(wanted)}"
    )
