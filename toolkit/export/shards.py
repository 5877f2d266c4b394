"""Parquet files of one split: written a row group at a time, closed when they are full."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.export.provenance import sha256_of

IMAGE_GROUP, IMAGE_SHARD = 100, 1000
"""Two images are read by decoding one group: at 100 rows in 3 ms, at 3,000 in 162 ms."""
GROUP, SHARD = 20_000, 100_000
"""The same where no column holds images."""


@cache
def split_name(name: str | None) -> str:
    """A split as it can stand in a file name; train where the source names none."""
    return re.sub(r"\W", "_", name) if name else "train"


def shard_names(split: str, size: int, shard_rows: int, suffix: str) -> list[str]:
    """data/SPLIT-00000-of-00003SUFFIX and so on for `size` rows."""
    count = -(-size // shard_rows)
    return [f"data/{split}-{n:05d}-of-{count:05d}{suffix}" for n in range(count)]


def is_image(field: pa.Field) -> bool:
    """Whether a column holds encoded images, alone or as `datasets`' {bytes, path}."""
    kind = field.type
    return bool(pa.types.is_binary(kind) or pa.types.is_struct(kind))


class Shards:
    """The files of one split, one open at a time."""

    def __init__(
        self, aside: Path, split: str, size: int, into: pa.Schema, shard_rows: int | None = None
    ):
        images = any(is_image(field) for field in into)
        self._group = IMAGE_GROUP if images else GROUP
        self._limit = shard_rows or (IMAGE_SHARD if images else SHARD)
        self._paths = [aside / name for name in shard_names(split, size, self._limit, ".parquet")]
        self._aside, self._into = aside, into
        self._held: list[pa.Table] = []
        self._facts: dict[str, Any] = {}
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0
        (aside / "data").mkdir(exist_ok=True)

    def add(self, table: pa.Table) -> None:
        """Append rows; a row group is written as soon as it is full."""
        while table.num_rows:
            held = sum(t.num_rows for t in self._held)
            room = min(self._group - held, self._limit - self._rows)
            self._held.append(table.slice(0, room))
            self._rows += self._held[-1].num_rows
            table = table.slice(room)
            if self._rows == self._limit:
                self._close()
            elif sum(t.num_rows for t in self._held) == self._group:
                self._write_group()

    def end(self) -> dict[str, Any]:
        """Close the last file; path: rows and sha256 of each."""
        if self._rows:
            self._close()
        return self._facts

    def _write_group(self) -> None:
        if self._writer is None:
            # Encoded images do not shrink any further; the other columns do.
            packing = {
                name: "NONE" if is_image(self._into.field(name.split(".")[0])) else "ZSTD"
                for name in _leaves(self._into)
            }
            path = self._paths[len(self._facts)]
            self._writer = pq.ParquetWriter(path, self._into, compression=packing)
        if self._held:
            table = pa.concat_tables(self._held)
            self._writer.write_table(table, row_group_size=self._group)
            self._held = []

    def _close(self) -> None:
        self._write_group()
        assert self._writer is not None
        self._writer.close()
        path = self._paths[len(self._facts)]
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        name = path.relative_to(self._aside).as_posix()
        self._facts[name] = {"rows": self._rows, "sha256": sha256_of(path)}
        self._writer, self._rows = None, 0


def _leaves(schema: pa.Schema) -> list[str]:
    """Names of the physical columns: a struct's fields by their paths."""
    found = []
    for field in schema:
        if pa.types.is_struct(field.type):
            found += [f"{field.name}.{inner.name}" for inner in field.type]
        else:
            found.append(field.name)
    return found
