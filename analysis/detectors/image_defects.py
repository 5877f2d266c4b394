"""Defects of the images: flat ones, the same image twice, one under two prompts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import imagehash
import numpy as np
import pyarrow as pa
from PIL import Image

from analysis.detectors.detector import Computed, Detector, Evidence, Score
from toolkit.image_files import Decoded
from toolkit.schema import column

FLAT = 4.0
"""Spread of an image's colours, 0 to 255, below which it shows nothing."""
NEAR = 4
"""Bits of 64 by which the perceptual hashes of two near-identical images differ at most."""

IMAGE_DEFECTS = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("flat", pa.int32(), "how many of the two images show nothing (0, 1, 2)"),
        column("identical", pa.bool_(), "both are the same bytes"),
        column(
            "distance",
            pa.int32(),
            "bits of 64 by which the perceptual hashes differ; 4 or fewer: near-identical",
        ),
        column("elsewhere", pa.int32(), "other prompts under which one of the two images occurs"),
        column(
            "image_defect",
            pa.float64(),
            "1: a flat image, two identical or near-identical ones, or one under another prompt "
            "too; else 0; null where an image could not be read",
        ),
    ]
)


@dataclass(frozen=True)
class Look:
    """What is kept of an image."""

    content: str
    """sha256 of its bytes."""
    phash: int
    """64-bit perceptual hash."""
    spread: float
    """Standard deviation of its values, 0 to 255, mean of red, green and blue: grey alone would
    call a red shape on an equally bright ground flat."""


def look(decoded: Decoded) -> Look:
    """Hash and spread of a decoded image; the hash by `imagehash.phash`."""
    grey = decoded.image.convert("L")
    bits = imagehash.phash(grey).hash.ravel()
    packed = int.from_bytes(np.packbits(bits).tobytes(), "big")
    colour = decoded.image.convert("RGB")
    small = colour.resize((64, 64), Image.Resampling.BOX) if max(colour.size) > 64 else colour
    spread = np.asarray(small, np.float64).reshape(-1, 3).std(axis=0).mean()
    return Look(decoded.content_hash, packed, float(spread))


def defects(pairs: pa.Table, looks: Mapping[str, Look]) -> pa.Table:
    """Defects of each pair's two images; schema IMAGE_DEFECTS, by pair_id.

    `pairs`: pair_id, prompt, image_0, image_1. `looks`: image_id -> Look; one left out could not
    be read. Images are the same across prompts where their bytes are.
    """
    rows = sorted(pairs.select(["pair_id", "prompt", "image_0", "image_1"]).to_pylist(),
                  key=lambda row: str(row["pair_id"]))  # fmt: skip
    prompts: dict[str, set[str]] = {}
    for row in rows:
        for seen in _looks(row, looks):
            prompts.setdefault(seen.content, set()).add(row["prompt"])
    return pa.Table.from_pylist(
        [_defects(row, looks, prompts) for row in rows], schema=IMAGE_DEFECTS
    )


def _looks(row: Mapping[str, str], looks: Mapping[str, Look]) -> Iterator[Look]:
    for slot in (0, 1):
        if (seen := looks.get(row[f"image_{slot}"])) is not None:
            yield seen


def _defects(
    row: Mapping[str, str], looks: Mapping[str, Look], prompts: Mapping[str, set[str]]
) -> dict[str, object]:
    sides = list(_looks(row, looks))
    if len(sides) < 2:
        return {"pair_id": row["pair_id"]}
    first, second = sides
    flat = int(first.spread < FLAT) + int(second.spread < FLAT)
    distance = (first.phash ^ second.phash).bit_count()
    elsewhere = len(set().union(*(prompts[look.content] for look in sides)) - {row["prompt"]})
    # A flat image has no structure to hash: two of them are alike by chance of the encoder.
    near = distance <= NEAR and not flat
    identical = first.content == second.content
    return {
        "pair_id": row["pair_id"],
        "flat": flat,
        "identical": identical,
        "distance": distance,
        "elsewhere": elsewhere,
        "image_defect": float(flat > 0 or identical or near or elsewhere > 0),
    }


def _image_defects(evidence: Evidence, window: str) -> Computed:  # noqa: ARG001
    assert evidence.looks is not None  # by the need `images`
    return defects(evidence.facts, evidence.looks()).take(pa.array(evidence.digest.visited))


DETECTORS = (
    Detector(
        finding="image_defects",
        compute=_image_defects,
        needs=("images", "prompts"),
        scores=(
            Score(
                name="image_defect",
                column="image_defect",
                direction="high",
                formula="1 where an image is flat, twice in the pair (bytes or perceptual hash), "
                "or under another prompt too",
                assumption="a defect of an image is no error of the label: a flat image may "
                "rightly lose",
                source="perceptual hash: imagehash.phash; thresholds of this project",
            ),
        ),
    ),
)
