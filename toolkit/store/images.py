"""Images in a store: written in small row groups, read one at a time by id.

Row groups of at most 100 rows keep a single read near 3 ms (3,000 rows: 162 ms).
"""

import hashlib
import io
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from toolkit.errors import InputError
from toolkit.files.atomic import parts, write_part
from toolkit.files.remote import is_local, place, readable
from toolkit.image_files import Decoded, thumbnail
from toolkit.schema import IMAGES, THUMBNAILS, conform
from toolkit.store.connection import connect, fetch
from toolkit.store.layout import Store

ROW_GROUP = 100
REFERENCE_GROUP = 2000
"""References are small: a thousand of them are found as fast as one image's bytes."""
_OPEN_FILES = 64
_KEPT_BYTES = 256_000_000
"""Row groups in memory: a referenced pair takes turns in two columns of its source and our row."""
STREAMED_BYTES = 128_000_000
"""A row group with more bytes than this in the columns that are read is read page by page."""
_BATCH_BYTES = 16_000_000
_STREAMS = 2
"""One for each image column of a source."""


def image_row(image_id: str, data: bytes, decoded: Decoded) -> dict[str, Any]:
    """A row of the images table that carries its bytes."""
    return {
        "image_id": image_id,
        "content_hash": decoded.content_hash,
        "format": decoded.format,
        "width": decoded.image.width,
        "height": decoded.image.height,
        "bytes": data,
    }


def thumbnail_row(image_id: str, decoded: Decoded) -> dict[str, Any] | None:
    """A row of the thumbnails table, or None where the original is small enough."""
    data = thumbnail(decoded.image)
    if data is None:
        return None
    width, height = Image.open(io.BytesIO(data)).size
    return {"image_id": image_id, "bytes": data, "width": width, "height": height}


def write_images(store: Store, rows: Iterable[dict[str, Any]]) -> None:
    """Add one part of images. Rows as of `image_row`, or with ref_file, ref_row, ref_column."""
    table = pa.Table.from_pylist(list(rows), schema=IMAGES)
    if table.num_rows:
        write_part(store.folder("images"), table, row_group_size=ROW_GROUP)


def write_thumbnails(store: Store, rows: Iterable[dict[str, Any]]) -> None:
    """Add one part of thumbnails."""
    table = conform(pa.Table.from_pylist(list(rows), schema=THUMBNAILS), THUMBNAILS)
    if table.num_rows:
        write_part(store.folder("thumbnails"), table, row_group_size=ROW_GROUP)


def absent_images(store: Store, image_ids: pa.ChunkedArray) -> list[str]:
    """The ids that the store has no image of, sorted."""
    with connect(store) as con:
        con.register("wanted", pa.table({"image_id": image_ids}))
        absent = fetch(
            con, "SELECT DISTINCT image_id FROM wanted ANTI JOIN images USING (image_id) ORDER BY 1"
        )
    return list(absent[0].to_pylist())


def relinked_files(store: Store, image_ids: pa.ChunkedArray) -> list[tuple[str, str]]:
    """(file, where it leads now) of the files these images are in by reference, where a link that
    was not there at ingest leads elsewhere; sorted."""
    with connect(store) as con:
        con.register("wanted", pa.table({"image_id": image_ids}))
        files = fetch(
            con,
            "SELECT DISTINCT ref_file FROM images JOIN wanted USING (image_id)"
            " WHERE ref_file IS NOT NULL AND NOT contains(ref_file, '://') ORDER BY 1",
        )[0].to_pylist()
    leads = ((file, os.path.realpath(file)) for file in files)
    return [(file, real) for file, real in leads if real != file]


def images_fingerprint(store: Store) -> str:
    """sha256 over every image_id with its content hash: the images without reading them again."""
    digest = hashlib.sha256()
    with connect(store) as con:
        rows = fetch(con, "SELECT image_id, content_hash FROM images ORDER BY ALL")
    for batch in rows.to_batches():
        for image_id, content in zip(*(column.to_pylist() for column in batch), strict=True):
            digest.update(f"{image_id}\x1f{content}\x1e".encode())
    return digest.hexdigest()


