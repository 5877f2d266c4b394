"""From source rows to parts: the one writer behind every source.

Images are written before the pairs that show them, and pairs last of all: what a killed ingest
leaves is a store in which every pair is whole, and running it again adds the rest.

Rows of every table that wait to be written, and the order in which they go to the disk.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias

import pyarrow as pa

from toolkit.errors import InputError, OutvotedError
from toolkit.files.atomic import write_part
from toolkit.files.remote import place, why
from toolkit.ids import make_comparison_id, make_pair_id
from toolkit.image_files import content_hash, decode
from toolkit.ingest.records import Reference, SourceImage, SourceRow, Summary, Vote, fault, utc
from toolkit.schema import PAIRS, QUARANTINE, SOURCE_PREFIX, VOTES, source_names
from toolkit.store import Store
from toolkit.store.existing import Holdings, holdings, unwritable, writing
from toolkit.store.images import (
    CellReader,
    image_row,
    thumbnail_row,
    write_images,
    write_thumbnails,
)
from toolkit.store.locks import adding

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


ImageMode = Literal["copy", "reference"]

CHUNK = 64
"""Rows whose images are decoded together."""
FLUSH_BYTES = 128 << 20
FLUSH_ROWS = 20_000


class _Decoded(NamedTuple):
    image: Row
    thumbnail: Row | None


Outcomes: TypeAlias = dict[tuple[str, "bytes | Reference | None"], "_Decoded | str"]
"""(image_id, data) to the image's rows, or to what is wrong with it."""


def ingest_rows(
    store: Store,
    source: str,
    rows: Iterable[SourceRow],
    *,
    images: ImageMode = "copy",
    progress: Callable[[int], None] | None = None,
    extra_types: Mapping[str, pa.DataType] | None = None,
    flush_bytes: int = FLUSH_BYTES,
    flush_rows: int = FLUSH_ROWS,
    pseudonyms: Callable[[str], int] | None = None,
    personal: tuple[str, ...] = (),
) -> Summary:
    """Add a source's rows to the store; a row that is there already changes nothing.

    `images="copy"` reads the files that rows refer to, and decodes every new image once;
    `"reference"` stores such references alone. Bytes that a row brings along are stored under
    both. Several ingests may add to one store at once: each leaves out what another was faster
    with (of two that bring one uid with other bytes at the same moment, the first gives the image
    to both pairs). `progress` hears how many rows went by. `extra_types` fixes Arrow types of
    source columns, else inferred part by part. `pseudonyms` replaces the annotators' names, also
    in the source columns `personal`.
    Raises StoreError (full disk, a store that is held alone) and whatever OutvotedError `rows`
    raises; every row before it is in the store.
    """
    with adding(store, together=True):
        have = holdings(store)
        waiting = Waiting(store, have, extra_types or {})
        intake = _Intake(have, source, images, waiting, pseudonyms, personal)
        try:
            for chunk in _chunks(rows):
                intake.take(chunk)
                if waiting.size >= flush_bytes or len(waiting) >= flush_rows:
                    waiting.flush(intake.summary)
                if progress:
                    progress(len(chunk))
        finally:
            waiting.flush(intake.summary)
    return intake.summary


def _chunks(rows: Iterable[SourceRow]) -> Iterator[list[SourceRow]]:
    waiting = iter(rows)
    while True:
        chunk: list[SourceRow] = []
        try:
            for row in islice(waiting, CHUNK):
                chunk.append(row)
        except OutvotedError:  # the rows before the failure are taken in all the same
            yield chunk
            raise
        if not chunk:
            return
        yield chunk


