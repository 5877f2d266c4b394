"""A sidecar for a trainer that keeps its own copy of the data: labels and weights, no images.

OUT/weights.parquet   a row for every pair of the store, in its order, keyed by pair_id
OUT/weights.npy       sample_weight in the same order, float32; 0 for what is left out
OUT/labels.npy        label_0 in the same order, float32; NaN for none
"""

from typing import Any

import numpy as np
import pyarrow as pa

from toolkit.export import table as columns
from toolkit.export.dataset_writer import Format, Job
from toolkit.export.policy import Policy
from toolkit.export.provenance import sha256_of
from toolkit.files.atomic import write_whole
from toolkit.schema import column


def schema(_: Policy | None = None) -> pa.Schema:
    """Columns of weights.parquet."""
    ours = columns.OURS
    return pa.schema(
        [
            ours.field("pair_id"),
            column("label_0", pa.float32(), "1: image 0 preferred, 0: image 1, .5: tie, or null"),
            column("sample_weight", pa.float32(), "weight in a loss; 0 where the pair is left out"),
            column("kept", pa.bool_(), "whether an export of the set contains the pair"),
            *(ours.field(name) for name in ("minority", "confidence", "stability", "verdict")),
            column("original_label_0", pa.float32(), "label_0 as the source had it"),
        ]
    )


def write(job: Job) -> dict[str, Any]:
    """Write the three files; their rows and hashes."""
    plan = job.plan
    weight = np.where(plan.kept, plan.weight, 0).astype(np.float32)
    label = plan.final.astype(np.float32)
    made = {
        "pair_id": plan.rows["pair_id"],
        "label_0": pa.array(label, from_pandas=True),
        "sample_weight": pa.array(weight),
        "kept": pa.array(plan.kept),
        **{name: pa.array(values, from_pandas=True) for name, values in plan.scores.items()},
        "verdict": pa.array(plan.verdict, pa.string()),
        "original_label_0": plan.rows["original_label"],
    }
    into = schema()
    table = pa.table({name: made[name] for name in into.names}).cast(into)
    write_whole(job.aside / "weights.parquet", table)
    np.save(job.aside / "weights.npy", weight)
    np.save(job.aside / "labels.npy", label)
    names = ("weights.parquet", "weights.npy", "labels.npy")
    return {name: {"rows": len(weight), "sha256": sha256_of(job.aside / name)} for name in names}


FORMAT = Format(
    "weights", "labels and weights of every pair, no images", schema, write, images="never"
)
