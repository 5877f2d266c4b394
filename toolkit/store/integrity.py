"""Is the store what it says? Every part, hash, key and count, and what can be done about a fault.

Nothing is deleted. `repair` moves a part that cannot be read (and what killed writers left) to
STORE/aside/; ingesting the source again brings its rows back.

The first half of a check: every part read through, and what killed writers left.

The second half of a check: keys that must meet, files that are referred to, the journal.

What a check finds: one thing that is wrong, and what mends it.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import Unreachable
from toolkit.files.atomic import move, parts
from toolkit.files.remote import place, readable
from toolkit.image_files import content_hash
from toolkit.pairs import IMAGES, PAIRS, QUARANTINE, THUMBNAILS, VOTES
from toolkit.recorder import TRAJECTORY
from toolkit.schema import conform
from toolkit.store.connection import Connection, connect, fetch, parquet
from toolkit.store.label_sets import LABELS, label_sets
from toolkit.store.layout import Store
from toolkit.store.scores import SCORES
from toolkit.store.verdicts import VERDICTS


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and what mends it."""

    what: str
    remedy: str
    files: tuple[Path, ...] = ()
    """Files that `repair` may move aside; none where moving would not help."""

    def line(self) -> str:
        """The fault as a person reads it."""
        return f"{self.what}; {self.remedy}"


ASIDE = "aside"
"""Where `repair` moves what is bad."""

TABLES = {
    "pairs": PAIRS,
    "images": IMAGES,
    "thumbnails": THUMBNAILS,
    "votes": VOTES,
    "quarantine": QUARANTINE,
    "verdicts": VERDICTS,
}
"""The tables of a store, with the schemas that their parts must have."""


def part_files(store: Store) -> Iterator[tuple[Path, pa.Schema | None]]:
    """Every Parquet file of the layout, with the schema that it must have."""
    for name, schema in TABLES.items():
        yield from ((file, schema) for file in parts(store.folder(name)))
    yield from ((file, LABELS) for file in sorted(store.folder("labels").glob("*.parquet")))
    for run in store.runs():
        found = sorted(store.run(run).glob("trajectory/rank-*/part-*.parquet"))
        yield from ((file, TRAJECTORY) for file in found)
    yield from ((file, SCORES) for file in sorted(store.folder("scores").glob("*/*.parquet")))
    yield from ((file, None) for file in sorted(store.folder("findings").glob("*/*.parquet")))


def part_fault(file: Path, schema: pa.Schema | None, bytes_too: bool) -> Fault | None:
    """Read a whole part, page by page against its checksums, a row group at a time."""
    again = "move it aside with --repair, then ingest the source again"
    if file.parent.name in ("labels",) or {"findings", "scores"} & set(file.parts):
        again = "move it aside with --repair, then make it again"
    elif "trajectory" in file.parts or file.parent.name == "verdicts":
        again = "restore it from a copy, or move it aside with --repair"
    try:
        with pq.ParquetFile(readable(file), page_checksum_verification=True) as opened:
            names = None if bytes_too else [n for n in opened.schema_arrow.names if n != "bytes"]
            for group in range(opened.num_row_groups):
                table = opened.read_row_group(group, columns=names)
                if schema is not None:
                    conform(table, schema)
                if schema is IMAGES and bytes_too and (wrong := _unlike_hash(table)):
                    what = f"{file}: image {wrong} is not the bytes that were ingested"
                    return Fault(what, again, (file,))
    except KeyError as problem:
        return Fault(f"{file} lacks the column {problem.args[0]}", again, (file,))
    except (pa.ArrowException, OSError) as problem:
        why = str(problem).splitlines()[0]
        return Fault(f"{file} cannot be read ({why})", again, (file,))
    return None


def _unlike_hash(images: pa.Table) -> str | None:
    """The first image whose bytes do not have the hash that stands beside them."""
    columns = (images[name].to_pylist() for name in ("image_id", "content_hash", "bytes"))
    for image_id, told, data in zip(*columns, strict=True):
        if data is not None and told is not None and content_hash(data) != told:
            return str(image_id)
    return None


def leftovers(store: Store) -> list[Fault]:
    """What killed writers left, as one fault."""
    left = [file for file in store.unfinished() if ASIDE not in file.relative_to(store.root).parts]
    if not left:
        return []
    what = f"{len(left)} unfinished files of killed writers ({left[0]} and so on)"
    return [Fault(what, "nothing reads them; move them aside with --repair", tuple(left))]


