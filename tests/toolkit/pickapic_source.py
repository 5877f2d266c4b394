"""Writes Parquet files in Pick-a-Pic v2's nineteen columns, with content that tests can name."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.factories import png

SCHEMA = pa.schema(
    [
        ("are_different", pa.bool_()),
        ("best_image_uid", pa.string()),
        ("caption", pa.string()),
        ("created_at", pa.timestamp("ns")),
        ("has_label", pa.bool_()),
        ("image_0_uid", pa.string()),
        ("image_0_url", pa.string()),
        ("image_1_uid", pa.string()),
        ("image_1_url", pa.string()),
        ("jpg_0", pa.binary()),
        ("jpg_1", pa.binary()),
        ("label_0", pa.float64()),
        ("label_1", pa.float64()),
        ("model_0", pa.string()),
        ("model_1", pa.string()),
        ("ranking_id", pa.int64()),
        ("user_id", pa.int64()),
        ("num_example_per_prompt", pa.int64()),
        ("__index_level_0__", pa.int64()),
    ]
)


def source_row(k: int, **changes: Any) -> dict[str, Any]:
    """Row k: label 1, 0, .5 in turn; each prompt has four rows, neighbours share an image."""
    label = (1.0, 0.0, 0.5)[k % 3]
    uids = (f"uid-{k:05d}", f"uid-{k + 1:05d}" if k % 2 == 0 else f"uid-{k:05d}-b")
    row: dict[str, Any] = {
        "are_different": True,
        "best_image_uid": {1.0: uids[0], 0.0: uids[1], 0.5: "tie"}[label],
        "caption": f"a prompt, number {k // 4}",
        "created_at": datetime(2023, 5, 1) + timedelta(minutes=k, microseconds=k),
        "has_label": True,
        "label_0": label,
        "label_1": 1 - label,
        "model_0": ("alpha", "beta")[k % 2],
        "model_1": "gamma",
        "ranking_id": 1000 + k,
        "user_id": 70 + k % 5,
        "num_example_per_prompt": 4,
        "__index_level_0__": 5 * k,
    }
    for slot, uid in enumerate(uids):
        row[f"image_{slot}_uid"] = uid
        row[f"image_{slot}_url"] = f"https://images.example/{uid}.png"
        row[f"jpg_{slot}"] = picture(uid)
    return {**row, **changes}


def picture(uid: str) -> bytes:
    """The bytes behind a uid: a flat square whose colour follows from its letters."""
    number = sum(ord(sign) * (place + 1) for place, sign in enumerate(uid))
    return png((number % 256, number // 7 % 256, len(uid) * 9 % 256), side=12)


def write_source(
    path: Path,
    rows: list[dict[str, Any]],
    *,
    schema: pa.Schema = SCHEMA,
    drop: tuple = (),
    row_group: int = 10,
) -> Path:
    """One Parquet file of these rows, without the dropped columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=schema).drop_columns(list(drop))
    pq.write_table(table, path, row_group_size=row_group)
    return path
