"""Thumbnails of images that have none yet: those kept by reference, which ingest does not open."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from toolkit.errors import InputError
from toolkit.image_files import decode
from toolkit.progress import SILENT, Progress
from toolkit.sharding import Shard
from toolkit.store.connection import connect, fetch
from toolkit.store.existing import Holdings, holdings, unwritable, writing
from toolkit.store.images import ImageReader, thumbnail_row, write_thumbnails
from toolkit.store.layout import Store
from toolkit.store.locks import adding

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
            rows += pool.map(_row, [pair for pair in encoded if pair is not None])
            if len(rows) >= _FLUSH or start + _CHUNK >= len(names):
                _keep(store, have, rows, drawn)
                rows = []
            progress.update("images", start + len(some), len(names))
    return drawn


def _encoded(reader: ImageReader, image_id: str, drawn: Drawn) -> tuple[str, bytes] | None:
    try:
        return image_id, reader.read(image_id)
    except InputError as problem:
        drawn.unreadable[_clause(image_id, problem)] += 1
        return None


def _row(image: tuple[str, bytes]) -> dict[str, Any] | str | None:
    try:
        return thumbnail_row(image[0], decode(image[1]))
    except InputError as problem:
        return _clause(image[0], problem)


def _clause(image_id: str, problem: InputError) -> str:
    return str(problem).split(" (")[0].replace(f"image {image_id}", "an image")


def _keep(
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
