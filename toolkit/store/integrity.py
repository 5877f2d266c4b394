"""Check that a store is whole: every part, hash, key and reference, and what repairs a fault.

A check reads the parts first. Only if all of them can be read are keys compared between tables.
Nothing is ever deleted: `repair` moves a damaged part, and what killed writers left, to
STORE/aside/; ingesting the source again brings its rows back.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import StoreError, Unreachable
from toolkit.files.atomic import move, parts, read_json, unfinished, unlike_manifest
from toolkit.files.remote import place, readable
from toolkit.image_files import content_hash
from toolkit.progress import SILENT, Progress
from toolkit.recorder import TRAJECTORY
from toolkit.schema import AXES, IMAGES, PAIRS, QUARANTINE, THUMBNAILS, VOTES, conform
from toolkit.store.audits import audits, read_audit
from toolkit.store.connection import Connection, connect, fetch, first_value, parquet
from toolkit.store.journal import damage_of
from toolkit.store.label_sets import LABELS, axis_of, label_set_recipe, label_sets
from toolkit.store.layout import Store
from toolkit.store.locks import is_adding
from toolkit.store.pseudonyms import has_key, store_key
from toolkit.store.run_log import damaged_line
from toolkit.store.runs import run_about
from toolkit.store.scores import SCORES
from toolkit.store.verdicts import VERDICTS

TABLES = {
    "pairs": PAIRS,
    "images": IMAGES,
    "thumbnails": THUMBNAILS,
    "votes": VOTES,
    "axes": AXES,
    "quarantine": QUARANTINE,
    "verdicts": VERDICTS,
}
"""The tables of a store, with the schemas that their parts must have."""

ASIDE = "aside"
"""Where `repair` moves damaged files."""

_INTERRUPTED = "an ingest was interrupted: run the same command again"
_KEYS = (
    (
        "SELECT pair_id FROM pairs GROUP BY pair_id HAVING count(*) > 1",
        "{n} pair_ids occur twice in pairs ({first})",
        "move the newer of the parts that contain them out of pairs/",
    ),
    (
        "SELECT image_id FROM images GROUP BY image_id HAVING count(*) > 1",
        "{n} image_ids occur twice in images ({first})",
        "move the newer of the parts that contain them out of images/",
    ),
    (
        "SELECT DISTINCT pair_id FROM votes ANTI JOIN pairs USING (pair_id)",
        "votes name {n} pairs that the store does not have ({first})",
        _INTERRUPTED,
    ),
    (
        "SELECT image_id FROM thumbnails ANTI JOIN images USING (image_id)",
        "{n} thumbnails show images that the store does not have ({first})",
        _INTERRUPTED,
    ),
    (
        "SELECT DISTINCT pair_id FROM axes ANTI JOIN pairs USING (pair_id)",
        "labels on axes name {n} pairs that the store does not have ({first})",
        _INTERRUPTED,
    ),
    (
        "SELECT pair_id FROM axes GROUP BY pair_id, axis HAVING count(*) > 1",
        "{n} pairs have two labels on one axis ({first})",
        "move the newer of the parts that contain them out of axes/",
    ),
    (
        "SELECT pair_id FROM (FROM pairs SELECT pair_id, label UNION ALL FROM axes SELECT pair_id,"
        " label) WHERE NOT label BETWEEN 0 AND 1",
        "{n} pairs have a label that is no number from 0 to 1 ({first})",
        "move their part out of pairs/ and ingest the source again",
    ),
    (
        "SELECT pair_id FROM votes WHERE NOT choice BETWEEN 0 AND 1",
        "{n} votes are no number from 0 to 1 ({first})",
        "move their part out of votes/ and ingest them again",
    ),
    (
        "SELECT image_id FROM images WHERE bytes IS NULL AND ref_file IS NULL",
        "{n} images have neither bytes nor a file ({first})",
        "move their part out of images/ and ingest the source again",
    ),
)
"""Rows that must not exist: their keys in SQL, what is wrong, and the remedy."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and how to fix it."""

    what: str
    remedy: str
    files: tuple[Path, ...] = ()
    """Files that `repair` may move aside; none where moving would not help."""

    def line(self) -> str:
        """The fault in one sentence."""
        return f"{self.what}; {self.remedy}"


