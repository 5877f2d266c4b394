"""Synthetic rows in Pick-a-Pic's schema, as many as asked for, the same for the same seed."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.toolkit.pickapic_source import SCHEMA

CHUNK = 50_000
PER_PROMPT = 20
MODELS = ("alpha", "beta", "gamma")


def write_rows(folder: Path, count: int, *, seed: int = 0) -> None:
    """`count` rows without images, 50,000 a file; 12 % ties, 20 rows a prompt, 6,000 users."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    schema = pa.schema([field for field in SCHEMA if not field.name.startswith("jpg")])
    for n, start in enumerate(range(0, count, CHUNK)):
        columns = _columns(rng, start, min(CHUNK, count - start))
        table = pa.table({name: columns[name] for name in schema.names}).cast(schema)
        pq.write_table(table, folder / f"train-{n:05d}.parquet", row_group_size=10_000)


def write_pictures(
    folder: Path,
    count: int,
    *,
    side: int = 256,
    seed: int = 0,
    per_file: int = 1000,
    row_group: int = 100,
    ties: bool = True,
) -> None:
    """`count` rows with two JPEGs each (every image different)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for n, start in enumerate(range(0, count, per_file)):
        size = min(per_file, count - start)
        columns = _columns(rng, start, size, ties=ties)
        for slot in (0, 1):
            pictures = [_jpeg(rng, side) for _ in range(size)]
            columns[f"jpg_{slot}"] = pa.array(pictures, pa.binary())
        table = pa.table({name: columns[name] for name in SCHEMA.names}).cast(SCHEMA)
        pq.write_table(table, folder / f"train-{n:05d}.parquet", row_group_size=row_group)


def _columns(
    rng: np.random.Generator, start: int, size: int, *, ties: bool = True
) -> dict[str, pa.Array]:
    place = np.arange(start, start + size)
    label = rng.choice([1.0, 0.0, 0.5], size, p=[0.44, 0.44, 0.12] if ties else [0.5, 0.5, 0])
    uids = [[f"{k:08x}-{slot}cb5-4d1c-9f6e-{k:012x}" for k in place] for slot in (0, 1)]
    best = [
        {1.0: one, 0.0: two}.get(value, "tie") for one, two, value in zip(*uids, label, strict=True)
    ]
    words = "a quiet harbour at dawn, oil on canvas, wide angle, number {}"
    return {
        "are_different": pa.array(np.ones(size, bool)),
        "best_image_uid": pa.array(best),
        "caption": pa.array([words.format(k // PER_PROMPT) for k in place]),
        "created_at": pa.array(1_680_000_000_000_000_000 + place * 1_000_000_000).cast(
            pa.timestamp("ns")
        ),
        "has_label": pa.array(np.ones(size, bool)),
        "image_0_uid": pa.array(uids[0]),
        "image_0_url": pa.array([f"https://images.example/{uid}.png" for uid in uids[0]]),
        "image_1_uid": pa.array(uids[1]),
        "image_1_url": pa.array([f"https://images.example/{uid}.png" for uid in uids[1]]),
        "label_0": pa.array(label),
        "label_1": pa.array(1 - label),
        "model_0": pa.array(rng.choice(MODELS, size)),
        "model_1": pa.array(rng.choice(MODELS, size)),
        "ranking_id": pa.array(place),
        "user_id": pa.array(rng.integers(1, 6000, size)),
        "num_example_per_prompt": pa.array(np.full(size, PER_PROMPT)),
        "__index_level_0__": pa.array(place),
    }


def _jpeg(rng: np.random.Generator, side: int) -> bytes:
    """A smooth picture with grain, about as large as a photograph of that side."""
    coarse = rng.integers(0, 256, (side // 16, side // 16, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()
