"""WebDataset shards: a pair is {pair_id}.jpg_0, {pair_id}.jpg_1 and {pair_id}.json.

OUT/data/train-00000-of-00003.tar   1,000 pairs each, in the store's order
"""

import io
import json
import tarfile
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from toolkit.export import table as columns
from toolkit.export.dataset_writer import IMAGE_SHARD, Format, Job, shard_names
from toolkit.export.policy import Policy
from toolkit.export.provenance import sha256_of


def schema(_: Policy | None = None) -> pa.Schema:
    """Columns of the pairs' JSON, and the two images beside it."""
    return columns.schema()


def write(job: Job) -> dict[str, Any]:
    """Fill data/ with tar files; their pairs and hashes."""
    limit = job.shard_rows or IMAGE_SHARD
    sizes = Counter(split for split, kept in zip(job.splits, job.plan.kept, strict=True) if kept)
    shards = {split: _Tars(job.aside, split, size, limit) for split, size in sizes.items()}
    (job.aside / "data").mkdir()
    for split, table in job.tables(columns.schema(further=job.further.schema)):
        for row in table.to_pylist():
            shards[split].add(row)
    return {name: facts for split in sorted(shards) for name, facts in shards[split].end().items()}


class _Tars:
    """The tar files of one split, one open at a time."""

    def __init__(self, aside: Path, split: str, size: int, limit: int) -> None:
        self._aside, self._limit = aside, limit
        self._names = shard_names(split, size, limit, ".tar")
        self._facts: dict[str, Any] = {}
        self._tar: tarfile.TarFile | None = None
        self._rows = 0

    def add(self, row: dict[str, Any]) -> None:
        """Append one pair."""
        if self._tar is None:
            path = self._aside / self._names[len(self._facts)]
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        images = {name: row.pop(name) for name in columns.IMAGES}
        told = json.dumps(row, ensure_ascii=False, sort_keys=True, default=_text).encode(
            "utf-8", "surrogatepass"
        )
        for suffix, data in (*images.items(), ("json", told)):
            entry = tarfile.TarInfo(f"{row['pair_id']}.{suffix}")  # no time, no owner: same bytes
            entry.size = len(data)
            self._tar.addfile(entry, io.BytesIO(data))
        self._rows += 1
        if self._rows == self._limit:
            self._close()

    def end(self) -> dict[str, Any]:
        """Close the last file; path: pairs and sha256 of each."""
        if self._tar is not None:
            self._close()
        return self._facts

    def _close(self) -> None:
        assert self._tar is not None
        self._tar.close()
        name = self._names[len(self._facts)]
        self._facts[name] = {"rows": self._rows, "sha256": sha256_of(self._aside / name)}
        self._tar, self._rows = None, 0


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


FORMAT = Format("webdataset", schema, write, images="always", further=True)
