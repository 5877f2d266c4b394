"""Verdicts: a curator's decisions, journalled at once, published as parts, resolved to one each.

A curator states a preference, so that work can be blind: keep and flip are that preference held
against a label. The journal is SQLite in WAL mode on the app's own disk, append-only; undo is a
new row that names the one it takes back. Published parts are immutable and are all that trainers
and exports on any host read.

Verdicts that were given together, taken back together.

A verdict on many pairs is one row a pair in the journal, each naming the batch among what was on
screen (`shown`), so that nothing but the journal has to remember it.
"""

import json
import re
import sqlite3
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit.errors import InputError, StoreError, is_damage
from toolkit.files.atomic import parts, write_part
from toolkit.files.remote import readable
from toolkit.schema import column, conform
from toolkit.store.layout import Store

Choice = Literal["image_0", "image_1", "tie", "drop", "unsure", "undo"]
Verdict = Literal["keep", "flip", "tie", "drop", "unsure"]

CHOICES = ("image_0", "image_1", "tie", "drop", "unsure", "undo")

VERDICTS = pa.schema(
    [
        column("verdict_id", pa.string(), "name of this row", nullable=False),
        column("sequence", pa.int64(), "order within the journal that wrote it", nullable=False),
        column("journal", pa.string(), "which journal wrote it", nullable=False),
        column("pair_id", pa.string(), "the pair that was judged", nullable=False),
        column("curator", pa.string(), "who judged", nullable=False),
        column("choice", pa.string(), "image_0, image_1, tie, drop, unsure or undo"),
        column("undoes", pa.string(), "verdict_id that an undo takes back"),
        column("label_set", pa.string(), "the set whose label was on screen"),
        column("reasons", pa.list_(pa.string()), "tags the curator chose"),
        column("note", pa.string(), "free text"),
        column("shown", pa.string(), "JSON of what was on screen (scores, sides, blind)"),
        column("time", pa.timestamp("us", tz="UTC"), "when it was saved"),
    ]
)

RESOLVED = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("choice", pa.string(), "image_0, image_1, tie, drop or unsure", nullable=False),
        column("verdict_id", pa.string(), "the newest row that agrees with the outcome"),
        column("curators", pa.int32(), "how many curators have a standing verdict"),
        column("split", pa.bool_(), "no choice has a majority; then choice is unsure"),
        column("differ", pa.bool_(), "the curators' standing verdicts are not all the same"),
    ]
)

PREFERENCE = {"image_0": 1.0, "image_1": 0.0, "tie": 0.5}
"""The label that a choice stands for; drop and unsure state none."""


@dataclass(frozen=True)
class Entry:
    """What a curator decided about one pair, before it has an id and a time."""

    pair_id: str
    curator: str
    choice: Choice
    label_set: str = "original"
    reasons: tuple[str, ...] = ()
    note: str = ""
    shown: dict[str, Any] = field(default_factory=dict)
    undoes: str | None = None


def verdict_of(choice: str, label: float | None) -> Verdict:
    """A choice held against a label: keep or flip for a preference, itself otherwise.

    A preference for a pair that had no label, or a tie, is a flip: the label must change.
    """
    if choice in ("tie", "drop", "unsure"):
        return choice  # type: ignore[return-value]
    return "keep" if label == PREFERENCE[choice] else "flip"


def verdict_sql(choice: str, label: str) -> str:
    """The SQL of `verdict_of`; null where the choice is."""
    return (
        f"CASE WHEN {choice} IN ('tie', 'drop', 'unsure') THEN {choice}"
        f" WHEN {choice} IS NULL THEN NULL WHEN {label} = ({choice} = 'image_0')::INTEGER"
        " THEN 'keep' ELSE 'flip' END"
    )


def choice_of(verdict: Verdict, label: float | None) -> Choice:
    """The choice behind a verdict button pressed in sight of `label` (1 or 0 for keep and flip)."""
    if verdict in ("tie", "drop", "unsure"):
        return verdict  # type: ignore[return-value]
    if label not in (0.0, 1.0):
        raise InputError(
            f"{verdict} needs a label of 1 or 0 to hold against, and the pair has {label}; choose "
            "an image, tie, drop or unsure."
        )
    return "image_0" if (label == 1.0) == (verdict == "keep") else "image_1"