def content_hashes(store: Store) -> pa.Table:
    """image_id, content_hash of the images whose bytes were read."""
    with connect(store) as con:
        sql = "SELECT image_id, content_hash FROM images WHERE content_hash IS NOT NULL"
        return fetch(con, sql)


def image_versions(store: Store) -> dict[str, str | None]:
    """image_id -> what its bytes are known by: their hash, or for a reference the size and time of
    change of the file it points into. None where that file is away or on the web."""
    columns = ["image_id", "content_hash", "ref_file"]
    of_file: dict[str, str | None] = {}
    versions: dict[str, str | None] = {}
    for part in parts(store.folder("images")):
        table = pq.read_table(readable(part), columns=columns)
        for image_id, content, named in zip(*(table[c].to_pylist() for c in columns), strict=True):
            if named is None:
                versions[image_id] = (content or "")[:16]
            elif named in of_file:
                versions[image_id] = of_file[named]
            else:
                versions[image_id] = of_file[named] = _file_version(named)
    return versions


def _file_version(named: str) -> str | None:
    if named.lower().startswith(_WEB):
        return None
    try:
        about = place(named).stat()
    except OSError:
        return None
    return f"{about.st_size:x}-{int(about.st_mtime * 1e6):x}"


_WEB = ("http:", "https:", "ftp:", "ftps:")
_REFERENCE = ("ref_file", "ref_column", "ref_row")


