"""Encoded images and prompts, and under fixed draws the reference's errors: nothing twice.

An image or prompt is encoded when it is first needed. The result is kept in host memory up to a
limit, or on the store's disk without one; what does not fit is encoded again at its next visit.
Values are stored in half precision and are the same numbers whether they were just computed or read
back.

On disk arrays are kept by name in uncompressed Arrow files, mapped into memory and never rewritten.
A folder has one kind of array under one set of ingredients (backbone, resolution ...) and is named
by their hash: a changed ingredient is another folder, so an entry is right or absent. Each process
writes parts of its own; a part is complete or absent.

The reference's errors are kept by image slot, so a flipped label needs no new ones.
"""

import hashlib
import json
import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from toolkit.errors import InputError, TrainingError
from toolkit.files.atomic import (
    parts,
    sync_folder,
    unfinished_name,
    write_part,
    write_text_whole,
)
from toolkit.image_files import decode
from toolkit.schema import column
from toolkit.store import Store
from toolkit.store.images import ImageReader, image_versions
from training.models import TEXT_PARTS, Models, encode_images, encode_prompts
from training.pairs import Pairs, to_pixels

Arrays = tuple[np.ndarray, ...]

BLOCK = 8
"""Images or prompts that are encoded at a time."""

_AT = "@"

PART_BYTES = 64_000_000
"""Bytes of new arrays in memory after which a part is written."""

_SUFFIX = ".arrow"
_SUM = "crc32"
"""The column with the checksum of each entry, looked at whenever the entry is read."""


def cache_folder(root: Path, kind: str, ingredients: Mapping[str, Any]) -> Path:
    """The folder of a kind of array under these ingredients, created with their `about.json`."""
    text = json.dumps(dict(ingredients), indent=2, sort_keys=True)
    folder = root / kind / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not (folder / "about.json").exists():
        write_text_whole(folder / "about.json", text + "\n")
    return folder


class DiskCache:
    """Names to tuples of numpy arrays; each position of the tuple has one shape and dtype."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._place: dict[str, tuple[int, int]] = {}
        self._parts: list[list[np.ndarray]] = []
        self._sums: list[np.ndarray | None] = []
        self._unwritten: dict[str, Arrays] = {}
        self._bytes = 0
        for path in sorted(folder.glob(f"part-*{_SUFFIX}")):
            self._open(path)

    def __contains__(self, name: str) -> bool:
        return name in self._place or name in self._unwritten

    def __len__(self) -> int:
        return len(self._place) + len(self._unwritten)

    def __iter__(self) -> Iterator[str]:
        yield from self._place
        yield from self._unwritten

    def get(self, name: str) -> Arrays | None:
        """The arrays under a name, or None. Those from a file are read-only views of its map."""
        if name in self._place:
            part, row = self._place[name]
            arrays = tuple(array[row] for array in self._parts[part])
            known = self._sums[part]
            if known is None or known[row] == _checksum(arrays):
                return arrays
            del self._place[name]  # a damaged entry is absent
        return self._unwritten.get(name)

    def put(self, name: str, arrays: Arrays) -> None:
        """Keep arrays in memory until a part is full, or `flush`."""
        if name in self:
            return
        self._unwritten[name] = arrays
        self._bytes += sum(array.nbytes for array in arrays)
        if self._bytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write new arrays as a part; they are on the disk when this returns."""
        if not self._unwritten:
            return
        new, self._unwritten, self._bytes = self._unwritten, {}, 0
        columns = [np.stack(arrays) for arrays in zip(*new.values(), strict=True)]
        about = {"arrays": json.dumps([[str(c.dtype), list(c.shape[1:])] for c in columns])}
        fields = [pa.field("name", pa.string())]
        data: list[pa.Array] = [pa.array(list(new))]
        sums = [_checksum(arrays) for arrays in new.values()]
        for index, array in enumerate(columns):
            width = array.nbytes // len(array)
            kind = pa.binary(width)
            fields.append(pa.field(f"array_{index}", kind))
            buffer = pa.py_buffer(np.ascontiguousarray(array))
            data.append(pa.FixedSizeBinaryArray.from_buffers(kind, len(array), [None, buffer]))
        fields.append(pa.field(_SUM, pa.uint32()))
        data.append(pa.array(sums, pa.uint32()))
        table = pa.Table.from_arrays(data, schema=pa.schema(fields, metadata=about))
        self._open(_write(self.folder, table))

    def _open(self, path: Path) -> None:
        """Take a part's entries; one that cannot be read has none."""
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
            shapes = json.loads(table.schema.metadata[b"arrays"])
        except (pa.ArrowException, ValueError, KeyError, OSError):
            return
        arrays = []
        for index, (dtype, shape) in enumerate(shapes):
            chunk = table.column(index + 1).chunk(0)
            flat = np.frombuffer(chunk.buffers()[1], dtype=dtype)
            arrays.append(flat.reshape(len(chunk), *shape))
        for row, name in enumerate(table.column("name").to_pylist()):
            self._place[name] = (len(self._parts), row)
        self._parts.append(arrays)
        checked = _SUM in table.column_names  # older versions noted none
        self._sums.append(table[_SUM].to_numpy() if checked else None)


