"""A curated set in Pick-a-Pic's columns: what public trainers of preference losses read.

OUT/data/train-00000-of-00003.parquet   rows in the store's order, row groups of 100
"""

from typing import Annotated, Any

import pyarrow as pa

from toolkit.export import table as columns
from toolkit.export.dataset_writer import Format, Job, write_parquet
from toolkit.export.policy import Policy


def schema(policy: Policy) -> pa.Schema:
    """Pick-a-Pic's columns, then ours; without the images where the policy leaves them out."""
    return columns.schema(images=policy.images)


def write(
    job: Job, *, shard_rows: Annotated[int | None, "Rows a file.", (1, None)] = None
) -> dict[str, Any]:
    """Fill data/ with Parquet files; their rows and hashes."""
    into = columns.schema(images=job.policy.images, further=job.source.schema)
    return write_parquet(job, into, shard_rows=shard_rows)


FORMAT = Format("pickapic", "Parquet in Pick-a-Pic's columns", schema, write, source_columns=True)
