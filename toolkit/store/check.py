"""Is the store what it says? Every part, hash, key and count, and what can be done about a fault.

Nothing is deleted. `repair` moves a part that cannot be read (and what killed writers left) to
STORE/aside/; ingesting the source again brings its rows back.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import Unreachable
from toolkit.parts import move, parts
from toolkit.places import readable
from toolkit.store.check_keys import journal, keys, overlays, references
from toolkit.store.check_parts import ASIDE, TABLES, leftovers, part_fault, part_files
from toolkit.store.faults import Fault
from toolkit.store.labels import label_sets
from toolkit.store.layout import Store
from toolkit.store.query import connect, fetch


@dataclass(frozen=True)
class Report:
    """What was looked at, and what was wrong with it."""

    counts: dict[str, int]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    """What is no fault, and good to know."""


def check_store(
    store: Store, *, bytes_too: bool = True, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Look at everything; `bytes_too` also hashes every image that the store holds.

    `progress` hears (parts read, parts in all).
    """
    found: list[Fault] = []
    files = list(part_files(store))
    with ThreadPoolExecutor(2) as pool:
        looks = pool.map(lambda item: part_fault(item[0], item[1], bytes_too), files)
        for number, fault in enumerate(looks, 1):
            found += [fault] if fault else []
            if progress:
                progress(number, len(files))
    found += leftovers(store)
    if not any(fault.files for fault in found):  # keys mean nothing beside unreadable parts
        with connect(store) as con:
            found += keys(con)
            found += overlays(con, store)
        found += references(store)
    found += journal(store)
    return Report(_counts(store), tuple(found), tuple(_notes(store)))


def repair(store: Store, report: Report) -> list[Path]:
    """Move aside what the report's faults name; the new places. A reader sees a part or none."""
    moved = []
    folder = store.folder(ASIDE, time.strftime("%Y%m%d-%H%M%S"))
    for fault in report.faults:
        for file in fault.files:
            target = folder / file.relative_to(store.root).as_posix()
            move(file, target)
            moved.append(target)
    return moved


def _counts(store: Store) -> dict[str, int]:
    found = {}
    for name in TABLES:
        try:
            files = map(readable, parts(store.folder(name)))
            found[name] = sum(pq.read_metadata(file).num_rows for file in files)
        except (pa.ArrowException, OSError):
            found[name] = -1
    return found | {"label sets": len(label_sets(store)), "runs": len(store.runs())}


def _notes(store: Store) -> Iterator[str]:
    try:
        with connect(store) as con:
            bare = fetch(
                con,
                "SELECT count(*) AS n FROM pairs WHERE image_0 NOT IN (SELECT image_id FROM images)"
                " OR image_1 NOT IN (SELECT image_id FROM images)",
            )["n"][0].as_py()
    except Unreachable:
        raise
    except Exception:  # an unreadable part was named already
        return
    if bare:
        yield f"{bare:,} pairs have no images in the store: they cannot be looked at or trained on"