class Journal:
    """The append-only SQLite file. Safe for several processes; open one per thread."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            # FULL: a commit is on the disk before the screen says "saved".
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(
                """
                CREATE TABLE IF NOT EXISTS about (journal TEXT NOT NULL);
                CREATE TABLE IF NOT EXISTS verdicts (
                    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
                    verdict_id TEXT NOT NULL UNIQUE, pair_id TEXT NOT NULL, curator TEXT NOT NULL,
                    choice TEXT NOT NULL, undoes TEXT, label_set TEXT, reasons TEXT, note TEXT,
                    shown TEXT, time TEXT NOT NULL);
                CREATE INDEX IF NOT EXISTS by_pair ON verdicts (pair_id);
                INSERT INTO about SELECT lower(hex(randomblob(8)))
                    WHERE NOT EXISTS (SELECT 1 FROM about);
                """
            )
        except (sqlite3.Error, OSError) as problem:
            raise StoreError(
                f"The verdict journal {self.path} cannot be opened ({problem}); name a folder you "
                "may write with --journal."
            ) from problem
        self.name: str = self._db.execute("SELECT journal FROM about").fetchone()[0]

    def record(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Save entries in one transaction; rows as of `VERDICTS`, on the disk when this returns."""
        now = datetime.now(UTC)
        saved: list[dict[str, Any]] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for entry in entries:
                saved.append(self._insert(entry, now))
            self._db.execute("COMMIT")
        except BaseException as problem:  # an open transaction would shut every other writer out
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if not isinstance(problem, sqlite3.Error):
                raise
            raise StoreError(
                f"The verdict was NOT saved: {self.path} cannot be written ({problem}). Free space "
                "or mend the folder, then give the verdict again."
            ) from problem
        return saved

    def _insert(self, entry: Entry, now: datetime) -> dict[str, Any]:
        if entry.choice not in CHOICES:
            raise InputError(f"{entry.choice!r} is no choice; allowed: {', '.join(CHOICES)}.")
        verdict_id = uuid.uuid4().hex
        cursor = self._db.execute(
            "INSERT INTO verdicts (verdict_id, pair_id, curator, choice, undoes, label_set,"
            " reasons, note, shown, time) VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                verdict_id,
                entry.pair_id,
                entry.curator,
                entry.choice,
                entry.undoes,
                entry.label_set,
                json.dumps(list(entry.reasons)),
                entry.note,
                json.dumps(entry.shown),
                now.isoformat(),
            ),
        )
        return {
            "verdict_id": verdict_id,
            "sequence": cursor.lastrowid,
            "journal": self.name,
            "pair_id": entry.pair_id,
            "curator": entry.curator,
            "choice": entry.choice,
            "undoes": entry.undoes,
            "label_set": entry.label_set,
            "reasons": list(entry.reasons),
            "note": entry.note,
            "shown": json.dumps(entry.shown),
            "time": now,
        }

    def undo(self, curator: str) -> dict[str, Any] | None:
        """Take back the curator's newest standing verdict; the undone row, or None if none is."""
        found = self._db.execute(
            "SELECT sequence FROM verdicts v WHERE curator = ? AND choice <> 'undo' AND NOT EXISTS"
            " (SELECT 1 FROM verdicts u WHERE u.pair_id = v.pair_id AND u.undoes = v.verdict_id)"
            " ORDER BY sequence DESC LIMIT 1",
            (curator,),
        ).fetchall()
        if not found:
            return None
        row = self.rows(after=found[0][0] - 1)[0]
        self.record([Entry(row["pair_id"], curator, "undo", undoes=row["verdict_id"])])
        return row

    def rows(self, after: int = 0) -> list[dict[str, Any]]:
        """Every row past a sequence number, oldest first."""
        found = self._db.execute(
            "SELECT verdict_id, sequence, pair_id, curator, choice, undoes, label_set, reasons,"
            " note, shown, time FROM verdicts WHERE sequence > ? ORDER BY sequence",
            (after,),
        )
        names = [described[0] for described in found.description]
        return [self._decoded(dict(zip(names, row, strict=True))) for row in found]

    def _decoded(self, row: dict[str, Any]) -> dict[str, Any]:
        row["reasons"] = json.loads(row["reasons"] or "[]")
        row["time"] = datetime.fromisoformat(row["time"])
        return {**row, "journal": self.name}

    def close(self) -> None:
        """Close the file; every row is on the disk already."""
        self._db.close()


def publish(store: Store, journal: Journal) -> int:
    """Write the journal's rows that no part holds as a part; how many they were."""
    covered = _covered(store, journal.name)
    fresh = [
        row
        for row in journal.rows(after=_first_gap(covered))
        if not any(first <= row["sequence"] <= last for first, last in covered)
    ]
    # A part holds rows that follow each other: its name says which, so that none need be opened.
    for rows in _unbroken(fresh):
        span = f"{rows[0]['sequence']:09d}-{rows[-1]['sequence']:09d}"
        table = pa.Table.from_pylist(rows, schema=VERDICTS)
        name = f"part-{time.time_ns():020d}-{journal.name}-{span}.parquet"
        write_part(store.folder("verdicts"), table, name=name)
    return len(fresh)


def _covered(store: Store, journal: str) -> list[tuple[int, int]]:
    """The sequences (first, last) of a journal that the parts hold."""
    spans = []
    for file in parts(store.folder("verdicts")):
        named = re.fullmatch(r"part-\d+-([0-9a-f]{16})(?:-(\d+))?-(\d+)", file.stem)
        if named:
            if named[1] == journal:  # older names say the last alone
                spans.append((int(named[2] or 1), int(named[3])))
            continue
        table = pq.read_table(readable(file), columns=["journal", "sequence"])
        mine = table.filter(pc.equal(table["journal"], journal))["sequence"]
        if len(mine):
            spans.append((1, pc.max(mine).as_py()))
    return sorted(spans)