@dataclass(frozen=True)
class CheckReport:
    """What a check counted and what it found wrong."""

    counts: dict[str, int]
    """Rows by table (-1 where a part cannot be read), label sets and runs."""
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    """What is no fault, but good to know."""


def check_store(
    store: Store, *, bytes_too: bool = True, progress: Progress = SILENT
) -> CheckReport:
    """Check everything in a store; `bytes_too` also hashes every image and checkpoint in it."""
    faults: list[Fault] = []
    files = list(_files(store))
    with ThreadPoolExecutor(2) as pool:
        read = pool.map(lambda item: _unreadable(item[0], item[1], bytes_too), files)
        for number, fault in enumerate(read, 1):
            faults += [fault] if fault else []
            progress.update("parts", number, len(files))
    faults += [*_documents(store), *_leftovers(store)]
    if not any(fault.files for fault in faults):  # keys mean nothing beside unreadable parts
        with connect(store) as con:
            faults += [
                *_wrong_keys(con, is_adding(store)),
                *_unknown_pairs(con, store),
                *_lost_references(con),
                *_doubled_rows(con, store),
            ]
    faults += [*_damaged_journal(store), *(_damaged_checkpoints(store) if bytes_too else ())]
    return CheckReport(_counts(store), tuple(faults), tuple(_notes(store)))


def repair(store: Store, report: CheckReport) -> list[Path]:
    """Move aside the files that the report's faults name; their new paths."""
    moved = []
    folder = store.folder(ASIDE, time.strftime("%Y%m%d-%H%M%S"))
    for fault in report.faults:
        for file in fault.files:
            target = folder / file.relative_to(store.root).as_posix()
            move(file, target)
            moved.append(target)
    return moved


def _files(store: Store) -> Iterator[tuple[Path, pa.Schema | None]]:
    """Every Parquet file of the layout, with the schema that it must have."""
    for name, schema in TABLES.items():
        yield from ((file, schema) for file in parts(store.folder(name)))
    yield from ((file, LABELS) for file in sorted(store.folder("labels").glob("*.parquet")))
    for run in store.runs():
        yield from ((file, TRAJECTORY) for file in store.trajectory(run))
    yield from ((file, SCORES) for file in sorted(store.folder("scores").glob("*/*.parquet")))
    yield from ((file, None) for file in sorted(store.folder("findings").glob("*/*.parquet")))


def _unreadable(file: Path, schema: pa.Schema | None, bytes_too: bool) -> Fault | None:
    """Read a whole part, page by page against its checksums, a row group at a time."""
    remedy = "move it aside with --repair, then ingest the source again"
    if file.parent.name == "labels" or {"findings", "scores"} & set(file.parts):
        remedy = "move it aside with --repair, then make it again"
    elif "trajectory" in file.parts or file.parent.name == "verdicts":
        remedy = "restore it from a copy, or move it aside with --repair"
    try:
        with pq.ParquetFile(readable(file), page_checksum_verification=True) as opened:
            names = None if bytes_too else [n for n in opened.schema_arrow.names if n != "bytes"]
            for group in range(opened.num_row_groups):
                table = opened.read_row_group(group, columns=names)
                if schema is not None:
                    conform(table, schema)
                if schema is IMAGES and bytes_too and (image := _unlike_hash(table)):
                    what = f"{file}: image {image} is not the bytes that were ingested"
                    return Fault(what, remedy, (file,))
    except FileNotFoundError:  # moved by a running process since it was listed
        return None
    except KeyError as problem:
        return Fault(f"{file} lacks the column {problem.args[0]}", remedy, (file,))
    except (pa.ArrowException, OSError) as problem:
        why = str(problem).splitlines()[0]
        return Fault(f"{file} cannot be read ({why})", remedy, (file,))
    return None


def _unlike_hash(images: pa.Table) -> str | None:
    """The first image whose bytes do not have the hash recorded for them."""
    columns = (images[name].to_pylist() for name in ("image_id", "content_hash", "bytes"))
    for image_id, recorded, data in zip(*columns, strict=True):
        if data is not None and recorded is not None and content_hash(data) != recorded:
            return str(image_id)
    return None


