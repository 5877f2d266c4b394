"""Arrays kept on disk by name: uncompressed Arrow files, mapped into memory, never rewritten.

A folder holds one kind of array under one set of ingredients (backbone, resolution ...), which its
name is a hash of: a changed ingredient is another folder, so an entry is right or absent. Each
process adds parts of its own; a part is complete or absent.
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from toolkit.parts import sync_folder, write_text_whole

PART_BYTES = 64_000_000
"""Held in memory at most before a part is written."""

_SUFFIX = ".arrow"


def shelf_folder(root: Path, kind: str, ingredients: Mapping[str, Any]) -> Path:
    """The folder of a kind under these ingredients, made with an `about.json` of them."""
    text = json.dumps(dict(ingredients), indent=2, sort_keys=True)
    folder = root / kind / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not (folder / "about.json").exists():
        write_text_whole(folder / "about.json", text + "\n")
    return folder


class DiskShelf:
    """Names to tuples of numpy arrays; a place in the tuple has one shape and dtype throughout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._place: dict[str, tuple[int, int]] = {}
        self._parts: list[list[np.ndarray]] = []
        self._held: dict[str, tuple[np.ndarray, ...]] = {}
        self._bytes = 0
        for path in sorted(folder.glob(f"part-*{_SUFFIX}")):
            self._open(path)

    def __contains__(self, name: str) -> bool:
        return name in self._place or name in self._held

    def __len__(self) -> int:
        return len(self._place) + len(self._held)

    def __iter__(self) -> Iterator[str]:
        yield from self._place
        yield from self._held

    def get(self, name: str) -> tuple[np.ndarray, ...] | None:
        """The arrays under a name, or None. Those from a file are read-only views of its map."""
        if name in self._place:
            part, row = self._place[name]
            return tuple(array[row] for array in self._parts[part])
        return self._held.get(name)

    def put(self, name: str, arrays: tuple[np.ndarray, ...]) -> None:
        """Hold arrays until a part is full, or `flush`."""
        if name in self:
            return
        self._held[name] = arrays
        self._bytes += sum(array.nbytes for array in arrays)
        if self._bytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held as a part; on the disk when this returns."""
        if not self._held:
            return
        held, self._held, self._bytes = self._held, {}, 0
        columns = [np.stack(arrays) for arrays in zip(*held.values(), strict=True)]
        about = {"arrays": json.dumps([[str(c.dtype), list(c.shape[1:])] for c in columns])}
        fields = [pa.field("name", pa.string())]
        data: list[pa.Array] = [pa.array(list(held))]
        for index, column in enumerate(columns):
            width = column.nbytes // len(column)
            kind = pa.binary(width)
            fields.append(pa.field(f"array_{index}", kind))
            buffer = pa.py_buffer(np.ascontiguousarray(column))
            data.append(pa.FixedSizeBinaryArray.from_buffers(kind, len(column), [None, buffer]))
        table = pa.Table.from_arrays(data, schema=pa.schema(fields, metadata=about))
        self._open(_write(self.folder, table))

    def _open(self, path: Path) -> None:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
        shapes = json.loads(table.schema.metadata[b"arrays"])
        arrays = []
        for index, (dtype, shape) in enumerate(shapes):
            chunk = table.column(index + 1).chunk(0)
            flat = np.frombuffer(chunk.buffers()[1], dtype=dtype)
            arrays.append(flat.reshape(len(chunk), *shape))
        for row, name in enumerate(table.column("name").to_pylist()):
            self._place[name] = (len(self._parts), row)
        self._parts.append(arrays)


def _write(folder: Path, table: pa.Table) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
    aside = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with aside.open("wb") as stream:
            with pa.ipc.new_file(stream, table.schema) as writer:
                # One batch: the map then shows every array as one block.
                writer.write_table(table, max_chunksize=table.num_rows)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except BaseException:  # a full disk must not keep half a part
        aside.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    return path