_KEYS = (
    (
        "SELECT pair_id FROM pairs GROUP BY pair_id HAVING count(*) > 1",
        "{n} pair_ids stand twice in pairs ({first})",
        "take the newer of the parts that hold them out of pairs/",
    ),
    (
        "SELECT image_id FROM images GROUP BY image_id HAVING count(*) > 1",
        "{n} image_ids stand twice in images ({first})",
        "take the newer of the parts that hold them out of images/",
    ),
    (
        "SELECT DISTINCT pair_id FROM votes ANTI JOIN pairs USING (pair_id)",
        "votes name {n} pairs that the store does not have ({first})",
        "an ingest was cut off: run the same command again",
    ),
    (
        "SELECT image_id FROM thumbnails ANTI JOIN images USING (image_id)",
        "{n} thumbnails show images that the store does not have ({first})",
        "an ingest was cut off: run the same command again",
    ),
    (
        "SELECT pair_id FROM pairs WHERE label NOT IN (0, 0.5, 1)",
        "{n} pairs have a label that is none of 1, 0, .5 and null ({first})",
        "take their part out of pairs/ and ingest the source again",
    ),
    (
        "SELECT pair_id FROM votes WHERE choice NOT IN (0, 0.5, 1)",
        "{n} votes are none of 1, 0 and .5 ({first})",
        "take their part out of votes/ and ingest them again",
    ),
    (
        "SELECT image_id FROM images WHERE bytes IS NULL AND ref_file IS NULL",
        "{n} images have neither bytes nor a place ({first})",
        "take their part out of images/ and ingest the source again",
    ),
)


def keys(con: Connection) -> Iterator[Fault]:
    """Rows of the tables that do not fit each other."""
    for sql, what, remedy in _KEYS:
        rows = fetch(con, f"SELECT count(*) AS n, min(x) AS first FROM ({sql}) t(x)").to_pylist()[0]
        if rows["n"]:
            yield Fault(what.format(**rows), remedy)


def overlays(con: Connection, store: Store) -> Iterator[Fault]:
    """Label sets, findings and trajectories that speak about pairs which are not there."""
    places = [
        (f"label set {name}", [store.folder("labels", f"{name}.parquet")])
        for name in label_sets(store)[1:]
    ]
    for run in store.runs():
        files = sorted(store.run(run).glob("trajectory/rank-*/part-*.parquet"))
        places.append((f"the trajectory of run {run}", files))
        for file in sorted(store.findings(run).glob("*.parquet")):
            if "pair_id" in pq.read_schema(readable(file)).names:
                places.append((f"finding {file.stem} of run {run}", [file]))
    places.append(("verdicts", parts(store.folder("verdicts"))))
    for what, files in places:
        if not files:
            continue
        if absent := [str(file) for file in files if not file.exists()]:
            yield Fault(f"{what} has a recipe and no table ({absent[0]})", "make it again")
            continue
        sql = f"SELECT DISTINCT pair_id FROM {parquet(files)} ANTI JOIN pairs USING (pair_id)"
        rows = fetch(con, f"SELECT count(*) AS n, min(pair_id) AS first FROM ({sql})").to_pylist()[
            0
        ]
        if rows["n"]:
            yield Fault(
                f"{what} names {rows['n']} pairs that the store does not have ({rows['first']})",
                "ingest the source that had them",
            )


def references(store: Store) -> Iterator[Fault]:
    """Files that images lie in, and that are gone or shorter than they were."""
    with connect(store) as con:
        rows = fetch(
            con,
            "SELECT ref_file, max(ref_row) AS last, count(*) AS n FROM images"
            " WHERE ref_file IS NOT NULL GROUP BY ref_file ORDER BY ref_file",
        ).to_pylist()
    gone = [row for row in rows if not place(row["ref_file"]).exists()]
    if gone:
        yield Fault(
            f"{sum(row['n'] for row in gone):,} images lie in {len(gone):,} files that are not "
            f"there any more ({gone[0]['ref_file']})",
            "put the files back, or ingest the source anew with --images copy",
        )
    for row in rows:
        path = place(row["ref_file"])
        if row in gone or row["last"] is None or path.suffix == ".arrow":
            continue
        try:
            length = pq.read_metadata(readable(path)).num_rows
        except (pa.ArrowException, OSError):
            length = 0
        if length <= row["last"]:
            yield Fault(
                f"{path} has {length:,} rows, and an image is said to lie in row {row['last']:,}",
                "put the file back as it was ingested",
            )


def journal(store: Store) -> Iterator[Fault]:
    """A damaged verdict journal."""
    path = store.journal()
    if not path.exists():
        return
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as db:
            answer = db.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.Error as problem:
        answer = str(problem)
    if answer != "ok":
        yield Fault(
            f"the verdict journal {path} is damaged ({answer})",
            "restore it from a copy; published verdicts are not touched by this",
        )


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
