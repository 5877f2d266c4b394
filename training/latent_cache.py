"""Encoded images and prompts: what no visit needs to compute twice.

Filled as they are first met. In host memory up to a limit, or on the store's disk without one;
what does not fit is encoded again at its next visit. Values are held in half precision and are the
same numbers whether they were just computed or read back.

Arrays kept on disk by name: uncompressed Arrow files, mapped into memory, never rewritten.

A folder holds one kind of array under one set of ingredients (backbone, resolution ...), which its
name is a hash of: a changed ingredient is another folder, so an entry is right or absent. Each
process adds parts of its own; a part is complete or absent.
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from toolkit.errors import InputError, TrainingError
from toolkit.files.atomic import sync_folder, write_text_whole
from toolkit.image_files import decode
from toolkit.store import Store
from toolkit.store.images import ImageReader, image_versions
from training.models import Models, encode_images, encode_prompts
from training.pairs import to_pixels

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


Arrays = tuple[np.ndarray, ...]

_AT = "@"

BLOCK = 8
"""Images or prompts that are encoded at a time."""


class MemoryShelf:
    """Names to arrays, until a number of bytes shared with other shelves is used up."""

    def __init__(self, budget: list[int]) -> None:
        self._budget = budget
        self._held: dict[str, Arrays] = {}

    def get(self, name: str) -> Arrays | None:
        """The arrays under a name, or None."""
        return self._held.get(name)

    def put(self, name: str, arrays: Arrays) -> None:
        """Hold arrays if they fit."""
        size = sum(array.nbytes for array in arrays)
        if self._budget[0] >= size:
            self._budget[0] -= size
            self._held[name] = arrays

    def flush(self) -> None:
        """Nothing to do: memory ends with its process."""


class Encoded:
    """Posteriors of images and embeddings of prompts of one backbone at one resolution."""

    def __init__(
        self, store: Store, models: Models, resolution: int, *, memory_gb: float, disk: bool
    ) -> None:
        self._images = ImageReader(store)
        self._models = models
        self._resolution = resolution
        budget = [int(memory_gb * 1e9)]
        self._versions: dict[str, str | None] = {}
        self._posteriors: MemoryShelf | DiskShelf = MemoryShelf(budget)
        self._prompts: MemoryShelf | DiskShelf = MemoryShelf(budget)
        if disk:
            root = store.folder("caches")
            held = DiskShelf(
                shelf_folder(root, "posteriors", image_ingredients(models, resolution))
            )
            self._posteriors = held
            self._versions = _versions(store, held)
            self._prompts = DiskShelf(shelf_folder(root, "prompts", text_ingredients(models)))

    def posteriors(self, image_ids: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """(R, 2C, h, w) posterior mean and log-variance, and (R, 6) time ids, on the device."""
        names = [self._entry(image_id) for image_id in image_ids]
        of_entry = dict(zip(names, image_ids, strict=True))
        rows = _through(
            self._posteriors, names, lambda some: self._encode_images([of_entry[n] for n in some])
        )
        device = self._models.unet.device
        mean_and_logvar = torch.from_numpy(np.stack([row[0] for row in rows]))
        time_ids = torch.from_numpy(np.stack([row[1] for row in rows]))
        return mean_and_logvar.to(device).float(), time_ids.to(device)

    def prompts(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(N, tokens, width) hidden states and (N, width) pooled embeddings, on the device."""
        rows = _through(self._prompts, prompts, self._encode_prompts)
        device = self._models.unet.device
        states = torch.from_numpy(np.stack([row[0] for row in rows])).to(device).float()
        if len(rows[0]) == 1:
            return states, None
        return states, torch.from_numpy(np.stack([row[1] for row in rows])).to(device).float()

    def flush(self) -> None:
        """Have on the disk what is meant to be there."""
        self._posteriors.flush()
        self._prompts.flush()

    def missing_images(self, image_ids: Sequence[str]) -> list[str]:
        """Those that no shelf holds yet, each once."""
        held = self._posteriors
        return [i for i in dict.fromkeys(image_ids) if held.get(self._entry(i)) is None]

    def missing_prompts(self, prompts: Sequence[str]) -> list[str]:
        """Those that no shelf holds yet, each once."""
        return [p for p in dict.fromkeys(prompts) if self._prompts.get(p) is None]

    def _entry(self, image_id: str) -> str:
        """An image's name on the shelf: on the disk, other bytes under its id are another entry."""
        version = self._versions.get(image_id)
        return image_id if version is None else f"{image_id}{_AT}{version}"

    def _encode_images(self, image_ids: Sequence[str]) -> list[Arrays]:
        return _in_blocks(image_ids, self._encode_block_of_images)

    def _encode_block_of_images(self, image_ids: Sequence[str]) -> list[Arrays]:
        pixels, ids = zip(*(self._pixels(i) for i in image_ids), strict=True)
        stacked = torch.stack(pixels).to(self._models.vae.device)
        encoded = encode_images(self._models, stacked).half().cpu().numpy()
        times = np.array(ids, np.int32)
        return [(encoded[k].copy(), times[k]) for k in range(len(image_ids))]

    def _encode_prompts(self, prompts: Sequence[str]) -> list[Arrays]:
        return _in_blocks(prompts, self._encode_block_of_prompts)

    def _encode_block_of_prompts(self, prompts: Sequence[str]) -> list[Arrays]:
        found = [part for part in encode_prompts(self._models, prompts) if part is not None]
        halves = [part.half().cpu().numpy() for part in found]
        return [tuple(part[k].copy() for part in halves) for k in range(len(prompts))]

    def _pixels(self, image_id: str) -> tuple[torch.Tensor, list[int]]:
        try:
            picture = decode(self._images.read(image_id)).image
        except InputError as problem:
            raise TrainingError(
                f"Image {image_id} cannot be trained on: {problem}. Restore its source, or drop "
                "its pairs."
            ) from problem
        return to_pixels(picture, self._resolution)


