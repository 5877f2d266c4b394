"""The columns of an exported set: Pick-a-Pic's nineteen with their types, then ours."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toolkit.pairs import SOURCE_PREFIX
from toolkit.schema import column

PICKAPIC = pa.schema(
    [
        column("are_different", pa.bool_(), "whether the two images differ"),
        column("best_image_uid", pa.string(), "uid of the preferred image; null for a tie of ours"),
        column("caption", pa.string(), "the prompt"),
        column("created_at", pa.timestamp("ns"), "when the vote was given, UTC"),
        column("has_label", pa.bool_(), "whether anybody judged the pair"),
        column("image_0_uid", pa.string(), "name of the first image"),
        column("image_0_url", pa.string(), "where it came from, if the source says"),
        column("image_1_uid", pa.string(), "name of the second image"),
        column("image_1_url", pa.string(), "where it came from, if the source says"),
        column("jpg_0", pa.binary(), "the first image, encoded as the source had it"),
        column("jpg_1", pa.binary(), "the second image"),
        column("label_0", pa.float64(), "1: image 0 preferred, 0: image 1, .5: tie, null: none"),
        column("label_1", pa.float64(), "1 - label_0"),
        column("model_0", pa.string(), "the model that made the first image"),
        column("model_1", pa.string(), "the model that made the second image"),
        column("ranking_id", pa.int64(), "the source's number of the judgement"),
        column("user_id", pa.int64(), "the annotator, by a keyed pseudonym unless said otherwise"),
        column("num_example_per_prompt", pa.int64(), "the source's count, else rows here"),
        column("__index_level_0__", pa.int64(), "the source's row number, else the store's"),
    ]
)

OURS = pa.schema(
    [
        column(
            "sample_weight", pa.float64(), "weight in a loss; W of Eq. 15 if reweighted, else 1"
        ),
        column("minority", pa.float32(), "u of Eq. 13, large = likely a minority label; or null"),
        column("confidence", pa.float32(), "c of Eq. 11, large = suspicious; or null"),
        column("stability", pa.float32(), "s of Eq. 12, large = unstable; or null"),
        column("verdict", pa.string(), "keep, flip, tie, drop, unsure, or null: not judged"),
        column("original_label_0", pa.float64(), "label_0 as the source had it"),
        column("pair_id", pa.string(), "name of the pair in the store and in curation.json"),
    ]
)

IMAGES = ("jpg_0", "jpg_1")


def schema(*, images: bool = True, further: Iterable[pa.Field] = ()) -> pa.Schema:
    """All columns in order, with or without the two that hold images, the source's last."""
    fields = [f for f in (*PICKAPIC, *OURS) if images or f.name not in IMAGES]
    return pa.schema([*fields, *further])


def source_column(
    batch: pa.RecordBatch, name: str, kind: pa.DataType, otherwise: Sequence[Any]
) -> pa.Array:
    """src_NAME of the pairs where it fits `kind`; holes, and all else, filled from `otherwise`."""
    values = pa.array(otherwise, kind)
    own = SOURCE_PREFIX + name
    if own not in batch.schema.names:
        return values
    try:
        return pc.coalesce(batch.column(own).cast(kind), values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return values


def arrays(columns: Mapping[str, Any], into: pa.Schema) -> pa.Table:
    """A table of the schema from lists and numpy arrays (NaN becomes null)."""
    made = []
    for field in into:
        value = columns[field.name]
        if isinstance(value, np.ndarray):
            value = pa.array(value, from_pandas=True).cast(field.type)
        elif not isinstance(value, pa.Array):
            value = pa.array(value, field.type)
        made.append(value)
    return pa.Table.from_arrays(made, schema=into)