def _documents(store: Store) -> Iterator[Fault]:
    """Damaged JSON files, logs and keys, and tables or runs that lack their JSON."""
    checks: list[Callable[[], object]] = [partial(_check_run, store, run) for run in store.runs()]
    if has_key(store):
        checks.append(partial(store_key, store))
    for name in label_sets(store)[1:]:
        checks.append(partial(label_set_recipe, store, name))
    for name in audits(store):
        checks.append(partial(read_audit, store, name))
    for file in sorted(store.folder("findings").glob("*/*.json")):
        again = f"type `outvoted analyze {store.root} --run {file.parent.name}`"
        checks.append(partial(read_json, file, again))
    for file in sorted(store.folder("runs").glob("*/probes.json")):
        checks.append(partial(read_json, file, "restore it from a copy", list))
    for check in checks:
        with suppress(FileNotFoundError):
            try:
                check()
            except StoreError as problem:
                what, _, remedy = str(problem).removesuffix(".").partition("; ")
                yield Fault(what, remedy)
    for file in sorted(store.folder("runs").glob("*/metrics/*.jsonl")):
        if line := damaged_line(file):
            remedy = "its curves lack that point; delete the line, or restore the file"
            yield Fault(f"{file} is damaged in line {line}", remedy)
    for file in sorted(store.folder("labels").glob("*.parquet")):
        if not file.with_suffix(".json").exists():
            what = f"{file} has no JSON beside it, so there is no such label set"
            yield Fault(what, "make the set again, or move it aside with --repair", (file,))
    for folder in sorted(store.folder("runs").glob("*/trajectory")):
        if not (folder.parent / "run.json").exists():
            yield Fault(f"{folder.parent} has rows and no run.json", _RESTORE)


def _check_run(store: Store, run: str) -> None:
    """StoreError where run.json is damaged, or recipe.yaml is not the recipe that was run."""
    about, recipe = run_about(store, run), store.run(run) / "recipe.yaml"
    known = about.get("recipe_sha256")  # none: of an earlier version
    if known is not None and (
        not recipe.exists() or hashlib.sha256(recipe.read_bytes()).hexdigest() != known
    ):
        raise StoreError(f"{recipe} is not the recipe that run {run} began with; {_RESTORE}.")


_RESTORE = "restore it from a copy"


def _leftovers(store: Store) -> Iterator[Fault]:
    """What killed writers left, as one fault."""
    left = [file for file in store.unfinished() if ASIDE not in file.relative_to(store.root).parts]
    if left:
        what = f"{len(left)} unfinished files of killed writers ({left[0]} and so on)"
        remedy = "no reader opens them; move them aside with --repair"
        yield Fault(what, remedy, tuple(left))


def _wrong_keys(con: Connection, adding: bool) -> Iterator[Fault]:
    """Rows of the tables that do not fit each other; `adding`: while an ingest writes, so that the
    rows that it writes first say nothing."""
    for sql, what, remedy in _KEYS:
        if adding and remedy == _INTERRUPTED:
            continue
        rows = fetch(con, f"SELECT count(*) AS n, min(x) AS first FROM ({sql}) t(x)").to_pylist()[0]
        if rows["n"]:
            yield Fault(what.format(**rows), remedy)


def _unknown_pairs(con: Connection, store: Store) -> Iterator[Fault]:
    """Label sets, findings, trajectories and verdicts on pairs that the store does not have."""
    named = [
        (f"label set {name}", [store.folder("labels", f"{name}.parquet")])
        for name in label_sets(store)[1:]
        if not _is_axis(store, name)
    ]
    for run in store.runs():
        named.append((f"the trajectory of run {run}", store.trajectory(run)))
        for file in sorted(store.findings(run).glob("*.parquet")):
            if "pair_id" in pq.read_schema(readable(file)).names:
                named.append((f"finding {file.stem} of run {run}", [file]))
    named.append(("verdicts", parts(store.folder("verdicts"))))
    for what, files in named:
        if absent := [str(file) for file in files if not file.exists()]:
            yield Fault(f"{what} has a recipe and no table ({absent[0]})", "make it again")
        elif files:
            sql = f"SELECT DISTINCT pair_id FROM {parquet(files)} ANTI JOIN pairs USING (pair_id)"
            unknown = fetch(con, f"{sql} ORDER BY pair_id")["pair_id"]
            if len(unknown):
                yield Fault(
                    f"{what} names {len(unknown)} pairs that the store does not have "
                    f"({unknown[0]})",
                    "ingest the source that contains them",
                )


