"""Rows of every table that wait to be written, and the order in which they go to the disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from toolkit.ingest.rows import Summary
from toolkit.pairs import PAIRS, QUARANTINE, SOURCE_PREFIX, VOTES
from toolkit.parts import write_part
from toolkit.store import Store
from toolkit.store.images import write_images, write_thumbnails
from toolkit.store.intake import Holdings, unwritable, writing

Row = dict[str, Any]


@dataclass
class Waiting:
    """Rows as of the tables' schemas; pairs carry src_ columns beside them."""

    store: Store
    have: Holdings
    extra_types: Mapping[str, pa.DataType] = field(default_factory=dict)
    pairs: list[Row] = field(default_factory=list)
    votes: list[Row] = field(default_factory=list)
    images: list[Row] = field(default_factory=list)
    thumbnails: list[Row] = field(default_factory=list)
    quarantine: list[Row] = field(default_factory=list)
    size: int = 0
    """Bytes of encoded images among them."""

    def __len__(self) -> int:
        return len(self.pairs) + len(self.images) + len(self.quarantine)

    def add_image(self, row: Row, thumbnail: Row | None) -> None:
        """Queue an image and, where it has one, its thumbnail."""
        self.images.append(row)
        self.size += len(row.get("bytes") or b"")
        if thumbnail:
            self.thumbnails.append(thumbnail)
            self.size += len(thumbnail["bytes"])

    def flush(self, summary: Summary) -> None:
        """Write what waits and no other ingest brought meanwhile, pairs last.

        Each list is emptied as it is written, so that trying again writes nothing twice.
        StoreError where the disk refuses.
        """
        if not len(self):
            return
        try:
            with writing(self.store, self.have) as news:
                self._leave_out(news, summary)
                for held, write in (
                    (self.thumbnails, write_thumbnails),
                    (self.images, write_images),
                    (self.votes, _writer("votes", VOTES)),
                    (self.quarantine, _writer("quarantine", QUARANTINE)),
                    (self.pairs, self._write_pairs),
                ):
                    if held:
                        write(self.store, held)
                        held.clear()
        except OSError as problem:
            raise unwritable(self.store, problem) from problem
        self.size = 0

    def _leave_out(self, news: Holdings, summary: Summary) -> None:
        labels = [row["label"] for row in self.pairs if not news.lacks("pairs", row)]
        summary.brought_meanwhile(labels)
        summary.images -= sum(not news.lacks("images", row) for row in self.images)
        for name in ("thumbnails", "images", "votes", "quarantine", "pairs"):
            held: list[Row] = getattr(self, name)
            held[:] = [row for row in held if news.lacks(name, row)]

    def _write_pairs(self, store: Store, rows: list[Row]) -> None:
        table = pa.Table.from_pylist(rows, schema=PAIRS)
        known = set(PAIRS.names)
        for name in dict.fromkeys(name for row in rows for name in row if name not in known):
            kind = self.extra_types.get(name) or self.extra_types.get(
                name.removeprefix(SOURCE_PREFIX)
            )
            column = _column([row.get(name) for row in rows], kind)
            # A part in which nobody filled the column leaves it out: null has no type to union.
            if column.null_count < len(column):
                table = table.append_column(name, column)
        write_part(store.folder("pairs"), table)


def _writer(folder: str, schema: pa.Schema) -> Callable[[Store, list[Row]], None]:
    def write(store: Store, rows: list[Row]) -> None:
        write_part(store.folder(folder), pa.Table.from_pylist(rows, schema=schema))

    return write


def _column(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    # A NaN is no value.
    values = [None if isinstance(value, float) and value != value else value for value in values]
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # a source that mixes types keeps its words
        return pa.array([None if value is None else str(value) for value in values], pa.string())
