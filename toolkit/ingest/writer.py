"""The one ingest engine: batches of a source's rows become parts of a store.

Images are written before the pairs that show them, and pairs last: after a killed ingest every
pair in the store is whole, and running it again adds the rest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from toolkit.errors import Interrupted
from toolkit.files.atomic import write_part
from toolkit.ids import make_comparison_id, make_repeat_id
from toolkit.ingest.new_images import NewImages
from toolkit.ingest.source import (
    Batch,
    ImageMode,
    Opened,
    PairOptions,
    SourceRow,
    as_batches,
)
from toolkit.ingest.statements import (
    fault,
    rest_on_votes,
    statements_of,
    votes_of,
    votes_on_axes,
    wrong_axes,
    wrong_votes,
)
from toolkit.ingest.summary import Summary
from toolkit.ingest.tabular import with_rejected
from toolkit.progress import SILENT, Progress
from toolkit.schema import (
    AXES,
    PAIRS,
    QUARANTINE,
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
    voted_axes,
    without,
    writing,
)
from toolkit.store.images import REFERENCE_GROUP, ROW_GROUP
from toolkit.store.label_sets import name_axes
from toolkit.store.locks import adding
from toolkit.store.pseudonyms import PairIds, renamed, renamer

PART_BYTES = 96 << 20
"""Bytes of encoded images that are written together."""
PART_ROWS = 200_000
"""Rows of all tables that are written together."""

WRITE_ORDER = ("thumbnails", "images", "votes", "axes", "quarantine", "pairs")

Ids: TypeAlias = tuple[list[str], list[str]]


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
    brings several votes or a label_weight. Then rows without a time that say the same are votes as
    well, and are duplicates only of as many in the store. They are counted within one ingest:
    shards of a source, and files that come in one after the other, count the same row of nobody
    once.
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
            for batch in with_rejected(batches):
                writer.take(batch)
                if writer.is_full:
                    writer.flush()
                progress.update("pairs", writer.summary.read, total)
        except KeyboardInterrupt as stop:
            kept = f"{writer.summary.kept:,} of {writer.summary.read:,} rows read were kept"
            raise Interrupted(f"Stopped: {kept}. The same command adds the rest.") from stop
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
        self._store, self._source = store, source
        self._rename, self._personal = rename, personal
        self._labels_are_votes = labels_are_votes
        self._ids = PairIds(store, source, rename)
        self._have = holdings(store)
        self._images = NewImages(mode, self._have, pool)
        self._seen: dict[str, int] = {}
        """How many rows of this ingest had an id."""
        self._voted: set[tuple[str, str]] | None = None
        """(pair_id, axis) with votes in the store, once a pair in it gets an axis."""
        self._splits: dict[str, str] = {}
        """Splits of pairs in the store that have none."""
        self._quarantine: list[tuple[Any, ...]] = []
        self._tables: dict[str, list[pa.Table]] = {name: [] for name in WRITE_ORDER}
        self._table_rows = 0

    @property
    def is_full(self) -> bool:
        """Whether what waits should be written."""
        rows = self._table_rows + len(self._quarantine) + self._images.waiting
        return self._images.size >= PART_BYTES or rows >= PART_ROWS

    def take(self, batch: Batch) -> None:
        """Count every row of the batch and queue what is new."""
        batch = self._images.with_beside(batch, self.summary)
        rows = batch.rows
        prompts, labels, weights, times, splits, problems = (
            rows[n].to_pylist()
            for n in ("prompt", "label", "label_weight", "time", "split", "problem")
        )
        ids, sides = self._images.identified(batch)
        wrong = wrong_votes(batch) | wrong_axes(batch)
        voted = rest_on_votes(batch)
        faults = [
            problem or fault(prompt, first, second, label, weight) or wrong.get(row)
            for row, (problem, prompt, first, second, label, weight) in enumerate(
                zip(problems, prompts, *ids, labels, weights, strict=True)
            )
        ]
        decoded = self._images.decoded(ids, sides, faults)
        statements = statements_of(batch)
        kept: list[int] = []
        pair_ids: list[str] = []
        comparisons: list[str] = []
        have = self._have.pairs
        completed: list[tuple[str, int]] = []
        people = rows["annotator"].to_pylist()
        every = zip(prompts, *ids, faults, batch.distinguishing, people, strict=True)
        for row, (prompt, first, second, problem, distinguishing, person) in enumerate(every):
            pair_id = self._ids.make(prompt, first, second, distinguishing, person, have)
            if problem is None:
                single = weights[row] is None and row not in voted and times[row] is None
                repeats = self._labels_are_votes and single
                pair_id = self._own_id(pair_id, statements[row], repeats)
            known = problem is None and pair_id in have
            if problem is None and sides is not None:
                data = (sides[0][row], sides[1][row])
                problem = self._images.take((first, second), data, decoded)
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
        """`pair_id`, unless its pair says otherwise, or the row repeats a vote of nobody."""
        stored = self._have.pairs.get(pair_id)
        first = pair_id
        if stored is not None and says.denies(stored):
            first = make_repeat_id(pair_id, says.against(stored), 1)
        nth = self._seen[first] = self._seen.get(first, 0) + 1
        return make_repeat_id(pair_id, str(says.label), nth) if repeats and nth > 1 else first

    def _set_aside(self, pair_id: str, rows: pa.Table, row: int, reason: str) -> None:
        self.summary.quarantine(reason)
        file, number = (rows[name][row].as_py() for name in ("source_file", "source_row"))
        entry = (pair_id, number, reason)
        if entry not in self._have.quarantine:
            self._have.quarantine.add(entry)
            self._quarantine.append((pair_id, file, number, reason))

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
        votes = votes_of(batch, kept, pairs["pair_id"], self._labels_are_votes)
        alone = pa.array(list(self._have.votes_alone), pa.string())  # a killed writer wrote them
        votes = votes.filter(pc.invert(pc.is_in(votes["pair_id"], alone)))
        pairs = _with_extra(pairs, batch.extra if whole else batch.extra.take(places))
        tables = {"votes": votes, "pairs": pairs}
        if self._rename:
            tables = renamed(votes, pairs, self._rename, self._personal)
        for name, table in tables.items():
            self._tables[name].append(table)
            self._table_rows += table.num_rows

    def _keep_axes(
        self, batch: Batch, new: list[tuple[str, int]], completed: list[tuple[str, int]]
    ) -> None:
        """Queue the labels of new pairs on single axes, and those that pairs in the store lack,
        with the votes behind them."""
        if not batch.axes:
            return
        have = self._have
        labels = {name: table.to_pylist() for name, table in batch.axes.items()}
        rows = []
        voted: dict[tuple[int, str], str] = {}
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
                rows += [(pair_id, axis, *label.values()) for axis, label in added]
                if added and not fresh:
                    stored = have.pairs[pair_id]
                    more = tuple((axis, label["label"]) for axis, label in added)
                    have.pairs[pair_id] = stored._replace(axes=(*stored.axes, *more))
                    self.summary.completed.add(pair_id)
                    voted |= {(row, axis): pair_id for axis, _ in added}
        if voted and self._voted is None:
            self._voted = voted_axes(self._store)
        have_votes = self._voted or set()
        voted = {key: pair for key, pair in voted.items() if (pair, key[1]) not in have_votes}
        votes = votes_on_axes(batch, voted)
        if self._rename:
            votes = renamed(votes, PAIRS.empty_table(), self._rename, ())["votes"]
        self._tables["votes"].append(votes)
        self.summary.axes.update(axis for _, axis, *_ in rows)
        self._tables["axes"].append(from_tuples(AXES, rows))
        self._table_rows += len(rows)

    def flush(self) -> None:
        """Write what waits and no other ingest brought meanwhile, pairs last.

        What is written waits no longer, so that trying again writes nothing twice.
        StoreError where the disk refuses.
        """
        self.summary.images += self._images.count
        for name, table in self._images.drain().items():
            self._tables[name].append(table)
        self._tables["quarantine"].append(from_tuples(QUARANTINE, self._quarantine))
        self._quarantine.clear()
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
        self._table_rows = 0

    def _without(self, tables: dict[str, pa.Table], news: Holdings) -> dict[str, pa.Table]:
        """The tables without what another ingest wrote first; the summary counts accordingly."""
        if not any((news.pairs, news.images, news.votes_alone, news.axes_alone, news.quarantine)):
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
        if "pairs" not in tables:
            return tables
        columns = (tables["pairs"][name].to_pylist() for name in ("pair_id", "label"))
        new = {
            pair_id: make_repeat_id(pair_id, str(label), 1)
            for pair_id, label in zip(*columns, strict=True)
            if pair_id in news.pairs and Statement(label).denies(news.pairs[pair_id])
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
