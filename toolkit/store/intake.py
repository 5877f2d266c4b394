"""What a store holds already, asked before rows are added to it, and how they reach its parts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from toolkit.errors import StoreError
from toolkit.parts import write_part
from toolkit.places import why
from toolkit.store.images import REFERENCE_GROUP
from toolkit.store.layout import Store
from toolkit.store.query import connect, fetch

_GROUPS = {"images": REFERENCE_GROUP}


@dataclass
class Holdings:
    """Ids in a store, by table."""

    pairs: set[str]
    images: dict[str, str | None]
    """image_id to content_hash (None where the bytes were never read)."""
    votes_alone: set[str]
    """pair_ids with votes but no pair: what a writer killed between two parts leaves."""
    thumbnails_alone: set[str]
    """image_ids with a thumbnail but no image, for the same reason."""
    quarantine: set[tuple[str, int | None, str]]
    """(pair_id, source_row, reason)."""


def holdings(store: Store) -> Holdings:
    """Read the ids of everything in the store: some 150 bytes of memory a pair and 250 an image."""
    with connect(store) as con:
        images = fetch(con, "SELECT image_id, content_hash FROM images")
        votes = fetch(con, "SELECT DISTINCT pair_id FROM votes ANTI JOIN pairs USING (pair_id)")
        thumbnails = fetch(con, "SELECT image_id FROM thumbnails ANTI JOIN images USING (image_id)")
        pairs = fetch(con, "SELECT pair_id FROM pairs")
    return Holdings(
        pairs=set(pairs[0].to_pylist()),
        images=dict(zip(images[0].to_pylist(), images[1].to_pylist(), strict=True)),
        votes_alone=set(votes[0].to_pylist()),
        thumbnails_alone=set(thumbnails[0].to_pylist()),
        quarantine=held_quarantine(store),
    )


def held_votes(store: Store) -> set[tuple[Any, ...]]:
    """(pair_id, annotator, choice, time) of every vote."""
    with connect(store) as con:
        votes = fetch(con, "SELECT pair_id, annotator, choice, time FROM votes")
    return set(zip(*(column.to_pylist() for column in votes.columns), strict=True))


def held_quarantine(store: Store) -> set[tuple[str, int | None, str]]:
    """(pair_id, source_row, reason) of everything set aside."""
    with connect(store) as con:
        rows = fetch(con, "SELECT pair_id, source_row, reason FROM quarantine")
    return set(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def written(store: Store, tables: Mapping[str, pa.Table]) -> None:
    """Write a part of each table that has rows (images: references alone), in the order given.

    What is named last makes the rest count: a kill in between leaves no pair half there.
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
        "Free space or mend the folder, then run the same command again."
    )