def _versions(store: Store, held: DiskShelf) -> dict[str, str | None]:
    """As `image_versions`. An image whose file is away is taken as it was last encoded: a store may
    be trained on where its originals are not."""
    last = {name.rpartition(_AT)[0]: name.rpartition(_AT)[2] for name in held if _AT in name}
    found = image_versions(store)
    return {i: last.get(i) if version is None else version for i, version in found.items()}


def _through(
    shelf: MemoryShelf | DiskShelf,
    names: Sequence[str],
    compute: Callable[[Sequence[str]], list[Arrays]],
) -> list[Arrays]:
    """The arrays of every name: from the shelf, or computed now and put there."""
    held = {name: shelf.get(name) for name in names}
    found = {name: arrays for name, arrays in held.items() if arrays is not None}
    absent = [name for name in held if name not in found]
    if absent:
        for name, arrays in zip(absent, compute(absent), strict=True):
            shelf.put(name, arrays)
            found[name] = arrays
    return [found[name] for name in names]


def _in_blocks(
    names: Sequence[str], compute: Callable[[Sequence[str]], list[Arrays]]
) -> list[Arrays]:
    """Compute in blocks of one size, the last filled up with its own last member.

    A kernel may round differently for another batch size; like this an entry has the same bits
    whatever it was met with, and a resumed run reads what the killed one read.
    """
    made: list[Arrays] = []
    for start in range(0, len(names), BLOCK):
        block = list(names[start : start + BLOCK])
        filled = block + block[-1:] * (BLOCK - len(block))
        made.extend(compute(filled)[: len(block)])
    return made


def image_ingredients(models: Models, resolution: int) -> dict[str, Any]:
    """What a cached posterior depends on besides the image itself."""
    return {
        "vae": folder_hash(models.path / "vae"),
        "resolution": resolution,
        "crop": "centre, shorter side resized (Lanczos)",
        "dtype": "float16",
    }


def text_ingredients(models: Models) -> dict[str, Any]:
    """What a cached embedding depends on besides the prompt itself."""
    folders = [p for p in sorted(models.path.iterdir()) if p.name.startswith(("text_", "tokeni"))]
    return {"dtype": "float16", **{p.name: folder_hash(p) for p in folders if p.is_dir()}}


def network_ingredients(models: Models) -> dict[str, Any]:
    """What any error of the backbone depends on: its UNet, and what is added and asked for."""
    return {part: folder_hash(models.path / part) for part in ("unet", "scheduler")}


def folder_hash(folder: Path) -> str:
    """sha256 over the names and bytes of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as stream:
            digest.update(path.name.encode())
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