def _first_gap(spans: Sequence[tuple[int, int]]) -> int:
    """The last sequence before the first that no span holds."""
    reached = 0
    for first, last in spans:
        if first > reached + 1:
            break
        reached = max(reached, last)
    return reached


def _unbroken(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    runs: list[list[dict[str, Any]]] = []
    for row in rows:
        if not runs or row["sequence"] != runs[-1][-1]["sequence"] + 1:
            runs.append([])
        runs[-1].append(row)
    return runs


def _published(store: Store) -> pa.Table:
    files = parts(store.folder("verdicts"))
    tables = [conform(_read(store, file), VERDICTS) for file in files]
    return pa.concat_tables(tables) if tables else VERDICTS.empty_table()


def _read(store: Store, file: Path) -> pa.Table:
    try:
        return pq.read_table(readable(file))
    except (OSError, pa.ArrowException) as problem:
        if not is_damage(problem):
            raise
        raise StoreError(
            f"The verdicts in {file} cannot be read ({' '.join(str(problem).split())}); type "
            f"`outvoted check {store.root} --repair`, and the desk publishes its journal's again."
        ) from problem


def resolve(store: Store) -> pa.Table:
    """One outcome a pair from the published verdicts (schema RESOLVED), sorted by pair_id.

    A curator's last standing verdict counts; between curators the majority of those who decided
    (unsure abstains); without a majority the pair is split, and unsure until somebody decides.
    """
    return resolve_rows(_published(store).to_pylist())


def resolve_rows(rows: list[dict[str, Any]]) -> pa.Table:
    """`resolve` over rows of VERDICTS, from parts, a journal, or both (duplicates do no harm)."""
    standing = standing_rows(rows)
    outcomes = [_outcome(pair, list(by.values())) for pair, by in sorted(standing.items())]
    return pa.Table.from_pylist(outcomes, schema=RESOLVED)


def standing_rows(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """The verdicts that stand, of rows of VERDICTS: pair_id -> curator -> row."""
    undone = {row["undoes"] for row in rows if row["choice"] == "undo"}
    standing: dict[str, dict[str, dict[str, Any]]] = {}
    for row in _in_order(rows):
        if row["choice"] != "undo" and row["verdict_id"] not in undone:
            standing.setdefault(row["pair_id"], {})[row["curator"]] = row
    return standing


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By time; within a journal by sequence, even where its clock was set back in between."""
    latest: dict[str, datetime] = {}
    moments = []
    for row in sorted(rows, key=lambda row: (row["journal"], row["sequence"])):
        latest[row["journal"]] = max(row["time"], latest.get(row["journal"], row["time"]))
        moments.append((latest[row["journal"]], row))
    return [row for _, row in sorted(moments, key=lambda pair: (pair[0], pair[1]["sequence"]))]


def _outcome(pair_id: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for row in rows:
        if row["choice"] != "unsure":
            counts[row["choice"]] = counts.get(row["choice"], 0) + 1
    deciding = sum(counts.values())
    winner = max(counts, key=lambda choice: counts[choice]) if counts else "unsure"
    split = deciding > 0 and counts[winner] * 2 <= deciding and deciding > 1
    choice = "unsure" if split else winner
    agreeing = [row for row in rows if row["choice"] == choice] or rows
    return {
        "pair_id": pair_id,
        "choice": choice,
        "verdict_id": max(agreeing, key=lambda row: (row["time"], row["sequence"]))["verdict_id"],
        "curators": len(rows),
        "split": split,
        "differ": len({row["choice"] for row in rows}) > 1,
    }


@dataclass(frozen=True)
class Action:
    """A curator's newest action that still stands, or what is left of it."""

    batch: str | None
    """None: a verdict on a single pair."""
    rows: tuple[tuple[str, str], ...]
    """(pair_id, verdict_id) of every verdict that stands of it."""


def newest_action(journal: Path, curator: str) -> Action | None:
    """What an undo takes back; None where no verdict of the curator stands.

    StoreError where the journal cannot be read.
    """
    standing = (
        " v.curator = ? AND v.choice <> 'undo' AND NOT EXISTS (SELECT 1 FROM verdicts u"
        " WHERE u.pair_id = v.pair_id AND u.undoes = v.verdict_id)"
    )
    try:
        db = sqlite3.connect(journal, timeout=30)
        try:
            newest = db.execute(
                "SELECT pair_id, verdict_id, json_extract(shown, '$.batch'), sequence"
                f" FROM verdicts v WHERE {standing} ORDER BY sequence DESC LIMIT 1",
                (curator,),
            ).fetchone()
            if newest is None or newest[2] is None:
                return Action(None, ((newest[0], newest[1]),)) if newest else None
            rows = db.execute(
                f"SELECT pair_id, verdict_id FROM verdicts v WHERE {standing}"
                " AND json_extract(shown, '$.batch') = ? ORDER BY sequence",
                (curator, newest[2]),
            ).fetchall()
        finally:
            db.close()
    except sqlite3.Error as problem:
        raise StoreError(
            f"The verdict journal {journal} cannot be read ({problem}); mend the file, or name "
            "another with --journal."
        ) from problem
    return Action(str(newest[2]), tuple((str(pair), str(verdict)) for pair, verdict in rows))
