"""WebDataset shards: a pair is {pair_id}.0.jpg, {pair_id}.1.jpg and {pair_id}.json.

OUT/data/train-00000-of-00003.tar   1,000 pairs each, in the store's order

Ordinary readers decode members by the end of their names. It is .jpg whatever an image is encoded
as, since they want the same members of every pair, and their decoders look at the bytes.
"""

import io
import json
import tarfile
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa

from toolkit.export import table as columns
from toolkit.export.dataset_writer import IMAGE_SHARD, Format, Job, write_shards
from toolkit.export.policy import Policy


def schema(_: Policy | None = None) -> pa.Schema:
    """Columns of the pairs' JSON, and the two images beside it."""
    return columns.schema()


def write(
    job: Job, *, shard_rows: Annotated[int | None, "Pairs a file.", (1, 10**9)] = None
) -> dict[str, Any]:
    """Fill data/ with tar files; their pairs and hashes."""
    tables = job.tables(columns.schema(further=job.source.schema))
    return write_shards(job, tables, ".tar", shard_rows or IMAGE_SHARD, _Tar)


class _Tar:
    """A tar file with three members a pair."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, table: pa.Table) -> None:
        """Append pairs."""
        for row in table.to_pylist():
            images = {f"{k}.jpg": row.pop(name) for k, name in enumerate(columns.IMAGES)}
            text = json.dumps(row, ensure_ascii=False, sort_keys=True, default=_text)
            data = text.encode("utf-8", "surrogatepass")
            for suffix, content in (*images.items(), ("json", data)):
                # Without a time and an owner the same pairs are the same bytes.
                entry = tarfile.TarInfo(f"{row['pair_id']}.{suffix}")
                entry.size = len(content)
                self._tar.addfile(entry, io.BytesIO(content))

    def close(self) -> None:
        """Write the end of the archive."""
        self._tar.close()


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


FORMAT = Format(
    "webdataset",
    "tar shards with two images and a JSON a pair",
    schema,
    write,
    images="always",
    source_columns=True,
)
