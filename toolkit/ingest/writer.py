"""The one ingest engine: batches of a source's rows become parts of a store.

Images are written before the pairs that show them, and pairs last: after a killed ingest every
pair in the store is whole, and running it again adds the rest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toolkit.errors import InputError
from toolkit.files.atomic import write_part
from toolkit.files.remote import place, why
from toolkit.ids import make_comparison_id, make_pair_id, make_repeat_id
from toolkit.image_files import content_hash, decode
from toolkit.ingest.source import (
    Batch,
    Cells,
    ImageData,
    ImageMode,
    Opened,
    PairOptions,
    Reference,
    SourceRow,
    Summary,
    as_batches,
    fault,
)
from toolkit.preference import is_label, is_tie, is_weight, values_of
from toolkit.progress import SILENT, Progress
from toolkit.schema import (
    AXES,
    IMAGES,
    PAIRS,
    QUARANTINE,
    THUMBNAILS,
    VOTES,
    conform,
    from_tuples,
    source_names,
    stacked,
)
from toolkit.store import Store
from toolkit.store.existing import (
    Holdings,
    Statement,
    fill_splits,
    holdings,
    unwritable,
    without,
    writing,
)
from toolkit.store.images import REFERENCE_GROUP, ROW_GROUP, CellReader, image_row, thumbnail_row
from toolkit.store.label_sets import name_axes
from toolkit.store.locks import adding
from toolkit.store.pseudonyms import renamed, renamer

PART_BYTES = 128 << 20
"""Bytes of encoded images that are written together."""
PART_ROWS = 200_000
"""Rows of all tables that are written together."""

WRITE_ORDER = ("thumbnails", "images", "votes", "axes", "quarantine", "pairs")
ROW_BY_ROW = {"thumbnails": THUMBNAILS, "images": IMAGES, "quarantine": QUARANTINE}
"""Tables that are queued row by row; votes, axes and pairs are queued batch by batch."""

Sides: TypeAlias = "tuple[Sequence[ImageData], Sequence[ImageData]] | None"
Ids: TypeAlias = tuple[list[str], list[str]]


class _Decoded(NamedTuple):
    image: dict[str, Any]
    thumbnail: dict[str, Any] | None


Decoded: TypeAlias = dict[tuple[str, ImageData], "_Decoded | str"]
"""(image_id, data) -> the rows of a decoded image, or what is wrong with it."""


def open_pairs(
    source: str,
    options: PairOptions,
    batches: Callable[[], Iterable[Batch]],
    *,
    rows: int | None = None,
    personal: tuple[str, ...] = (),
    notes: Sequence[str] = (),
    labels_are_votes: bool = False,
) -> Opened:
    """An opened source of pairs. `batches` begins to read; `rows` is how many rows it will give.

    `personal` are source columns that name a person; `notes` are added to the summary.
    `labels_are_votes`: as of `ingest_batches`.
    """
    if rows is not None and options.limit is not None:
        rows = min(rows, options.limit)

    def add(store: Store, progress: Progress) -> Summary:
        summary = ingest_batches(
            store,
            source,
            batches(),
            images=options.images,
            pseudonyms=renamer(store) if options.pseudonyms else None,
            personal=personal,
            labels_are_votes=labels_are_votes,
            progress=progress,
            total=rows,
        )
        summary.notes += notes
        return summary

    return Opened(add, rows)


def ingest_rows(
    store: Store,
    source: str,
    rows: Iterable[SourceRow],
    *,
    images: ImageMode = "copy",
    labels_are_votes: bool = False,
    progress: Progress = SILENT,
    total: int | None = None,
) -> Summary:
    """Add rows of your own, one by one; see `ingest_batches`."""
    return ingest_batches(
        store,
        source,
        as_batches(rows, PairOptions(images=images)),
        images=images,
        labels_are_votes=labels_are_votes,
        progress=progress,
        total=total,
    )


def ingest_batches(
    store: Store,
    source: str,
    batches: Iterable[Batch],
    *,
    images: ImageMode = "copy",
    pseudonyms: Callable[[str], int] | None = None,
    personal: tuple[str, ...] = (),
    labels_are_votes: bool = False,
    progress: Progress = SILENT,
    total: int | None = None,
) -> Summary:
    """Add a source's batches to the store; a row that is there already changes nothing.

    A row that says otherwise than the pair of its id is a pair of its own; where it adds a split or
    an axis that the pair lacks, these are added to the pair.
    `labels_are_votes`: each row's label is one vote, also where nobody is named, unless the row
    brings votes or a label_weight. Then rows without a time that say the same are votes as well,
    and are duplicates only of as many in the store.
    `images="copy"` reads the files and cells that rows refer to and decodes every new image once;
    `"reference"` stores references as they are. Bytes that a row brings are stored either way.
    Several ingests may add to one store at once: each leaves out what another wrote first (if two
    bring one uid with different bytes at the same moment, both pairs get the first's image).
    `pseudonyms` replaces annotators' names, also in the source columns `personal`.
    Raises StoreError (full disk, a store that is locked) and whatever OutvotedError `batches`
    raises; every row before it is in the store. `total` is how many rows will come, for the bar.
    """
    with adding(store, together=True), ThreadPoolExecutor() as pool:
        writer = _Writer(store, source, images, pseudonyms, personal, labels_are_votes, pool)
        try:
            for batch in batches:
                writer.take(batch)
                if writer.size >= PART_BYTES or writer.waiting >= PART_ROWS:
                    writer.flush()
                progress.update("pairs", writer.summary.read, total)
        finally:
            writer.flush()
    return writer.summary


class _Writer:
    """Sorts rows into kept, duplicate and quarantined, and writes them in parts."""

    def __init__(
        self,
        store: Store,
        source: str,
        mode: ImageMode,
        rename: Callable[[str], int] | None,
        personal: tuple[str, ...],
        labels_are_votes: bool,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.summary = Summary()
        self.size = 0
        """Bytes of encoded images that wait to be written."""
        self._store, self._source, self._mode = store, source, mode
        self._rename, self._personal, self._pool = rename, personal, pool
        self._labels_are_votes = labels_are_votes
        self._have = holdings(store)
        self._seen: dict[str, int] = {}
        """How many rows of this ingest had an id."""
        self._splits: dict[str, str] = {}
        """Splits of pairs in the store that have none."""
        self._cells = CellReader()
        self._rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in ROW_BY_ROW}
        self._tables: dict[str, list[pa.Table]] = {name: [] for name in WRITE_ORDER}
        self._table_rows = 0

    @property
    def waiting(self) -> int:
        """Rows of all tables that wait to be written."""
        return self._table_rows + sum(map(len, self._rows.values()))

    def take(self, batch: Batch) -> None:
        """Count every row of the batch and queue what is new."""
        rows = batch.rows
        prompts, labels, weights, times, splits, problems = (
            rows[n].to_pylist()
            for n in ("prompt", "label", "label_weight", "time", "split", "problem")
        )
        ids, sides = self._identified(batch)
        voted, wrong = _further_votes(batch)
        wrong |= _wrong_axes(batch)
        faults = [
            problem or fault(prompt, first, second, label, weight) or wrong.get(row)
            for row, (problem, prompt, first, second, label, weight) in enumerate(
                zip(problems, prompts, *ids, labels, weights, strict=True)
            )
        ]
        decoded = self._decoded(ids, sides, faults)
        statements = _statements(labels, batch)
        kept: list[int] = []
        pair_ids: list[str] = []
        comparisons: list[str] = []
        have = self._have.pairs
        completed: list[tuple[str, int]] = []
        every = zip(prompts, *ids, faults, batch.distinguishing, strict=True)
        for row, (prompt, first, second, problem, distinguishing) in enumerate(every):
            pair_id = make_pair_id(self._source, prompt or "", first, second, *distinguishing)
            if problem is None:
                single = weights[row] is None and row not in voted and times[row] is None
                repeats = self._labels_are_votes and single
                pair_id = self._own_id(pair_id, statements[row], repeats)
            known = problem is None and pair_id in have
            if problem is None and sides is not None:
                problem = self._take_images(
                    (first, second), (sides[0][row], sides[1][row]), decoded
                )
            if known:  # it may have brought images that were absent, a split or an axis
                self.summary.duplicate += 1
                if splits[row] is not None and pair_id in self._have.without_split:
                    self._splits.setdefault(pair_id, splits[row])
                if statements[row].axes:
                    completed.append((pair_id, row))
            elif problem:
                self._set_aside(pair_id, rows, row, problem)
            else:
                have[pair_id] = statements[row]
                kept.append(row)
                pair_ids.append(pair_id)
                comparisons.append(make_comparison_id(prompt, first, second))
        self.summary.read += len(prompts)
        self._keep(batch, ids, kept, pair_ids, comparisons)
        self._keep_axes(batch, [*zip(pair_ids, kept, strict=True)], completed)

    def _own_id(self, pair_id: str, says: Statement, repeats: bool) -> str:
        """The id of a row: `pair_id`, unless a pair has it that says otherwise, or the row repeats
        a vote of nobody in particular."""
        stored = self._have.pairs.get(pair_id)
        denied = stored is not None and says.denies(stored)
        first = make_repeat_id(pair_id, str(says), 1) if denied else pair_id
        nth = self._seen[first] = self._seen.get(first, 0) + 1
        return make_repeat_id(pair_id, str(says), nth) if repeats and nth > 1 else first

    def _identified(self, batch: Batch) -> tuple[Ids, Sides]:
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

    def _with_cell(self, uid: str | None, data: ImageData) -> ImageData:
        if not isinstance(data, Reference) or data.row is None or uid in self._have.images:
            return data
        return self._cells.read(place(data.file), data.row, data.column or "") or b""

    def _decoded(self, ids: Ids, sides: Sides, faults: list[str | None]) -> Decoded | None:
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

    def _take_images(
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
        self.summary.images += 1

    def _queue(self, table: str, row: dict[str, Any]) -> None:
        self._rows[table].append(tuple(row.get(name) for name in ROW_BY_ROW[table].names))
        self.size += len(row["bytes"])

    def _set_aside(self, pair_id: str, rows: pa.Table, row: int, reason: str) -> None:
        self.summary.quarantine(reason)
        file, number = (rows[name][row].as_py() for name in ("source_file", "source_row"))
        entry = (pair_id, number, reason)
        if entry not in self._have.quarantine:
            self._have.quarantine.add(entry)
            self._rows["quarantine"].append((pair_id, file, number, reason))

    def _keep(
        self,
        batch: Batch,
        ids: Ids,
        kept: list[int],
        pair_ids: list[str],
        comparisons: list[str],
    ) -> None:
        """Queue the batch's new pairs with their votes."""
        if not kept:
            return
        whole = len(kept) == batch.rows.num_rows
        places = pa.array(kept, pa.int64())
        rows = batch.rows if whole else batch.rows.take(places)
        first, second = ids
        own = {
            "pair_id": pa.array(pair_ids, pa.string()),
            "comparison_id": pa.array(comparisons, pa.string()),
            "prompt": rows["prompt"],
            "image_0": pa.array(first if whole else [first[row] for row in kept], pa.string()),
            "image_1": pa.array(second if whole else [second[row] for row in kept], pa.string()),
            "label": rows["label"],
            "split": rows["split"],
            "source": pa.repeat(self._source, len(kept)),
            "label_weight": rows["label_weight"],
        }
        pairs = conform(pa.table(own), PAIRS)
        self.summary.count_kept(pairs["label"])
        votes = self._votes(pairs, rows, batch.votes, kept)
        pairs = _with_extra(pairs, batch.extra if whole else batch.extra.take(places))
        tables = {"votes": votes, "pairs": pairs}
        if self._rename:
            tables = renamed(votes, pairs, self._rename, self._personal)
        for name, table in tables.items():
            self._tables[name].append(table)
            self._table_rows += table.num_rows

    def _votes(
        self, pairs: pa.Table, rows: pa.Table, further: pa.Table | None, kept: list[int]
    ) -> pa.Table:
        """The votes that are labels (of known annotators, else where labels are votes), and the
        further ones of the rows `kept`."""
        own = pa.table(
            {
                "pair_id": pairs["pair_id"],
                "annotator": rows["annotator"],
                "choice": pairs["label"],
                "time": rows["time"],
            }
        )
        is_vote = pc.is_valid(own["annotator"])
        place = np.full(max(kept) + 1, -1)
        place[kept] = np.arange(len(kept))
        if further is not None:
            row = further["row"].to_numpy()
            place_of = np.where(row < len(place), place[np.minimum(row, len(place) - 1)], -1)
            further = further.filter(pa.array(place_of >= 0))
            place_of = place_of[place_of >= 0]
        if self._labels_are_votes:
            single = pc.is_null(rows["label_weight"])
            if further is not None:
                single = pc.and_(single, pa.array(np.bincount(place_of, minlength=len(kept)) == 0))
            is_vote = pc.or_(is_vote, single)
        votes = conform(own.filter(pc.and_(is_vote, pc.is_valid(own["choice"]))), VOTES)
        if further is not None:
            more = further.append_column("pair_id", pairs["pair_id"].take(pa.array(place_of)))
            votes = pa.concat_tables([votes, conform(more, VOTES)])
        alone = self._have.votes_alone  # a writer that was killed wrote them already
        return votes.filter(
            pc.invert(pc.is_in(votes["pair_id"], pa.array(list(alone), pa.string())))
        )

    def _keep_axes(
        self, batch: Batch, new: list[tuple[str, int]], completed: list[tuple[str, int]]
    ) -> None:
        """Queue the labels of new pairs on single axes, and those that pairs in the store lack."""
        if not batch.axes:
            return
        have = self._have
        labels = {name: table.to_pylist() for name, table in batch.axes.items()}
        rows = []
        for fresh, places in ((True, new), (False, completed)):
            for pair_id, row in places:
                known = () if fresh else dict(have.pairs[pair_id].axes)
                added = [
                    (axis, labels[axis][row])
                    for axis in labels
                    if labels[axis][row]["label"] is not None
                    and axis not in known
                    and (pair_id, axis) not in have.axes_alone
                ]
                rows += [(pair_id, axis, *said.values()) for axis, said in added]
                if added and not fresh:
                    said = have.pairs[pair_id]
                    more = tuple((axis, label["label"]) for axis, label in added)
                    have.pairs[pair_id] = said._replace(axes=(*said.axes, *more))
                    self.summary.completed.add(pair_id)
        self.summary.axes.update(axis for _, axis, *_ in rows)
        self._tables["axes"].append(from_tuples(AXES, rows))
        self._table_rows += len(rows)

    def flush(self) -> None:
        """Write what waits and no other ingest brought meanwhile, pairs last.

        What is written waits no longer, so that trying again writes nothing twice.
        StoreError where the disk refuses.
        """
        for name, schema in ROW_BY_ROW.items():
            self._tables[name].append(from_tuples(schema, self._rows[name]))
            self._rows[name].clear()
        tables = {name: stacked(waiting) for name, waiting in self._tables.items() if waiting}
        if not self._splits and not any(table.num_rows for table in tables.values()):
            return
        if "axes" in tables:
            name_axes(self._store, tables["axes"]["axis"].unique().to_pylist())
        try:
            with writing(self._store, self._have) as news:
                tables = self._without(tables, news)
                for name, table in tables.items():
                    if table.num_rows:
                        groups = _group_size(name, table)
                        write_part(self._store.folder(name), table, row_group_size=groups)
                    self._tables[name].clear()
                if self._splits:
                    fill_splits(self._store, self._splits)
                    self.summary.completed |= self._splits.keys()
                    self._have.without_split -= self._splits.keys()
                    self._splits = {}
        except OSError as problem:
            raise unwritable(self._store, problem) from problem
        self.size = self._table_rows = 0

    def _without(self, tables: dict[str, pa.Table], news: Holdings) -> dict[str, pa.Table]:
        """The tables without what another ingest wrote first; the summary counts accordingly."""
        if not (news.pairs or news.images or news.votes_alone or news.quarantine):
            return tables
        tables = self._with_own_ids(tables, news)
        ours = without(tables, news)
        self.summary.images -= tables["images"].num_rows - ours["images"].num_rows
        if "pairs" in tables:
            theirs = pc.invert(pc.is_in(tables["pairs"]["pair_id"], ours["pairs"]["pair_id"]))
            self.summary.count_as_duplicates(tables["pairs"].filter(theirs)["label"])
        return ours

    def _with_own_ids(self, tables: dict[str, pa.Table], news: Holdings) -> dict[str, pa.Table]:
        """The tables with a new id for each pair whose id another ingest gave to a row that says
        otherwise."""
        have = self._have.pairs
        ids = tables["pairs"]["pair_id"].to_pylist() if "pairs" in tables else []
        new = {
            pair_id: make_repeat_id(pair_id, str(have[pair_id]), 1)
            for pair_id in ids
            if pair_id in news.pairs and have[pair_id].denies(news.pairs[pair_id])
        }
        if not new:
            return tables
        return tables | {
            name: _renamed_pairs(tables[name], new)
            for name in ("votes", "axes", "pairs")
            if name in tables
        }


def _renamed_pairs(table: pa.Table, new: Mapping[str, str]) -> pa.Table:
    ids = pa.array([new.get(pair_id, pair_id) for pair_id in table["pair_id"].to_pylist()])
    return table.set_column(table.schema.get_field_index("pair_id"), PAIRS.field("pair_id"), ids)


def _statements(labels: Sequence[float | None], batch: Batch) -> list[Statement]:
    """What each row says."""
    if not batch.axes:
        return [Statement(label) for label in labels]
    names = sorted(batch.axes)
    columns = [batch.axes[name]["label"].to_pylist() for name in names]
    return [
        Statement(label, tuple((n, v) for n, v in zip(names, row, strict=True) if v is not None))
        for label, row in zip(labels, zip(*columns, strict=True), strict=True)
    ]


def _wrong_axes(batch: Batch) -> dict[int, str]:
    """What is wrong with a row's labels on single axes."""
    wrong: dict[int, str] = {}
    for axis, table in batch.axes.items():
        for row in np.flatnonzero(~is_label(values_of(table["label"]))):
            value = table["label"][row].as_py()
            wrong[int(row)] = f"the label of axis {axis} is no number from 0 to 1 (it is {value})"
    return wrong


def _further_votes(batch: Batch) -> tuple[set[int], dict[int, str]]:
    """The rows that bring votes, and what is wrong with the votes of a row."""
    if batch.votes is None:
        return set(), {}
    rows = batch.votes["row"].to_numpy()
    choice, weight = (values_of(batch.votes[name]) for name in ("choice", "weight"))
    both = batch.votes["both_are"].is_valid().to_numpy()
    wrong: dict[int, str] = {}
    for bad, values, what in (
        (both & ~is_tie(choice), choice, "a vote for one image calls both good or bad"),
        (
            ~(np.isnan(weight) | is_weight(weight)),
            weight,
            "a vote's weight is no number of 0 or more",
        ),
        (~is_label(choice) | np.isnan(choice), choice, "a vote is no number from 0 to 1"),
    ):
        wrong |= {int(rows[at]): f"{what} (it is {values[at]:g})" for at in np.flatnonzero(bad)}
    return set(rows.tolist()), wrong


def _group_size(name: str, table: pa.Table) -> int:
    if name == "thumbnails":
        return ROW_GROUP
    if name == "images":
        return ROW_GROUP if table["bytes"].null_count < table.num_rows else REFERENCE_GROUP
    return 65_536


def _with_extra(pairs: pa.Table, extra: pa.Table) -> pa.Table:
    """The pairs with the source's own columns behind them.

    A column that has no value is left out: null has no type that parts could agree on.
    """
    for name, stored in source_names(extra.column_names).items():
        column = extra[name]
        if pa.types.is_floating(column.type):  # a NaN is no value
            column = pc.if_else(pc.is_nan(column), None, column)
        if column.null_count < extra.num_rows:
            pairs = pairs.append_column(stored, column)
    return pairs


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
        if "\\" in file:
            return f"the path of the image has backslashes; write it with / (file {file})"
        return f"the image file cannot be read ({why(problem)}: {file})"
    return _Decoded(image_row(image_id, data or b"", decoded), thumbnail_row(image_id, decoded))
