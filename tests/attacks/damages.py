"""Single damages to a store that holds every kind of file: `check` must name each."""

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

HOWS = ("cut", "emptied", "zeroed", "noise", "bit")


@dataclass(frozen=True)
class Damage:
    """One file of a store, damaged in one way."""

    file: str
    how: str
    seed: int

    def apply(self, root: Path) -> None:
        """Damage the file below `root`."""
        rng, path = random.Random(self.seed), root / self.file
        data = bytearray(path.read_bytes())
        at = rng.randrange(len(data)) if data else 0
        if self.how == "cut":
            data = data[:at]
        elif self.how == "emptied":
            data.clear()
        elif self.how == "zeroed":
            data[at : at + 64] = bytes(len(data[at : at + 64]))
        elif self.how == "noise":
            data[at : at + 64] = rng.randbytes(len(data[at : at + 64]))
        elif data:
            data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        os.utime(path, (0, 0))  # nobody is writing it any more


def random_damages(root: Path, seed: int, count: int) -> Iterator[Damage]:
    """`count` damages, spread evenly over the kinds of files and of damage."""
    rng = random.Random(seed)
    kinds: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and path.stat().st_size and "lock" not in path.name:
            kinds.setdefault(_kind(name), []).append(name)
    for k in range(count):
        files = kinds[sorted(kinds)[k % len(kinds)]]
        yield Damage(rng.choice(files), HOWS[k // len(kinds) % len(HOWS)], rng.randrange(1 << 30))


def _kind(name: str) -> str:
    top, *rest = name.split("/")
    return f"{top}/{'/'.join(rest[1:-1])}{Path(name).suffix}" if rest else name


def full_store(folder: Path) -> Path:
    """A small store that was ingested, trained, analyzed, judged, audited and scored."""
    from analysis.run_analysis import analyze_run
    from tests.factories import StoreFactory
    from toolkit.files.atomic import write_json
    from toolkit.ingest.new_images import make_thumbnails
    from toolkit.store.audits import Audit, keep_audit
    from toolkit.store.connection import read_pairs
    from toolkit.store.journal import Entry, Journal
    from toolkit.store.pseudonyms import store_key
    from toolkit.store.verdicts import publish

    store = StoreFactory(folder)(pairs=24, run=True)
    pairs = read_pairs(store, ["pair_id"])[0].to_pylist()
    analyze_run(store, "r")
    make_thumbnails(store)
    store_key(store)
    journal = Journal(store.journal())
    journal.record([Entry(pair, "c", "tie") for pair in pairs[:5]])
    publish(store, journal)
    journal.close()
    keep_audit(store, Audit("a", "r", "flip20", 0, 0.5, tuple(pairs[:3]), (), tuple(pairs[:3])))
    metrics = store.run("r") / "metrics"
    metrics.mkdir()
    (metrics / "scalars.jsonl").write_text("".join(f'{{"step": {k}}}\n' for k in range(9)))
    write_json(store.run("r") / "probes.json", [{"visit": 7, "step": 1, "draws": 2, "seed": 0}])
    return store.root


def attack_damage(base: Path, damage: Damage) -> str:
    """ "named" by check; SILENT where check calls the store whole."""
    from toolkit.errors import OutvotedError
    from toolkit.store import open_store
    from toolkit.store.integrity import check_store

    root = base.with_name("damaged")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(base, root)
    damage.apply(root)
    try:
        report = check_store(open_store(root))
    except OutvotedError:
        return "named"
    if report.faults:
        return "named"
    left = (root / damage.file).read_bytes()
    if (
        damage.file.endswith(".jsonl")
        and (not left or left.endswith(b"\n"))
        and ((base / damage.file).read_bytes().startswith(left))
    ):
        return "a log as it once was"  # whole lines are missing at its end, which nothing shows
    if content(root / damage.file) != content(base / damage.file) and (
        damage.file.endswith((".jsonl", "probes.json"))
    ):
        return "another value, where there is no checksum"
    return "harmless" if content(root / damage.file) == content(base / damage.file) else "SILENT"


def content(path: Path) -> object:
    """What a reader gets of a file; two that differ in unused bytes alone are equal."""
    import pyarrow.parquet as pq

    from toolkit.store.journal import read_rows

    if path.suffix == ".parquet":
        return pq.read_table(path).to_pydict()
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".sqlite":
        with closing(sqlite3.connect(path)) as db:
            return read_rows(db, "")
    return path.read_bytes()
