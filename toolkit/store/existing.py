"""What a store contains already, so that an ingest adds only what is new, and how it is written."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit.errors import StoreError
from toolkit.files.atomic import parts, write_part, write_whole
from toolkit.files.remote import readable, why
from toolkit.schema import VOTES
from toolkit.store.connection import connect, fetch
from toolkit.store.images import REFERENCE_GROUP
from toolkit.store.layout import Store
from toolkit.store.locks import turn

_GROUPS = {"images": REFERENCE_GROUP}
_KEYS = {
    "pairs": ("pair_id", "label"),
    "votes": ("pair_id",),
    "axes": ("pair_id", "axis"),
    "images": ("image_id", "content_hash"),
    "thumbnails": ("image_id",),
    "quarantine": ("pair_id", "source_row", "reason"),
}


class Statement(NamedTuple):
    """What a row says of its pair."""

    label: float | None
    axes: tuple[tuple[str, float], ...] = ()
    """Labels on single axes, by name."""

    def denies(self, other: "Statement") -> bool:
        """Whether it says otherwise than `other` where both say something, or says it alone."""
        if self.label is not None and self.label != other.label:
            return True
        theirs = dict(other.axes)
        return any(theirs.get(axis, label) != label for axis, label in self.axes)

    def against(self, other: "Statement") -> str:
        """What it says that `other` does not, as a text for ids: the label, else everything."""
        if self.label != other.label:
            return str(self.label)
        return ";".join([str(self.label), *(f"{axis}={label}" for axis, label in self.axes)])


@dataclass
class Holdings:
    """Ids in a store, by table."""

    pairs: dict[str, Statement]
    images: dict[str, str | None]
    """image_id to content_hash (None where the bytes were never read)."""
    votes_alone: set[str]
    """pair_ids with votes but no pair: what a writer killed between two parts leaves."""
    axes_alone: set[tuple[str, str]]
    """(pair_id, axis) of labels without a pair, for the same reason."""
    thumbnails_alone: set[str]
    """image_ids with a thumbnail but no image, for the same reason."""
    quarantine: set[tuple[str, int | None, str]]
    """(pair_id, source_row, reason)."""
    without_split: set[str] = field(default_factory=set)
    """pair_ids of pairs without a split."""
    parts: dict[str, set[str]] = field(default_factory=dict)
    """Names of the parts that were read, by table."""

    def lacks(self, table: str, row: Mapping[str, Any]) -> bool:
        """Whether the row of a table is none of these."""
        if table == "quarantine":
            return tuple(row[name] for name in _KEYS[table]) not in self.quarantine
        if table in ("images", "thumbnails"):
            have = self.images if table == "images" else self.thumbnails_alone
            return row["image_id"] not in have
        if table == "axes":
            return (row["pair_id"], row["axis"]) not in self.axes_alone
        return row["pair_id"] not in self.pairs and (
            table == "pairs" or row["pair_id"] not in self.votes_alone
        )


def holdings(store: Store) -> Holdings:
    """Read the ids of everything in the store: some 150 bytes of memory a pair and 250 an image."""
    listed = _listed(store)  # before reading: what is added meanwhile is news
    with connect(store) as con:
        images = fetch(con, "SELECT image_id, content_hash FROM images")
        votes = fetch(con, "SELECT DISTINCT pair_id FROM votes ANTI JOIN pairs USING (pair_id)")
        thumbnails = fetch(con, "SELECT image_id FROM thumbnails ANTI JOIN images USING (image_id)")
        pairs = fetch(con, "SELECT pair_id, label, split IS NULL AS open FROM pairs")
        axes = fetch(con, "SELECT pair_id, axis, label FROM axes ORDER BY pair_id, axis")
    ids = pairs["pair_id"].to_pylist()
    statements = {label: Statement(label) for label in pairs["label"].unique().to_pylist()}
    have = Holdings(
        pairs={k: statements[v] for k, v in zip(ids, pairs["label"].to_pylist(), strict=True)},
        images=dict(zip(images[0].to_pylist(), images[1].to_pylist(), strict=True)),
        votes_alone=set(votes[0].to_pylist()),
        axes_alone=set(),
        thumbnails_alone=set(thumbnails[0].to_pylist()),
        quarantine=held_quarantine(store),
        without_split=set(pairs.filter(pairs["open"])["pair_id"].to_pylist()),
        parts=listed,
    )
    for pair_id, axis, label in zip(*(c.to_pylist() for c in axes.columns), strict=True):
        if pair_id in have.pairs:
            stored = have.pairs[pair_id]
            have.pairs[pair_id] = stored._replace(axes=(*stored.axes, (axis, label)))
        else:
            have.axes_alone.add((pair_id, axis))
    return have


def voted_axes(store: Store) -> set[tuple[str, str]]:
    """(pair_id, axis) of the votes in the store on single axes."""
    with connect(store) as con:
        votes = fetch(con, "SELECT DISTINCT pair_id, axis FROM votes WHERE axis IS NOT NULL")
    return set(zip(votes[0].to_pylist(), votes[1].to_pylist(), strict=True))


@contextmanager
def writing(store: Store, have: Holdings) -> Iterator[Holdings]:
    """Take a turn among running ingests; yields what others added since the last one.

    It is added to `have`, and must not be written again.
    """
    with turn(store):
        news = _news(store, have.parts)
        have.pairs |= news.pairs
        have.images |= news.images
        have.votes_alone |= news.votes_alone
        have.axes_alone |= news.axes_alone
        have.thumbnails_alone |= news.thumbnails_alone
        have.quarantine |= news.quarantine
        yield news
        have.parts = _listed(store)


def _listed(store: Store) -> dict[str, set[str]]:
    return {name: {part.name for part in parts(store.folder(name))} for name in _KEYS}


def _news(store: Store, known: Mapping[str, set[str]]) -> Holdings:
    """The ids in parts that are not among the known ones."""
    rows: dict[str, set[tuple[Any, ...]]] = {}
    for name, columns in _KEYS.items():
        fresh = [part for part in parts(store.folder(name)) if part.name not in known[name]]
        tables = [pq.read_table(readable(part), columns=list(columns)) for part in fresh]
        rows[name] = {
            row
            for table in tables
            for row in zip(*(c.to_pylist() for c in table.columns), strict=True)
        }
    return Holdings(
        pairs={pair_id: Statement(label) for pair_id, label in rows["pairs"]},
        images=dict(rows["images"]),  # type: ignore[arg-type]
        votes_alone={row[0] for row in rows["votes"]},
        axes_alone=rows["axes"],  # type: ignore[arg-type]
        thumbnails_alone={row[0] for row in rows["thumbnails"]},
        quarantine=rows["quarantine"],  # type: ignore[arg-type]
    )


def without(tables: Mapping[str, pa.Table], news: Holdings) -> dict[str, pa.Table]:
    """The tables' rows that others did not add meanwhile."""
    return {
        name: table.filter(
            pa.array(
                [news.lacks(name, row) for row in table.select(_KEYS[name]).to_pylist()], pa.bool_()
            )
        )
        for name, table in tables.items()
    }


