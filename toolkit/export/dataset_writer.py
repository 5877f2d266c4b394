"""What a format is, and how formats write the rows of a plan: files of one split each.

A format says which columns it has, and fills a folder from a `Job`.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.export.decisions import Plan
from toolkit.export.policy import Policy
from toolkit.export.provenance import sha256_of
from toolkit.export.table import SourceColumns, exported_tables, source_columns
from toolkit.progress import SILENT, Progress
from toolkit.store import Store

IMAGE_GROUP, IMAGE_SHARD = 100, 1000
"""Rows of a row group and of a file. Two images are read by decoding one group: at 100 rows in 3
ms, at 3,000 in 162 ms."""
GROUP, SHARD = 20_000, 100_000
"""The same where no column has images."""


@dataclass(frozen=True)
class Job:
    """One export at work: what is decided, and the folder that is being filled."""

    store: Store
    plan: Plan
    policy: Policy
    aside: Path
    source: SourceColumns
    """The source's own columns, which follow the set's."""
    progress: Progress = SILENT

    @cached_property
    def splits(self) -> list[str]:
        """The split of every row, as a file name can contain it."""
        return [split_name(name) for name in self.plan.rows["split"].to_pylist()]

    def tables(self, into: pa.Schema) -> Iterator[tuple[str, pa.Table]]:
        """(split, rows) of the kept pairs in the store's order, a few at a time."""
        total, done = int(self.plan.kept.sum()), 0
        rows = exported_tables(self.store, self.plan, self.policy, self.splits, into, self.source)
        for split, table in rows:
            yield split, table
            done += table.num_rows
            self.progress.update("rows", done, total)


@dataclass(frozen=True)
class Format:
    """An entry of FORMATS."""

    name: str
    summary: str
    columns: Callable[[Policy], pa.Schema]
    """The columns that its card lists, without the source's."""
    write: Callable[..., dict[str, Any]]
    """`write(job, **options)` fills the folder and returns path (or folder) -> {rows, sha256}. Its
    options are keyword-only parameters, each annotated `Annotated[type, "help"]`."""
    images: Literal["by option", "always", "never"] = "by option"
    undecided: bool = True
    """Whether it can say that a pair is tied or has no label."""
    source_columns: bool = False
    """Whether the source's own columns follow the set's."""


def columns_of_source(store: Store, plan: Plan, policy: Policy, form: Format) -> SourceColumns:
    """Which of the source's own columns a format exports under a policy."""
    if not form.source_columns:
        return SourceColumns()
    return source_columns(store, plan, policy, form.columns(policy).names)


@cache
def split_name(name: str | None) -> str:
    """A split as a file name can contain it; train where the source names none."""
    return re.sub(r"\W", "_", name) if name else "train"


class ShardFile(Protocol):
    """A file that is being written."""

    def add(self, table: pa.Table) -> None:
        """Append rows."""

    def close(self) -> None:
        """Write what is left and close the file."""


class ParquetShard:
    """A Parquet file whose row groups are written as soon as they are full."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        # Encoded images do not shrink any further; the other columns do.
        packing = {
            leaf: "NONE" if _is_image(field) else "ZSTD"
            for field in schema
            for leaf in _leaves(field)
        }
        self._group = IMAGE_GROUP if any(map(_is_image, schema)) else GROUP
        self._writer = pq.ParquetWriter(path, schema, compression=packing)
        self._waiting: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        while table.num_rows:
            room = self._group - sum(waiting.num_rows for waiting in self._waiting)
            self._waiting.append(table.slice(0, room))
            table = table.slice(room)
            if sum(waiting.num_rows for waiting in self._waiting) == self._group:
                self._write()

    def close(self) -> None:
        """Write the last row group and close the file."""
        self._write()
        self._writer.close()

    def _write(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting)
            self._writer.write_table(table, row_group_size=self._group)
            self._waiting = []


def write_parquet(
    job: Job,
    rows: pa.Schema,
    into: pa.Schema | None = None,
    convert: Callable[[pa.Table], pa.Table] = lambda table: table,
    *,
    shard_rows: int | None,
) -> dict[str, Any]:
    """Fill data/ with Parquet files of `rows`, converted to the columns `into`."""
    schema = rows if into is None else into
    limit = shard_rows or (IMAGE_SHARD if any(map(_is_image, schema)) else SHARD)
    tables = ((split, convert(table)) for split, table in job.tables(rows))
    return write_shards(job, tables, ".parquet", limit, lambda path: ParquetShard(path, schema))


def write_shards(
    job: Job,
    tables: Iterator[tuple[str, pa.Table]],
    suffix: str,
    limit: int,
    open_shard: Callable[[Path], ShardFile],
) -> dict[str, Any]:
    """Fill data/ with files of at most `limit` rows, one split each; their rows and hashes.

    data/SPLIT-00000-of-00003SUFFIX and so on, each open while it is being filled.
    """
    (job.aside / "data").mkdir(exist_ok=True)
    kept = zip(job.splits, job.plan.kept, strict=True)
    files = {
        split: [
            job.aside / f"data/{split}-{n:05d}-of-{-(-size // limit):05d}{suffix}"
            for n in range(-(-size // limit))
        ]
        for split, size in Counter(split for split, keep in kept if keep).items()
    }
    open_: dict[str, tuple[ShardFile, int]] = {}
    facts: dict[str, dict[str, Any]] = {split: {} for split in files}

    def close(split: str) -> None:
        shard, rows = open_.pop(split)
        shard.close()
        path = files[split][len(facts[split])]
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        name = path.relative_to(job.aside).as_posix()
        facts[split][name] = {"rows": rows, "sha256": sha256_of(path)}

    for split, table in tables:
        while table.num_rows:
            if split not in open_:
                open_[split] = (open_shard(files[split][len(facts[split])]), 0)
            shard, rows = open_[split]
            part = table.slice(0, limit - rows)
            shard.add(part)
            open_[split] = (shard, rows + part.num_rows)
            table = table.slice(part.num_rows)
            if rows + part.num_rows == limit:
                close(split)
    for split in list(open_):
        close(split)
    return {name: fact for split in sorted(facts) for name, fact in facts[split].items()}


def _is_image(field: pa.Field) -> bool:
    """Whether a column has encoded images, alone or as `datasets`' {bytes, path}."""
    return bool(pa.types.is_binary(field.type) or pa.types.is_struct(field.type))


def _leaves(field: pa.Field) -> list[str]:
    """Names of a column's physical columns: a struct's fields by their paths."""
    if not pa.types.is_struct(field.type):
        return [field.name]
    return [f"{field.name}.{inner.name}" for inner in field.type]


def write_bytes(path: Path, data: bytes) -> None:
    """Write and sync one file of a folder that is being filled."""
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def write_text(path: Path, text: str) -> None:
    """The same for a text, which ends with one line break."""
    write_bytes(path, (text.rstrip() + "\n").encode("utf-8"))