class ImageReader:
    """Encoded bytes by image_id. Holds an index of ids and a few open files; not thread-safe."""

    def __init__(self, store: Store, table: str = "images") -> None:
        self._files = parts(store.folder(table))
        self._cells = CellReader()
        columns = [pq.read_table(readable(file), columns=["image_id"])[0] for file in self._files]
        lengths = [len(column) for column in columns]
        ids = np.array([i.encode() for c in columns for i in c.to_pylist()] or [b""], dtype="S")
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]
        self._starts = np.cumsum([0, *lengths])
        self._of_source: pa.Table | None = None

    def __contains__(self, image_id: str) -> bool:
        return self._find(image_id) is not None

    def read(self, image_id: str) -> bytes:
        """The encoded image. InputError (one clause) where it is absent or its source moved."""
        place = self._find(image_id)
        if place is None:
            raise InputError(f"the store has no image {image_id}")
        row = self._cells.row(*place)
        if row.get("bytes") is not None:
            return bytes(row["bytes"])
        return self._referenced(image_id, row)

    def in_stored_order(self, image_ids: Sequence[str]) -> list[str]:
        """The same ids in an order that reads every row group once; absent ones come last.

        Images of ours in the order of the parts; references by file, column and row.
        """
        position = self._positions(image_ids)
        there = np.flatnonzero(position >= 0)
        table = self._references().take(pa.array(position[there]))
        table = table.append_column("position", pa.array(position[there]))
        keys = [(name, "ascending") for name in (*_REFERENCE, "position")]
        order = there[pc.sort_indices(table, sort_keys=keys).to_numpy()]
        return [image_ids[k] for k in (*order.tolist(), *np.flatnonzero(position < 0).tolist())]

    def reads_page_by_page(self, image_ids: Sequence[str]) -> Path | None:
        """A source of these images with row groups so large that they are read page by page.

        There, reading in stored order is fast; in any other order an image costs all pages before
        it. None where every image is found at once.
        """
        position = self._positions(image_ids)
        named = self._references().take(pa.array(position[position >= 0])).select(_REFERENCE[:2])
        named = named.group_by(list(_REFERENCE[:2])).aggregate([]).drop_null()
        for file, column in zip(*(c.to_pylist() for c in named.columns), strict=True):
            if self._cells.largest_group(place(file), [column]) > STREAMED_BYTES:
                return place(file)
        return None

    def _references(self) -> pa.Table:
        """`_REFERENCE` of every image, in the order of the parts; nulls for images of ours."""
        if self._of_source is None:
            read = [pq.read_table(readable(file), columns=list(_REFERENCE)) for file in self._files]
            self._of_source = (
                pa.concat_tables(read) if read else IMAGES.empty_table().select(_REFERENCE)
            )
        return self._of_source

    def _positions(self, image_ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Row of each image over all parts; -1 where it is absent."""
        keys = np.array([name.encode() for name in image_ids] or [b""], dtype="S")
        spots = np.minimum(np.searchsorted(self._ids, keys), len(self._ids) - 1)
        present = (self._ids[spots] == keys) & (len(self._files) > 0)
        return np.where(present, self._order[spots], -1)[: len(image_ids)]

    def _find(self, image_id: str) -> tuple[Path, int] | None:
        position = int(self._positions([image_id])[0])
        if position < 0:
            return None
        file = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self._files[file], position - int(self._starts[file])

    def _referenced(self, image_id: str, row: dict[str, Any]) -> bytes:
        named = row.get("ref_file") or ""
        if named.lower().startswith(_WEB):
            # Else whoever made the store decides which addresses a curator's machine contacts.
            raise InputError(f"image {image_id} is a web address, and those are not fetched")
        source = place(named)
        try:
            if row["ref_row"] is None:
                return source.read_bytes()
            value = self._cells.read(source, row["ref_row"], row["ref_column"])
        except (OSError, pa.ArrowInvalid, IndexError, KeyError) as problem:
            raise InputError(
                f"image {image_id} is in {source}, which can no longer be read ({problem})"
            ) from problem
        if value is None:
            raise InputError(f"image {image_id} has no bytes in {source}")
        return value


@lru_cache(maxsize=4096)
def _real_absolute(folder: str) -> str:
    return os.path.realpath(folder)


def _real_folder(folder: str) -> str:
    return _real_absolute(os.path.abspath(folder))  # noqa: PTH100  (the working folder may change)


def real_path(path: Path) -> str:
    """The absolute path of a file, links followed; a loop of links is left as it is."""
    if not is_local(path):
        return str(path)
    folder, name = os.path.split(path)
    if name in ("", ".", ".."):
        return os.path.realpath(path)
    whole = os.path.join(_real_folder(folder), name)  # noqa: PTH118  (a million times)
    return os.path.realpath(whole) if os.path.islink(whole) else whole  # noqa: PTH114


def is_inside(folder: Path, file: str) -> bool:
    """Whether a `real_path` is below a folder. Elsewhere, whoever made a source would choose a file
    of this machine."""
    return not is_local(folder) or file.startswith(_real_folder(str(folder)).rstrip("/") + "/")


class CellReader:
    """Single cells and rows of Parquet files and Arrow streams, a few files open at a time.

    Row groups that were read are kept while they take less than `_KEPT_BYTES`. A larger one is read
    page by page, from its start or from the row that was read last.
    """

    def __init__(self) -> None:
        self._opened: OrderedDict[Path, pq.ParquetFile | pa.Table] = OrderedDict()
        self._groups: OrderedDict[_Group, pa.Table] = OrderedDict()
        self._streams: OrderedDict[_Group, _Stream] = OrderedDict()

    def read(self, path: Path, row: int, column: str) -> bytes | None:
        """The encoded image in a cell: bytes, or the {bytes, path} of `datasets`' image feature.

        OSError, ArrowInvalid, IndexError or KeyError where the cell is not there.
        """
        value = self.row(path, row, [column])[column]
        if isinstance(value, dict):
            if value.get("bytes") is None and value.get("path"):
                named = path.parent / value["path"]
                if not is_inside(path.parent, real_path(named)):
                    raise InputError(f"the file is outside the folder of its source ({named})")
                return named.read_bytes()
            value = value.get("bytes")
        return None if value is None else bytes(value)

    def row(self, path: Path, row: int, columns: list[str] | None = None) -> dict[str, Any]:
        """The values of one row."""
        file = self._open(path)
        if isinstance(file, pa.Table):  # memory-mapped: nothing is read but the row
            chosen = file if columns is None else file.select(columns)
            return dict(chosen.slice(row, 1).to_pylist()[0])
        group = 0
        while row >= (size := file.metadata.row_group(group).num_rows):
            row -= size
            group += 1
        wanted = (path, group, tuple(columns or ()))
        if group_bytes(file, group, columns) > STREAMED_BYTES:
            return self._stream(wanted, row).row(row)
        if wanted not in self._groups:
            self._groups[wanted] = file.read_row_group(group, columns=columns)
            while len(self._groups) > 1 and self._kept() > _KEPT_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end(wanted)
        return dict(self._groups[wanted].slice(row, 1).to_pylist()[0])

    def _kept(self) -> int:
        return sum(table.nbytes for table in self._groups.values())

    def largest_group(self, path: Path, columns: list[str]) -> int:
        """Bytes of the file's largest row group in these columns, uncompressed.

        0 where the file cannot be read, or needs no row groups.
        """
        try:
            file = self._open(path)
        except (OSError, pa.ArrowInvalid):
            return 0
        if isinstance(file, pa.Table):
            return 0
        groups = range(file.metadata.num_row_groups)
        return max((group_bytes(file, group, columns) for group in groups), default=0)

    def _stream(self, wanted: "_Group", row: int) -> "_Stream":
        if wanted not in self._streams or row < self._streams[wanted].start:
            self._streams.pop(wanted, None)
            while len(self._streams) >= _STREAMS:
                self._streams.popitem(last=False)
            self._streams[wanted] = _Stream(*wanted)
        self._streams.move_to_end(wanted)
        return self._streams[wanted]

    def _open(self, path: Path) -> pq.ParquetFile | pa.Table:
        if path in self._opened:
            self._opened.move_to_end(path)
            return self._opened[path]
        if len(self._opened) >= _OPEN_FILES:
            closed = self._opened.popitem(last=False)[1]
            if isinstance(closed, pq.ParquetFile):
                closed.close()
        with path.open("rb") as stream:
            parquet = stream.read(4) == b"PAR1"
        if parquet:
            self._opened[path] = pq.ParquetFile(readable(path))
        else:
            with open_arrow(path) as file:
                self._opened[path] = pa.Table.from_batches(file.batches, file.schema)
        return self._opened[path]


_Group: TypeAlias = tuple[Path, int, tuple[str, ...]]
"""A row group of a file, and the columns that are read of it (none: all)."""


class _Stream:
    """A row group read forward, one batch of rows in memory."""

    def __init__(self, path: Path, group: int, columns: tuple[str, ...]) -> None:
        file = pq.ParquetFile(readable(path), pre_buffer=False, buffer_size=1 << 20)
        rows = file.metadata.row_group(group).num_rows
        size = group_bytes(file, group, list(columns) or None)
        self._batches = file.iter_batches(
            batch_size=max(1, rows * _BATCH_BYTES // size),
            row_groups=[group],
            columns=list(columns) or None,
            use_threads=False,
        )
        self.start = 0
        """First row of the batch in memory."""
        self._batch = next(self._batches)

    def row(self, row: int) -> dict[str, Any]:
        """The values of a row from `start` on. IndexError where the group is shorter."""
        while row >= self.start + self._batch.num_rows:
            self.start += self._batch.num_rows
            self._batch = next(self._batches, None)
            if self._batch is None:
                raise IndexError(row)
        return dict(self._batch.slice(row - self.start, 1).to_pylist()[0])


def group_bytes(file: pq.ParquetFile, group: int, columns: list[str] | None) -> int:
    """Uncompressed bytes of these columns (None: all) in a row group."""
    about = file.metadata.row_group(group)
    cells = [about.column(k) for k in range(about.num_columns)]
    return sum(
        cell.total_uncompressed_size
        for cell in cells
        if columns is None or cell.path_in_schema.split(".")[0] in columns
    )


@dataclass(frozen=True)
class ArrowFile:
    """An Arrow file's columns, and its record batches, read one by one."""

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]


@contextmanager
def open_arrow(path: Path) -> Iterator[ArrowFile]:
    """The batches of an Arrow file: a stream, as `datasets` saves it, or the file that polars and
    pandas write (Feather). Local files are mapped, not read."""
    with pa.memory_map(str(path)) if is_local(path) else path.open("rb") as source:
        if source.read(6) == b"ARROW1":
            source.seek(0)
            with pa.ipc.open_file(source) as file:
                each = (file.get_batch(number) for number in range(file.num_record_batches))
                yield ArrowFile(file.schema, each)
        else:
            source.seek(0)
            with pa.ipc.open_stream(source) as stream:
                yield ArrowFile(stream.schema, stream)
