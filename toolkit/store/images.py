"""Images in a store: written in small row groups, read one at a time by id.

Row groups of at most 100 rows keep a single read near 3 ms (3,000 rows: 162 ms).
"""

import hashlib
import io
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
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
_KEPT_GROUPS = 3
"""Row groups in memory: a referenced pair takes turns in two columns of its source and our row."""


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


def images_fingerprint(store: Store) -> str:
    """sha256 over every image_id with its content hash: the images without reading them again."""
    digest = hashlib.sha256()
    with connect(store) as con:
        rows = fetch(con, "SELECT image_id, content_hash FROM images ORDER BY ALL")
    for batch in rows.to_batches():
        for image_id, content in zip(*(column.to_pylist() for column in batch), strict=True):
            digest.update(f"{image_id}\x1f{content}\x1e".encode())
    return digest.hexdigest()


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

    def _find(self, image_id: str) -> tuple[Path, int] | None:
        if not self._files:
            return None
        key = image_id.encode()
        spot = int(np.searchsorted(self._ids, np.bytes_(key)))
        if spot == len(self._ids) or bytes(self._ids[spot]) != key:
            return None
        position = int(self._order[spot])
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


class CellReader:
    """Single cells and rows of Parquet files and Arrow streams, a few files open at a time."""

    def __init__(self) -> None:
        self._opened: OrderedDict[Path, pq.ParquetFile | pa.Table] = OrderedDict()
        self._groups: OrderedDict[tuple[Path, int, tuple[str, ...]], pa.Table] = OrderedDict()

    def read(self, path: Path, row: int, column: str) -> bytes | None:
        """The encoded image in a cell: bytes, or the {bytes, path} of `datasets`' image feature.

        OSError, ArrowInvalid, IndexError or KeyError where the cell is not there.
        """
        value = self.row(path, row, [column])[column]
        if isinstance(value, dict):
            if value.get("bytes") is None and value.get("path"):
                return (path.parent / value["path"]).read_bytes()
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
        if wanted not in self._groups:
            while len(self._groups) >= _KEPT_GROUPS:
                self._groups.popitem(last=False)
            self._groups[wanted] = file.read_row_group(group, columns=columns)
        self._groups.move_to_end(wanted)
        return dict(self._groups[wanted].slice(row, 1).to_pylist()[0])

    def _open(self, path: Path) -> pq.ParquetFile | pa.Table:
        if path in self._opened:
            self._opened.move_to_end(path)
            return self._opened[path]
        if len(self._opened) >= _OPEN_FILES:
            closed = self._opened.popitem(last=False)[1]
            if isinstance(closed, pq.ParquetFile):
                closed.close()
        if path.suffix == ".arrow":
            source = pa.memory_map(str(path)) if is_local(path) else path.open("rb")
            with pa.ipc.open_stream(source) as stream:
                self._opened[path] = stream.read_all()
        else:
            self._opened[path] = pq.ParquetFile(readable(path))
        return self._opened[path]