def _checksum(arrays: Arrays) -> int:
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, total)
    return total


def _write(folder: Path, table: pa.Table) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
    aside = unfinished_name(path)
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


class MemoryCache:
    """Names to arrays, until a number of bytes shared with other caches is used up."""

    def __init__(self, budget: list[int]) -> None:
        self._budget = budget
        self._arrays: dict[str, Arrays] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def get(self, name: str) -> Arrays | None:
        """The arrays under a name, or None."""
        return self._arrays.get(name)

    def put(self, name: str, arrays: Arrays) -> None:
        """Keep arrays if they fit."""
        size = sum(array.nbytes for array in arrays)
        if self._budget[0] >= size:
            self._budget[0] -= size
            self._arrays[name] = arrays

    def flush(self) -> None:
        """Nothing to do: memory ends with its process."""


class Encoded:
    """Posteriors of images and embeddings of prompts of one backbone at one resolution."""

    def __init__(
        self,
        store: Store,
        models: Models,
        resolution: int,
        *,
        memory_gb: float = 0.0,
        hashes: Mapping[str, str] | None = None,
    ) -> None:
        """With `hashes` (of `training.models.hash_parts`) the cache is on the store's disk, under
        these; else in host memory up to `memory_gb`."""
        self.images = ImageReader(store)
        self._models = models
        self._resolution = resolution
        budget = [int(memory_gb * 1e9)]
        self._versions: dict[str, str | None] = {}
        self._posteriors: MemoryCache | DiskCache = MemoryCache(budget)
        self._prompts: MemoryCache | DiskCache = MemoryCache(budget)
        if hashes is not None:
            root = store.folder("caches")
            posteriors = image_ingredients(hashes, resolution)
            self._posteriors = DiskCache(cache_folder(root, "posteriors", posteriors))
            self._versions = _versions(store, self._posteriors)
            self._prompts = DiskCache(cache_folder(root, "prompts", text_ingredients(hashes)))

    def posteriors(self, image_ids: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """(R, 2C, h, w) posterior mean and log-variance, and (R, 6) time ids, on the device."""
        names = [self._entry(image_id) for image_id in image_ids]
        of_entry = dict(zip(names, image_ids, strict=True))
        rows = _get_or_compute(
            self._posteriors,
            names,
            lambda some: self._encode_block_of_images([of_entry[name] for name in some]),
        )
        device = self._models.vae.device
        mean_and_logvar = torch.from_numpy(np.stack([row[0] for row in rows]))
        time_ids = torch.from_numpy(np.stack([row[1] for row in rows]))
        return mean_and_logvar.to(device).float(), time_ids.to(device)

    def prompts(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(N, tokens, width) hidden states and (N, width) pooled embeddings, on the device."""
        rows = _get_or_compute(self._prompts, prompts, self._encode_block_of_prompts)
        device = self._models.vae.device
        states = torch.from_numpy(np.stack([row[0] for row in rows])).to(device).float()
        if len(rows[0]) == 1:
            return states, None
        return states, torch.from_numpy(np.stack([row[1] for row in rows])).to(device).float()

    def flush(self) -> None:
        """Write to the disk what is meant to be there."""
        self._posteriors.flush()
        self._prompts.flush()

    def missing_images(self, image_ids: Sequence[str]) -> list[str]:
        """Those that are not cached yet, each once."""
        cache = self._posteriors
        return [i for i in dict.fromkeys(image_ids) if self._entry(i) not in cache]

    def missing_prompts(self, prompts: Sequence[str]) -> list[str]:
        """Those that are not cached yet, each once."""
        return [p for p in dict.fromkeys(prompts) if p not in self._prompts]

    def _entry(self, image_id: str) -> str:
        """An image's name in the cache: on disk, other bytes under its id are another entry."""
        version = self._versions.get(image_id)
        return image_id if version is None else f"{image_id}{_AT}{version}"

    def _encode_block_of_images(self, image_ids: Sequence[str]) -> list[Arrays]:
        pixels, ids = zip(*(self._pixels(i) for i in image_ids), strict=True)
        stacked = torch.stack(pixels).to(self._models.vae.device)
        encoded = encode_images(self._models, stacked).half().cpu().numpy()
        times = np.array(ids, np.int32)
        return [(encoded[k].copy(), times[k]) for k in range(len(image_ids))]

    def _encode_block_of_prompts(self, prompts: Sequence[str]) -> list[Arrays]:
        parts = [part for part in encode_prompts(self._models, prompts) if part is not None]
        halves = [part.half().cpu().numpy() for part in parts]
        return [tuple(part[k].copy() for part in halves) for k in range(len(prompts))]

    def _pixels(self, image_id: str) -> tuple[torch.Tensor, list[int]]:
        try:
            image = decode(self.images.read(image_id)).image
        except InputError as problem:
            raise TrainingError(
                f"Image {image_id} cannot be trained on: {problem}. Restore its source, or drop "
                "its pairs."
            ) from problem
        return to_pixels(image, self._resolution)


def _versions(store: Store, cache: DiskCache) -> dict[str, str | None]:
    """As `image_versions`; an image whose file cannot be reached keeps the version that was last
    encoded, since a store may be trained on where its originals are not."""
    last = {name.rpartition(_AT)[0]: name.rpartition(_AT)[2] for name in cache if _AT in name}
    now = image_versions(store)
    return {i: last.get(i) if version is None else version for i, version in now.items()}


def _get_or_compute(
    cache: MemoryCache | DiskCache,
    names: Sequence[str],
    compute: Callable[[Sequence[str]], list[Arrays]],
) -> list[Arrays]:
    """The arrays of every name: from the cache, or computed now and put into it."""
    cached = {name: cache.get(name) for name in names}
    known = {name: arrays for name, arrays in cached.items() if arrays is not None}
    missing = [name for name in cached if name not in known]
    if missing:
        for name, arrays in zip(missing, _in_blocks(missing, compute), strict=True):
            cache.put(name, arrays)
            known[name] = arrays
    return [known[name] for name in names]


def _in_blocks(
    names: Sequence[str], compute: Callable[[Sequence[str]], list[Arrays]]
) -> list[Arrays]:
    """Compute in blocks of one size, the last one padded with its own last member.

    A kernel may round differently for another batch size. With a fixed one an entry has the same
    bits whatever it is encoded with, and a resumed run reads what the killed one read.
    """
    computed: list[Arrays] = []
    for start in range(0, len(names), BLOCK):
        block = list(names[start : start + BLOCK])
        padded = block + block[-1:] * (BLOCK - len(block))
        computed.extend(compute(padded)[: len(block)])
    return computed


def image_ingredients(hashes: Mapping[str, str], resolution: int) -> dict[str, Any]:
    """What a cached posterior depends on besides the image itself."""
    return {
        "vae": hashes["vae"],
        "resolution": resolution,
        "crop": "centre, shorter side resized (Lanczos)",
        "dtype": "float16",
    }


def text_ingredients(hashes: Mapping[str, str]) -> dict[str, Any]:
    """What a cached embedding depends on besides the prompt itself."""
    return {"dtype": "float16", **{k: v for k, v in hashes.items() if k.startswith(TEXT_PARTS)}}


def network_ingredients(hashes: Mapping[str, str]) -> dict[str, Any]:
    """What any error of the backbone depends on: its UNet and its noise schedule."""
    return {part: hashes[part] for part in ("unet", "scheduler")}


def image_bytes(models: Models, resolution: int) -> int:
    """Bytes of one cached posterior: mean and log-variance in half precision, and time ids."""
    channels, height, width = models.latent_shape(resolution)
    return 2 * channels * height * width * 2 + 6 * 4


def prompt_bytes(models: Models) -> int:
    """Bytes of one cached prompt in half precision."""
    widths = [encoder.config.hidden_size for encoder in models.text_encoders]
    tokens = models.tokenizers[0].model_max_length
    pooled = models.text_encoders[-1].config.projection_dim if models.family == "sdxl" else 0
    return int(2 * (tokens * sum(widths) + pooled))


REFERENCE = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("draw", pa.int32(), "which fixed draw", nullable=False),
        column("err_ref_0", pa.float32(), "reference's mean squared error on image_0"),
        column("err_ref_1", pa.float32(), "the same on image_1"),
    ]
)


