"""Atomic Parquet parts: a reader sees a whole part or none.

A part is written under a name that no reader looks for, synced, and renamed. What a killed process
leaves keeps that name: readers ignore it, and `unfinished` lists it. In an object store a part is
one put, which is whole or absent by itself.
"""

import io
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.files.remote import is_local, moved, put

PATTERN = "part-*.parquet"
UNFINISHED = ".unfinished"


def write_part(
    folder: Path, table: pa.Table, *, name: str | None = None, row_group_size: int = 65_536
) -> Path:
    """Write `table` as one part of `folder` (made if absent) and return its path.

    Without a name the part sorts by the time it was written, and never clashes with another
    process's. OSError (a full disk, a read-only folder) leaves no readable part.
    """
    name = name or f"part-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
    return write_whole(folder / name, table, row_group_size=row_group_size)


def write_whole(
    path: Path, table: pa.Table | Sequence[pa.Table], *, row_group_size: int = 65_536
) -> Path:
    """Write one Parquet file so that `path` is complete or absent.

    Of several tables of one schema each begins a row group of its own.
    """
    return _whole(path, lambda stream: _write(table, stream, row_group_size))


def _write(table: pa.Table | Sequence[pa.Table], stream: IO[bytes], row_group_size: int) -> None:
    tables = [table] if isinstance(table, pa.Table) else table
    with pq.ParquetWriter(
        stream,
        tables[0].schema,
        compression="zstd",
        write_page_checksum=True,  # so that `outvoted check` sees a single changed bit
    ) as writer:
        for each in tables:
            writer.write_table(each, row_group_size)


def write_text_whole(path: Path, text: str) -> Path:
    """Write a small text file so that `path` is complete or absent."""
    return _whole(path, lambda stream: stream.write(text.encode("utf-8")))


def _whole(path: Path, write: Callable[[IO[bytes]], object]) -> Path:
    if not is_local(path):
        buffer = io.BytesIO()
        write(buffer)
        put(path, buffer.getvalue())
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        with aside.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)  # on a full disk it would take up the space that is left
        raise
    sync_folder(path.parent)
    return path


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def parts(folder: Path) -> list[Path]:
    """The whole parts of a folder, oldest first; none where the folder does not exist."""
    return sorted(folder.glob(PATTERN))


def unfinished(folder: Path) -> Iterator[Path]:
    """What killed writers left anywhere below `folder`; in an object store they leave nothing."""
    if is_local(folder):
        yield from sorted(folder.rglob(f".*{UNFINISHED}"))


def move(path: Path, target: Path) -> None:
    """Move a part within its store, so that a reader sees it whole or not at all."""
    if not is_local(path):
        moved(path, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    sync_folder(target.parent)
    sync_folder(path.parent)
