"""The images of new rows: identified, decoded once, and refused where they are broken or others.

Those kept by reference are not opened: `make_thumbnails` does that afterwards.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa

from toolkit.errors import InputError
from toolkit.files.remote import place, why
from toolkit.image_files import content_hash, decode
from toolkit.ingest.source import Batch, Cells, ImageData, ImageMode, Reference, SourceImage
from toolkit.ingest.summary import Summary
from toolkit.progress import SILENT, Progress
from toolkit.schema import IMAGES, THUMBNAILS, from_tuples
from toolkit.sharding import Shard
from toolkit.store.connection import connect, fetch
from toolkit.store.existing import Holdings, holdings, unwritable, writing
from toolkit.store.images import (
    CellReader,
    ImageReader,
    image_row,
    thumbnail_row,
    write_thumbnails,
)
from toolkit.store.layout import Store
from toolkit.store.locks import adding

_TABLES = {"thumbnails": THUMBNAILS, "images": IMAGES}

Sides: TypeAlias = "tuple[Sequence[ImageData], Sequence[ImageData]] | None"
Ids: TypeAlias = tuple[list[str], list[str]]


class _Decoded(NamedTuple):
    image: dict[str, Any]
    thumbnail: dict[str, Any] | None


Decoded: TypeAlias = dict[tuple[str, ImageData], "_Decoded | str"]
"""(image_id, data) -> the rows of a decoded image, or what is wrong with it."""


class NewImages:
    """Images that wait to be written, and how a batch's join them."""

    def __init__(self, mode: ImageMode, have: Holdings, pool: ThreadPoolExecutor) -> None:
        self.size = 0
        """Bytes of encoded images that wait."""
        self.count = 0
        """Images that wait."""
        self._mode, self._have, self._pool = mode, have, pool
        self._cells = CellReader()
        self._rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _TABLES}

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return sum(map(len, self._rows.values()))

    def drain(self) -> dict[str, pa.Table]:
        """The tables of what waits, which then waits no longer."""
        tables = {name: from_tuples(schema, self._rows[name]) for name, schema in _TABLES.items()}
        for rows in self._rows.values():
            rows.clear()
        self.size = self.count = 0
        return tables

    def identified(self, batch: Batch) -> tuple[Ids, Sides]:
        """The images' ids, and their data: under `copy` the bytes of cells that are new."""
        uids = (batch.rows["image_0"].to_pylist(), batch.rows["image_1"].to_pylist())
        sides = batch.images
        if sides is not None and self._mode == "copy":
            first, second = (
                [self._with_cell(*image) for image in zip(*side, strict=True)]
                for side in zip(uids, sides, strict=True)
            )
            sides = (first, second)
        if sides is None or isinstance(sides[0], Cells):  # nothing is read: no bytes, no hash
            return ([uid or "" for uid in uids[0]], [uid or "" for uid in uids[1]]), sides
        ids = [
            [
                content_hash(data) if uid is None and isinstance(data, bytes) else uid or ""
                for uid, data in zip(*side, strict=True)
            ]
            for side in zip(uids, sides, strict=True)
        ]
        return (ids[0], ids[1]), sides

    def with_beside(self, batch: Batch, summary: Summary) -> Batch:
        """The batch with the images beside its pairs queued, and their ids among its columns."""
        extra = batch.extra
        for name, images in batch.beside.items():
            ids = [None if image is None else self._beside(image) for image in images]
            summary.unread_images += sum(map(bool, images)) - sum(map(bool, ids))
            extra = extra.append_column(name, pa.array(ids, pa.string()))
        return replace(batch, extra=extra)

    def _beside(self, image: SourceImage) -> str | None:
        """The id of an image that no pair is made of; None where it cannot be read."""
        data = self._with_cell(image.uid, image.data)
        image_id = image.uid or (content_hash(data) if data and isinstance(data, bytes) else None)
        if image_id in self._have.images or data is None:
            return image_id
        decoded = _decode((image_id or "", data)) if self._reads(data) else None
        if image_id is None or isinstance(decoded, str):
            return None
        self._queue_image(image_id, data, decoded)
        return image_id

    def _with_cell(self, uid: str | None, data: ImageData) -> ImageData:
        if not isinstance(data, Reference) or data.row is None or uid in self._have.images:
            return data
        return self._cells.read(place(data.file), data.row, data.column or "") or b""

    def decoded(self, ids: Ids, sides: Sides, faults: list[str | None]) -> Decoded | None:
        """Every new image of a row without fault; None where no image of the batch is read."""
        if sides is None or isinstance(sides[0], Cells):
            return None
        images = [
            (image_id, data)
            for side in zip(ids, sides, strict=True)
            for image_id, data, problem in zip(*side, faults, strict=True)
            if problem is None and self._reads(data)
        ]
        fresh = dict.fromkeys(image for image in images if image[0] not in self._have.images)
        return dict(zip(fresh, self._pool.map(_decode, fresh), strict=True)) if images else None

    def _reads(self, data: ImageData) -> bool:
        if isinstance(data, Reference):
            return data.row is None and self._mode == "copy"
        return data is not None

    def take(
        self, ids: tuple[str, str], data: tuple[ImageData, ImageData], decoded: Decoded | None
    ) -> str | None:
        """Queue a row's new images, both or none; or say what is wrong with one of them."""
        if decoded is not None:
            for slot in (0, 1):
                if problem := self._image_fault(slot, ids, data, decoded):
                    return f"image_{slot}: {problem}"
        have = self._have.images
        for image_id, image in zip(ids, data, strict=True):
            if image_id not in have and image is not None:
                self._queue_image(image_id, image, decoded and decoded.get((image_id, image)))
        return None

    def _image_fault(
        self,
        slot: int,
        ids: tuple[str, str],
        data: tuple[ImageData, ImageData],
        decoded: Decoded,
    ) -> str | None:
        image = (ids[slot], data[slot])
        outcome = decoded.get(image)
        if isinstance(outcome, str):
            return outcome
        twice = ids[0] == ids[1] and data[slot] != data[0] and isinstance(data[slot], bytes)
        if not twice and not self._has_other_bytes(*image):
            return None
        broken = _decode(image)
        other = f"its uid names other bytes in this store ({ids[slot]})"
        return broken if isinstance(broken, str) else other

    def _has_other_bytes(self, image_id: str, data: ImageData) -> bool:
        stored = self._have.images.get(image_id)
        return stored is not None and isinstance(data, bytes) and content_hash(data) != stored

    def _queue_image(
        self, image_id: str, data: bytes | Reference, decoded: "_Decoded | str | Decoded | None"
    ) -> None:
        if isinstance(decoded, _Decoded):
            self._queue("images", decoded.image)
            if decoded.thumbnail and image_id not in self._have.thumbnails_alone:
                self._queue("thumbnails", decoded.thumbnail)
            self._have.images[image_id] = decoded.image["content_hash"]
        elif isinstance(data, Reference):
            self._rows["images"].append((image_id, None, None, None, None, None, *data))
            self._have.images[image_id] = None
        self.count += 1

    def _queue(self, table: str, row: dict[str, Any]) -> None:
        self._rows[table].append(tuple(row.get(name) for name in _TABLES[table].names))
        self.size += len(row["bytes"])