class _Intake:
    """Sorts rows into kept, duplicate and quarantined, knowing what the store holds."""

    def __init__(
        self,
        have: Holdings,
        source: str,
        images: ImageMode,
        waiting: Waiting,
        rename: Callable[[str], int] | None,
        personal: tuple[str, ...],
    ) -> None:
        self.summary = Summary()
        self.waiting = waiting
        self._source, self._mode = source, images
        self._rename, self._personal = rename, personal
        self._cells = CellReader()
        self._have = have

    def take(self, chunk: list[SourceRow]) -> None:
        """Count every row of the chunk and queue what is new."""
        if self._mode == "copy":
            chunk = [self._with_cells(row) for row in chunk]
        faults = [fault(row) for row in chunk]
        decoded = self._decode(
            row for row, fault in zip(chunk, faults, strict=True) if fault is None
        )
        for row, problem in zip(chunk, faults, strict=True):
            self.summary.read += 1
            ids = (_image_id(row.image_0), _image_id(row.image_1))
            pair_id = make_pair_id(self._source, row.prompt or "", *ids, *row.distinguishing)
            known = problem is None and pair_id in self._have.pairs
            problem = problem or self._accept_images(row, ids, decoded)
            if known:  # it may have brought images that were absent; nothing else changes
                self.summary.duplicate += 1
            elif problem:
                self._set_aside(row, pair_id, problem)
            else:
                self._keep(row, pair_id, ids)

    def _with_cells(self, row: SourceRow) -> SourceRow:
        """The row with the bytes of images that lie in cells of a table."""
        sides: dict[str, Any] = {}
        for slot, image in enumerate((row.image_0, row.image_1)):
            if isinstance(image.data, Reference) and image.data.row is not None:
                if image.uid in self._have.images:
                    continue
                cell = (place(image.data.file), image.data.row, image.data.column or "")
                sides[f"image_{slot}"] = replace(image, data=self._cells.read(*cell) or b"")
        return replace(row, **sides) if sides else row

    def _decode(self, rows: Iterable[SourceRow]) -> Outcomes:
        images = [image for row in rows for image in (row.image_0, row.image_1)]
        sides = [(_image_id(image), image.data) for image in images if self._reads(image.data)]
        fresh = dict.fromkeys(side for side in sides if side[0] not in self._have.images)
        with ThreadPoolExecutor() as pool:
            return dict(zip(fresh, pool.map(_decoded, fresh), strict=True))

    def _reads(self, data: bytes | Reference | None) -> bool:
        if isinstance(data, Reference):
            return data.row is None and self._mode == "copy"
        return data is not None

    def _accept_images(self, row: SourceRow, ids: tuple[str, str], decoded: Outcomes) -> str | None:
        """Queue the row's new images, both or none; or say what is wrong with one of them."""
        for slot, image in enumerate((row.image_0, row.image_1)):
            side = (ids[slot], image.data)
            outcome = decoded.get(side)
            if isinstance(outcome, str):
                return f"image_{slot}: {outcome}"
            twice = ids[0] == ids[1] and image.data != row.image_0.data
            if (twice and isinstance(image.data, bytes)) or self._has_other_bytes(*side):
                if isinstance(broken := _decoded(side), str):
                    return f"image_{slot}: {broken}"
                return f"image_{slot}: its uid names other bytes in this store ({ids[slot]})"
        for image_id, image in zip(ids, (row.image_0, row.image_1), strict=True):
            if image_id not in self._have.images and image.data is not None:
                self._queue_image(image_id, image.data, decoded.get((image_id, image.data)))
        return None

    def _has_other_bytes(self, image_id: str, data: bytes | Reference | None) -> bool:
        stored = self._have.images.get(image_id)
        return stored is not None and isinstance(data, bytes) and content_hash(data) != stored

    def _queue_image(
        self, image_id: str, data: bytes | Reference, decoded: _Decoded | str | None
    ) -> None:
        if isinstance(decoded, _Decoded):
            alone = image_id in self._have.thumbnails_alone
            self.waiting.add_image(decoded.image, None if alone else decoded.thumbnail)
            self._have.images[image_id] = decoded.image["content_hash"]
        elif isinstance(data, Reference):
            place = {"ref_file": data.file, "ref_row": data.row, "ref_column": data.column}
            self.waiting.add_image({"image_id": image_id, **place}, None)
            self._have.images[image_id] = None
        self.summary.images += 1

    def _keep(self, row: SourceRow, pair_id: str, ids: tuple[str, str]) -> None:
        self.summary.kept += 1
        self.summary.tied += row.label == 0.5
        self.summary.unlabelled += row.label is None
        self._have.pairs.add(pair_id)
        own = {
            "pair_id": pair_id,
            "comparison_id": make_comparison_id(row.prompt or "", *ids),
            "prompt": row.prompt,
            "image_0": ids[0],
            "image_1": ids[1],
            "label": row.label,
            "split": row.split,
            "source": self._source,
        }
        if pair_id not in self._have.votes_alone:
            self.waiting.votes += [self._vote(pair_id, vote) for vote in _votes(row)]
        extra = {kept: row.extra[name] for name, kept in source_names(row.extra).items()}
        if self._rename:
            for name in self._personal:
                if (value := extra.get(SOURCE_PREFIX + name)) is not None:
                    extra[SOURCE_PREFIX + name] = self._rename(str(value))
        self.waiting.pairs.append(own | extra)

    def _vote(self, pair_id: str, vote: Vote) -> Row:
        annotator = vote.annotator
        if self._rename and annotator is not None:
            annotator = str(self._rename(annotator))
        return {
            "pair_id": pair_id,
            "annotator": annotator,
            "choice": vote.choice,
            "time": utc(vote.time),
        }

    def _set_aside(self, row: SourceRow, pair_id: str, reason: str) -> None:
        self.summary.quarantined += 1
        self.summary.reasons[reason.split(" (")[0]] += 1
        entry = (pair_id, row.source_row, reason)
        if entry not in self._have.quarantine:
            self._have.quarantine.add(entry)
            values = (pair_id, row.source_file, row.source_row, reason)
            self.waiting.quarantine.append(dict(zip(QUARANTINE.names, values, strict=True)))


def _votes(row: SourceRow) -> tuple[Vote, ...]:
    if row.label is None or row.annotator is None:
        return row.votes
    return (Vote(row.label, row.annotator, row.time), *row.votes)


def _image_id(image: SourceImage) -> str:
    if image.uid is None and isinstance(image.data, bytes):
        return content_hash(image.data)
    return image.uid or ""


def _decoded(side: tuple[str, bytes | Reference | None]) -> _Decoded | str:
    image_id, data = side
    try:
        if isinstance(data, Reference):
            data = place(data.file).read_bytes()
        decoded = decode(data)
    except InputError as problem:
        return str(problem)
    except OSError as problem:
        return f"the image file cannot be read ({why(problem)})"
    return _Decoded(image_row(image_id, data or b"", decoded), thumbnail_row(image_id, decoded))
