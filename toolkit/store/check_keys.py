"""The second half of a check: keys that must meet, files that are referred to, the journal."""

import sqlite3
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.parts import parts
from toolkit.places import place, readable
from toolkit.store.faults import Fault
from toolkit.store.labels import label_sets
from toolkit.store.layout import Store
from toolkit.store.query import Connection, connect, fetch, parquet

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
