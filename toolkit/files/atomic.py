"""Atomic Parquet parts: a reader sees a whole part or none.

A part is written under a name that no reader looks for, synced, and renamed. What a killed process
leaves keeps that name: readers ignore it, and `unfinished` lists it. In an object store a part is
one put, which is whole or absent by itself.
"""

import hashlib
import io
import json
import os
import re
import socket
import time
import uuid
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import StoreError
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


def write_json(path: Path, value: Any) -> Path:
    """Write a JSON file so that `path` is complete or absent."""
    return write_text_whole(path, json_text(value))


def json_text(value: Any) -> str:
    """What `write_json` writes of a value: an object gets a checksum."""
    if isinstance(value, dict):
        value = {**value, _CHECKSUM: _checksum(json.loads(json.dumps(value)))}
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


_CHECKSUM = "checksum"


def _checksum(value: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"


def read_json(path: Path, remedy: str, kind: Any = dict, /, **needs: Any) -> Any:
    """What a JSON file holds: a `kind`, which has the entries `needs` of these types at the least.

    StoreError where it is damaged: the sentence names the file and ends with `remedy`.
    """
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:
        raise StoreError(
            f"{path} is damaged ({str(problem).splitlines()[0]}); {remedy}."
        ) from problem
    if kind is not type(value):
        raise StoreError(f"{path} is damaged (it holds no {kind.__name__}); {remedy}.")
    checksum = value.pop(_CHECKSUM, None) if kind is dict else None
    if checksum is not None and checksum != _checksum(value):
        raise StoreError(
            f"{path} is damaged (its checksum is not that of its content; delete the entry "
            f"{_CHECKSUM!r} if you edited the file by hand); {remedy}."
        )
    if wrong := [name for name, type_ in needs.items() if not isinstance(value.get(name), type_)]:
        raise StoreError(f"{path} is damaged (it has no {' and '.join(wrong)}); {remedy}.")
    return value


def write_new(path: Path, data: bytes, *, mode: int = 0o666) -> bool:
    """Write a small file unless there is one; whether it was written. Of several processes on one
    file system one writes it, and each finds it whole."""
    if not is_local(path):
        if path.exists():
            return False
        put(path, data)
        return True
    make_folder(path.parent)
    aside = unfinished_name(path)
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(aside, path)  # unlike a rename it never replaces another process's file
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            if path.exists():
                return False
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _whole(path: Path, write: Callable[[IO[bytes]], object]) -> Path:
    if not is_local(path):
        buffer = io.BytesIO()
        write(buffer)
        put(path, buffer.getvalue())
        return path
    make_folder(path.parent)
    aside = unfinished_name(path)
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


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a power cut."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


MANIFEST = "manifest.json"
"""sha256 of the files beside and below it, by their paths."""


def write_manifest(folder: Path) -> Path:
    """Note the hash of every file in `folder` and below, but for subfolders with their own."""
    own = {path.parent for path in folder.rglob(MANIFEST)} - {folder}
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not own & set(p.parents)]
    hashes = {p.relative_to(folder).as_posix(): _sha256(p) for p in files if p.name != MANIFEST}
    return write_text_whole(folder / MANIFEST, json.dumps(hashes, indent=1) + "\n")


def unlike_manifest(folder: Path) -> str | None:
    """What is wrong with the files of a folder by its manifests, as a clause; None where nothing
    is, or where an older version wrote none."""
    for manifest in sorted(folder.rglob(MANIFEST)):
        if manifest.parent.name.startswith("."):  # of what is being deleted
            continue
        try:
            for name, noted in json.loads(manifest.read_text(encoding="utf-8")).items():
                file = manifest.parent / name
                if not file.is_file():
                    return f"{file} is missing"
                if _sha256(file) != noted:
                    return f"{file} is not what was written"
        except (ValueError, AttributeError, OSError) as problem:
            return f"{manifest} cannot be read ({problem})"
    return None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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


def unfinished_name(path: Path) -> Path:
    """Where `path` is written first: a name that says which process writes it."""
    return path.with_name(f".{path.name[:150]}.{os.getpid()}-{_machine()}{UNFINISHED}")


Writer = Literal["running", "elsewhere", "ended"]
"""Who writes an unfinished file: a process of this machine that runs, perhaps one of another
machine (it was written to within `LAPSE` seconds), or nobody any more."""

LAPSE = 3600.0
"""Seconds without a change after which the writer of a file on another machine has ended."""


def unfinished(folder: Path, writers: Collection[str] = ("ended",)) -> Iterator[Path]:
    """Unfinished files of such writers anywhere below `folder`, by default what killed ones left;
    in an object store they leave nothing."""
    if is_local(folder):
        for path in sorted(folder.rglob(f".*{UNFINISHED}")):
            with suppress(FileNotFoundError):  # finished at this moment
                if writer_of(path) in writers:
                    yield path


def writer_of(path: Path) -> Writer:
    """Who writes an unfinished file. FileNotFoundError where it was finished meanwhile."""
    changed = path.stat().st_mtime
    # Earlier versions did not name the machine.
    named = re.search(r"\.(\d+)(?:-([0-9a-f]{8}))?\.unfinished$", path.name)
    if not named or named[2] not in (None, _machine()):
        return "elsewhere" if time.time() - changed < LAPSE else "ended"
    with suppress(PermissionError):  # another user's process
        try:
            os.kill(int(named[1]), 0)
        except (ProcessLookupError, OverflowError):
            return "ended"
    with suppress(OSError, ValueError, IndexError):  # a later process may have got its number
        if _began(int(named[1])) > changed + 5:
            return "ended"
    return "running"


def _began(pid: int) -> float:
    """When a process of this machine began, in seconds since the epoch."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    booted = re.search(r"^btime (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
    return float(booted[1] if booted else 0) + int(fields[19]) / os.sysconf("SC_CLK_TCK")


@cache
def _machine() -> str:
    """8 hexadecimal digits for this machine since its start, and for this container on it."""
    names = [socket.gethostname()]
    with suppress(OSError):
        names = [
            Path("/proc/sys/kernel/random/boot_id").read_text(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return hashlib.blake2b(" ".join(names).encode(), digest_size=4).hexdigest()


def move(path: Path, target: Path) -> None:
    """Move a part within its store, so that a reader sees it whole or not at all."""
    if not is_local(path):
        moved(path, target)
        return
    make_folder(target.parent)
    path.rename(target)
    sync_folder(target.parent)
    sync_folder(path.parent)