def _decode(image: tuple[str, ImageData]) -> _Decoded | str:
    image_id, data = image
    file = data.file if isinstance(data, Reference) else ""
    try:
        if isinstance(data, Reference):
            data = place(file).read_bytes()
        decoded = decode(data)
    except InputError as problem:
        return f"{problem} (file {file})" if file else str(problem)
    except OSError as problem:
        return f"the image file cannot be read ({why(problem)}: {file})"
    return _Decoded(image_row(image_id, data or b"", decoded), thumbnail_row(image_id, decoded))


UNIT = 100
"""Images that a shard gets together: neighbours are in one row group."""
_CHUNK = 64
"""Images in memory together, encoded."""
_FLUSH = 2000
"""Images after which a part is written."""


@dataclass
class Drawn:
    """How many images got a thumbnail, need none, or could not be read."""

    made: int = 0
    small: int = 0
    """Images that are served as they are."""
    unreadable: Counter[str] = field(default_factory=Counter)
    """Why images could not be read, without the details in brackets."""

    def lines(self) -> list[str]:
        """The counts as a person reads them, one fact a line."""
        first = f"thumbnails {self.made:,}, small enough without {self.small:,}"
        return [first, *(f"unreadable {n:,}: {why}" for why, n in self.unreadable.most_common())]


def without_thumbnail(store: Store, shard: Shard | None = None) -> list[str]:
    """image_ids without a thumbnail and of unknown size, in the order of the parts."""
    with connect(store) as con:
        table = fetch(
            con,
            "SELECT image_id, width IS NULL AND image_id NOT IN (SELECT image_id FROM thumbnails)"
            " AS needed FROM images",
        )
    images = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return [
        image_id
        for place, (image_id, needed) in enumerate(images)
        if needed and (shard is None or shard.has(place // UNIT))
    ]


def make_thumbnails(
    store: Store, *, shard: Shard | None = None, progress: Progress = SILENT
) -> Drawn:
    """Draw the missing thumbnails. Can be stopped and run again, several processes at a time.

    StoreError where the store cannot be written.
    """
    drawn = Drawn()
    with adding(store, together=True), ThreadPoolExecutor() as pool:
        have = holdings(store)
        reader = ImageReader(store)
        names = reader.in_stored_order(without_thumbnail(store, shard))
        rows: list[dict[str, Any] | str | None] = []
        for start in range(0, len(names), _CHUNK):
            some = names[start : start + _CHUNK]
            encoded = (_encoded(reader, name, drawn) for name in some)
            rows += pool.map(_thumbnail, [pair for pair in encoded if pair is not None])
            if len(rows) >= _FLUSH or start + _CHUNK >= len(names):
                _write_thumbnails(store, have, rows, drawn)
                rows = []
            progress.update("images", start + len(some), len(names))
    return drawn


def _encoded(reader: ImageReader, image_id: str, drawn: Drawn) -> tuple[str, bytes] | None:
    try:
        return image_id, reader.read(image_id)
    except InputError as problem:
        drawn.unreadable[_clause(image_id, problem)] += 1
        return None


def _thumbnail(image: tuple[str, bytes]) -> dict[str, Any] | str | None:
    try:
        return thumbnail_row(image[0], decode(image[1]))
    except InputError as problem:
        return _clause(image[0], problem)


def _clause(image_id: str, problem: InputError) -> str:
    return str(problem).split(" (")[0].replace(f"image {image_id}", "an image")


def _write_thumbnails(
    store: Store, have: Holdings, rows: list[dict[str, Any] | str | None], drawn: Drawn
) -> None:
    drawn.unreadable.update(row for row in rows if isinstance(row, str))
    drawn.small += sum(row is None for row in rows)
    made = [row for row in rows if isinstance(row, dict)]
    try:
        with writing(store, have) as news:
            made = [row for row in made if news.lacks("thumbnails", row)]
            write_thumbnails(store, made)
    except OSError as problem:
        raise unwritable(store, problem) from problem
    drawn.made += len(made)