class ReferenceErrors:
    """(N, K, 2) errors of N pairs under K fixed draws; NaN where not computed yet."""

    def __init__(
        self, pairs: Pairs, draws: int, store: Store | None, ingredients: dict[str, Any]
    ) -> None:
        """Kept in memory, and with `store` also on its disk, under `ingredients`."""
        self._pairs = pairs
        self._spot = {name: k for k, name in enumerate(pairs.pair_id.tolist())}
        self._errors = np.full((len(pairs), draws, 2), np.nan, np.float32)
        self._fresh: list[tuple[np.ndarray, np.ndarray]] = []
        self._folder = None
        if store is not None:
            self._folder = cache_folder(store.folder("caches"), "reference", ingredients)
            self._read()

    def known(self, pair: list[int], draw: list[int], label: np.ndarray) -> np.ndarray | None:
        """(2, B) errors on chosen and rejected, or None unless every one is known."""
        slots = self._errors[pair, draw]
        if np.isnan(slots).any():
            return None
        sides = np.where(label[:, None] == 1, slots, slots[:, ::-1])
        return np.ascontiguousarray(sides.T)

    def put(self, pair: np.ndarray, draw: np.ndarray, errors: np.ndarray) -> None:
        """Add errors by slot, (2, B); of each pair and draw the first value is kept."""
        fresh = np.isnan(self._errors[pair, draw, 0])
        first = np.unique(pair * self._errors.shape[1] + draw, return_index=True)[1]
        fresh &= np.isin(np.arange(len(pair)), first)
        pair, draw, errors = pair[fresh], draw[fresh], errors[:, fresh]
        self._errors[pair, draw] = errors.T
        if len(pair):
            self._fresh.append((pair, draw))

    def flush(self) -> None:
        """Write the errors that are new since the last call, if a store was given."""
        fresh, self._fresh = self._fresh, []
        if self._folder is None or not fresh:
            return
        pair = np.concatenate([p for p, _ in fresh])
        draw = np.concatenate([d for _, d in fresh])
        errors = self._errors[pair, draw]
        columns = [self._pairs.pair_id[pair], draw.astype(np.int32), errors[:, 0], errors[:, 1]]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, REFERENCE, strict=True)]
        write_part(self._folder, pa.Table.from_arrays(arrays, schema=REFERENCE))

    def recall(self, rank: Path) -> None:
        """Read what a rank computed before it was stopped from its trajectory, so that a resumed
        run has the same bits whatever batches come next."""
        names = [*REFERENCE.names, "kind"]
        for path in parts(rank):
            self._take(pq.read_table(path, columns=names, filters=[("kind", "=", "train")]))

    def _read(self) -> None:
        assert self._folder is not None
        for path in parts(self._folder):
            with suppress(OSError, pa.ArrowException):  # what is damaged is computed again
                self._take(pq.read_table(path, page_checksum_verification=True))

    def _take(self, table: pa.Table) -> None:
        where = np.array([self._spot.get(name, -1) for name in table["pair_id"].to_pylist()], int)
        draw = table["draw"].to_numpy()
        here = (where >= 0) & (draw < self._errors.shape[1])
        both = np.stack([table["err_ref_0"].to_numpy(), table["err_ref_1"].to_numpy()], axis=1)
        self._errors[where[here], draw[here]] = both[here]
