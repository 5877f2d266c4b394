"""A curated set in Pick-a-Pic's columns: what public trainers of preference losses read.

OUT/data/train-00000-of-00003.parquet   rows in the store's order, row groups of 100
"""

from collections import Counter
from pathlib import Path
from typing import Any

from toolkit.export import table as columns
from toolkit.export.dataset_writer import (
    Format,
    Job,
    Outcome,
    Progress,
    Shards,
    export_set,
    preview,
)
from toolkit.export.policy import Policy
from toolkit.store import Store


def write(job: Job) -> dict[str, Any]:
    """Fill data/ with Parquet files; their rows and hashes."""
    into = columns.schema(images=job.policy.images, further=job.further.schema)
    sizes = Counter(split for split, kept in zip(job.splits, job.plan.kept, strict=True) if kept)
    shards = {
        split: Shards(job.aside, split, size, into, shard_rows=job.shard_rows)
        for split, size in sizes.items()
    }
    for split, table in job.tables(into):
        shards[split].add(table)
    return {name: facts for split in sorted(shards) for name, facts in shards[split].end().items()}


FORMAT = Format(
    "pickapic", lambda policy: columns.schema(images=policy.images), write, further=True
)


def preview_pickapic(store: Store, policy: Policy) -> Outcome:
    """What an export under the policy would do; writes nothing."""
    return preview(store, policy)


def export_pickapic(
    store: Store,
    out: str | Path,
    policy: Policy,
    *,
    command: str | None = None,
    progress: Progress | None = None,
    shard_rows: int | None = None,
) -> Outcome:
    """Write the set to the new folder `out`: see `export_set`."""
    return export_set(
        store, out, policy, FORMAT, command=command, progress=progress, shard_rows=shard_rows
    )