def _doubled_rows(con: Connection, store: Store) -> Iterator[Fault]:
    """Rows of a run that are there twice: two processes trained it, or a part was copied."""
    for run in store.runs():
        if files := store.trajectory(run):
            # Of a run that was given more steps, a later probe may have the number of an earlier.
            key = "pair_id, visit, draw, kind, rank, CASE kind WHEN 'probe' THEN step END"
            sql = f"SELECT pair_id, count(*) AS times FROM {parquet(files)} GROUP BY {key}"
            rows = fetch(
                con,
                f"SELECT sum(times - 1)::BIGINT AS n, min(pair_id) AS first FROM ({sql})"
                " WHERE times > 1",
            ).to_pylist()[0]
            if rows["n"]:
                yield Fault(
                    f"the trajectory of run {run} has {rows['n']:,} rows twice (pair "
                    f"{rows['first']} and so on)",
                    f"analyses use each once; to be rid of them, move {store.run(run)}/trajectory "
                    "out of the store and train the run again",
                )


def _is_axis(store: Store, name: str) -> bool:
    try:
        return axis_of(store, name) is not None
    except StoreError:  # a fault already
        return True


def _lost_references(con: Connection) -> Iterator[Fault]:
    """Files that images are read from, and that are missing or shorter than they were."""
    rows = fetch(
        con,
        "SELECT ref_file, max(ref_row) AS last, count(*) AS n FROM images"
        " WHERE ref_file IS NOT NULL GROUP BY ref_file ORDER BY ref_file",
    ).to_pylist()
    gone = [row for row in rows if not place(row["ref_file"]).exists()]
    if gone:
        yield Fault(
            f"{sum(row['n'] for row in gone):,} images are in {len(gone):,} files that no longer "
            f"exist ({gone[0]['ref_file']})",
            "put the files back, or ingest the source again with --images copy",
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
                f"{path} has {length:,} rows, and an image should be in row {row['last']:,}",
                "put the file back as it was ingested",
            )


def _damaged_journal(store: Store) -> Iterator[Fault]:
    path = store.journal()
    if not path.exists():
        return
    published = [row for file in parts(store.folder("verdicts")) for row in _rows_of(file)]
    if damage := damage_of(path, published):
        yield Fault(
            f"the verdict journal {path} is damaged ({damage})",
            "restore it from a copy; published verdicts are not affected",
        )


def _damaged_checkpoints(store: Store) -> Iterator[Fault]:
    """Checkpoints with a file that is missing or has other bytes than were written."""
    for folder in sorted(store.folder("runs").glob("*/checkpoints/step-*")):
        if problem := unlike_manifest(folder):
            run = folder.parent.parent.name
            yield Fault(
                f"a checkpoint of run {run} is damaged ({problem})",
                f"{_RESTORE}, or train on from an earlier one with `outvoted resume {store.root} "
                f"--run {run} --checkpoint STEP`",
            )


def _rows_of(file: Path) -> list[dict[str, Any]]:
    try:
        return list(conform(pq.read_table(readable(file)), VERDICTS).to_pylist())
    except (pa.ArrowException, OSError, KeyError):  # a fault already
        return []


def _counts(store: Store) -> dict[str, int]:
    counts = {}
    for name in TABLES:
        try:
            files = map(readable, parts(store.folder(name)))
            counts[name] = sum(pq.read_metadata(file).num_rows for file in files)
        except (pa.ArrowException, OSError):
            counts[name] = -1
    return counts | {"label sets": len(label_sets(store)), "runs": len(store.runs())}


def _notes(store: Store) -> Iterator[str]:
    if is_adding(store):
        yield "an ingest is writing to the store; what it has begun is checked once it has ended"
    if running := len(list(unfinished(store.root, ("running",)))):
        yield f"{running:,} files are being written by running processes of this machine"
    if elsewhere := len(list(unfinished(store.root, ("elsewhere",)))):
        yield (
            f"{elsewhere:,} unfinished files may be of processes on another machine; they count as "
            "left behind an hour after their last change"
        )
    try:
        with connect(store) as con:
            bare = first_value(
                con,
                "SELECT count(*) FROM pairs WHERE image_0 NOT IN (SELECT image_id FROM images)"
                " OR image_1 NOT IN (SELECT image_id FROM images)",
            )
    except Unreachable:
        raise
    except Exception:  # an unreadable part is a fault already
        return
    if bare:
        yield f"{bare:,} pairs have no images in the store: they cannot be shown or trained on"