def fill_splits(store: Store, splits: Mapping[str, str]) -> None:
    """Give each pair without a split the one named, in the parts that hold them.

    Needs a turn to write. A killed fill leaves whole parts, and can be run again.
    """
    for path in parts(store.folder("pairs")):
        table = pq.read_table(readable(path))
        named = pa.array([splits.get(k) for k in table["pair_id"].to_pylist()], pa.string())
        split = pc.coalesce(table["split"], named)
        if split.null_count < table["split"].null_count:
            place = table.schema.get_field_index("split")
            write_whole(path, table.set_column(place, table.schema.field("split"), split))


def held_votes(store: Store) -> Counter[tuple[Any, ...]]:
    """How often each vote is there, as its columns in the order of VOTES."""
    with connect(store) as con:
        votes = fetch(con, f"SELECT {', '.join(VOTES.names)} FROM votes")
    return Counter(zip(*(column.to_pylist() for column in votes.columns), strict=True))


def held_quarantine(store: Store) -> set[tuple[str, int | None, str]]:
    """(pair_id, source_row, reason) of everything set aside."""
    with connect(store) as con:
        rows = fetch(con, "SELECT pair_id, source_row, reason FROM quarantine")
    return set(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def written(store: Store, tables: Mapping[str, pa.Table]) -> None:
    """Write a part of each table that has rows (images: references alone), in the order given.

    The last table makes the others count: a kill in between leaves no half-written pair.
    StoreError if the disk refuses.
    """
    try:
        for name, table in tables.items():
            if table.num_rows:
                write_part(store.folder(name), table, row_group_size=_GROUPS.get(name, 65_536))
    except OSError as problem:
        raise unwritable(store, problem) from problem


def unwritable(store: Store, problem: OSError) -> StoreError:
    """The sentence for a disk that is full or a folder that may not be written."""
    return StoreError(
        f"The store {store.root} cannot be written ({why(problem)}); what is in it is whole. "
        "Free space or fix the folder's permissions, then run the same command again."
    )
