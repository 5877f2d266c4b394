"""The desk's journal of verdicts: SQLite in WAL mode on the app's own disk, append-only.

A verdict is saved at once. An undo is a new row that names the one it takes back. A verdict on many
pairs is one row a pair, each naming its batch in `shown`, so that the journal alone knows what was
given together and is taken back together.
"""

import fcntl
import json
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from toolkit.errors import InputError, StoreError

Choice = Literal["image_0", "image_1", "tie", "drop", "unsure", "undo"]
CHOICES = ("image_0", "image_1", "tie", "drop", "unsure", "undo")

_STANDING = (
    "v.curator = ? AND v.choice <> 'undo' AND json_extract(v.shown, '$.audit') IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM verdicts u"
    " WHERE u.pair_id = v.pair_id AND u.undoes = v.verdict_id)"
)
"""A verdict of the curator that no undo took back; the answers of an audit are no verdicts."""


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


class Journal:
    """The append-only SQLite file. Safe for several processes; open one per thread."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            # FULL: a commit is on the disk before the desk says "saved".
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
        """Save entries in one transaction; rows as of `VERDICTS`, on the disk when this returns.

        Of undos those are left out whose verdict another window took back already. StoreError says
        whether nothing was saved, or whether that is not known.
        """
        now = datetime.now(UTC)
        saved: list[dict[str, Any]] = []
        committing = False
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for entry in entries:
                if not self._is_undone(entry):
                    saved.append(self._insert(entry, now))
            committing = True
            self._db.execute("COMMIT")
        except BaseException as problem:  # an open transaction would shut every other writer out
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if not isinstance(problem, sqlite3.Error):
                raise
            raise StoreError(
                f"It is NOT KNOWN whether the verdict was saved: {self.path} failed while it was "
                f"written to the disk ({problem}). Free space or fix the disk, open the pair "
                "again, and give the verdict if its history lacks it."
                if committing
                else f"The verdict was NOT saved: {self.path} cannot be written ({problem}). Free "
                "space or fix the folder's permissions, then give the verdict again."
            ) from problem
        if entries and not saved:
            raise InputError(
                "Another window took back that verdict at the same moment; undo again for the one "
                "before it."
            )
        return saved

    def _is_undone(self, undo: Entry) -> bool:
        """Whether the verdict that an undo names was taken back already."""
        sql = "SELECT 1 FROM verdicts WHERE pair_id = ? AND undoes = ?"
        return self._db.execute(sql, (undo.pair_id, undo.undoes)).fetchone() is not None

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Wait until no other desk publishes from this journal, and keep others waiting."""
        with self.path.with_name(f".{self.path.name}.publish").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

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
        """Take back the curator's newest verdict; the undone row, or None if there is none."""
        newest = self._db.execute(
            f"SELECT sequence FROM verdicts v WHERE {_STANDING} ORDER BY sequence DESC LIMIT 1",
            (curator,),
        ).fetchall()
        if not newest:
            return None
        row = self.rows(after=newest[0][0] - 1)[0]
        self.record([Entry(row["pair_id"], curator, "undo", undoes=row["verdict_id"])])
        return row

    def rows(self, after: int = 0) -> list[dict[str, Any]]:
        """Every row past a sequence number, oldest first."""
        return read_rows(self._db, self.name, after)

    def close(self) -> None:
        """Close the file; every row is on the disk already."""
        self._db.close()


def read_rows(db: sqlite3.Connection, journal: str, after: int = 0) -> list[dict[str, Any]]:
    """Every row of a journal past a sequence number, oldest first: rows as of `VERDICTS`."""
    names = "verdict_id, sequence, pair_id, curator, choice, undoes, label_set, reasons, note"
    rows = []
    for values in db.execute(
        f"SELECT {names}, shown, time FROM verdicts WHERE sequence > ? ORDER BY sequence", (after,)
    ):
        row = dict(zip([*names.split(", "), "shown", "time"], values, strict=True))
        row["reasons"] = json.loads(row["reasons"] or "[]")
        row["time"] = datetime.fromisoformat(row["time"])
        rows.append({**row, "journal": journal})
    return rows


def damage_of(path: Path, published: Iterable[dict[str, Any]]) -> str:
    """What is wrong with a journal, its pages or a row that is not as it was published; "" if
    nothing is. On a disk that is read-only SQLite cannot make the file that it shares with other
    processes; then what it wrote last, and is still beside the journal, is not read."""
    known = {(row["journal"], row["sequence"]): row for row in published}
    address = f"{path.resolve().as_uri()}?mode=ro"
    damage = _damage(address, known)
    if damage and not os.access(path.parent, os.W_OK):
        return _damage(address + "&immutable=1", known)
    return damage


def _damage(address: str, published: Mapping[tuple[str, int], dict[str, Any]]) -> str:
    try:
        with closing(sqlite3.connect(address, uri=True)) as db:
            pages = str(db.execute("PRAGMA integrity_check").fetchone()[0])
            name = db.execute("SELECT journal FROM about").fetchone()[0]
            for row in read_rows(db, name):
                if published.get((name, row["sequence"]), row) != row:
                    return f"verdict {row['verdict_id']} is not as it was published"
    except (sqlite3.Error, ValueError, TypeError) as problem:
        return str(problem)
    return "" if pages == "ok" else pages


@dataclass(frozen=True)
class Action:
    """A curator's newest action that was not undone, or what is left of it."""

    batch: str | None
    """None: a verdict on a single pair."""
    rows: tuple[tuple[str, str], ...]
    """(pair_id, verdict_id) of each of its verdicts that was not undone."""


def newest_action(journal: Path, curator: str) -> Action | None:
    """What an undo would take back; None where the curator has no verdict left.

    StoreError where the journal cannot be read.
    """
    try:
        db = sqlite3.connect(journal, timeout=30)
        try:
            newest = db.execute(
                "SELECT pair_id, verdict_id, json_extract(shown, '$.batch'), sequence"
                f" FROM verdicts v WHERE {_STANDING} ORDER BY sequence DESC LIMIT 1",
                (curator,),
            ).fetchone()
            if newest is None or newest[2] is None:
                return Action(None, ((newest[0], newest[1]),)) if newest else None
            rows = db.execute(
                f"SELECT pair_id, verdict_id FROM verdicts v WHERE {_STANDING}"
                " AND json_extract(shown, '$.batch') = ? ORDER BY sequence",
                (curator, newest[2]),
            ).fetchall()
        finally:
            db.close()
    except sqlite3.Error as problem:
        raise StoreError(
            f"The verdict journal {journal} cannot be read ({problem}); repair the file, or "
            "name another with --journal."
        ) from problem
    return Action(str(newest[2]), tuple((str(pair), str(verdict)) for pair, verdict in rows))
