"""The verdicts as the desk sees them: journal first, then memory, then published in the background.

One Ledger serves every session of the process. It knows the store's published verdicts and its
own journal's rows, so that a verdict shows at once, before any part is written.
"""

import atexit
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import is_damage
from toolkit.files.atomic import parts
from toolkit.files.remote import readable
from toolkit.schema import conform
from toolkit.store import Store
from toolkit.store.verdicts import VERDICTS, Entry, Journal, publish, resolve_rows, standing_rows

_QUIET_SECONDS = 1.5
"""A verdict is published once no other followed it for so long ..."""
_LATEST_SECONDS = 8.0
"""... or after so long at the latest: fewer, larger parts."""


@dataclass(frozen=True)
class Saved:
    """What the saved line says."""

    time: datetime | None
    """Of the journal's newest row, UTC; None before the first."""
    verdicts: int
    """Pairs with a standing verdict of this curator."""
    path: Path


class Ledger:
    """All verdicts of a store. Safe for several threads."""

    def __init__(self, store: Store, path: Path) -> None:
        """Read everything once. StoreError where the journal cannot be opened."""
        self.path = path
        self.problem = ""
        """Why the last publishing failed; empty when it did not."""
        self.unread = ""
        """Which part of the verdicts cannot be read; empty when all can."""
        self.changed: list[str] = []
        """pair_ids in the order their verdicts changed; readers remember how far they read."""
        self._store = store
        self._lock = threading.RLock()
        self._rows: dict[str, dict[str, dict[str, Any]]] = {}
        self._judged: dict[str, set[str]] = {}
        self._seen: set[str] = set()
        self._newest: datetime | None = None
        self._first_waiting = self._last_waiting = 0.0
        self._waiting = threading.Condition(self._lock)
        journal = Journal(path)
        try:
            for row in journal.rows():
                self._take(row)
                self._newest = row["time"]
        finally:
            journal.close()
        self.refresh()
        threading.Thread(target=self._publish_when_quiet, daemon=True).start()
        atexit.register(self.publish)
        self._wait_for_publishing()  # what a killed desk left in the journal

    @property
    def trouble(self) -> str:
        """What a page must tell: what could not be published, or not be read."""
        return self.problem or self.unread

    def refresh(self) -> None:
        """Take in parts that others published since the last look."""
        with self._lock:
            self.unread = ""
            for file in parts(self._store.folder("verdicts")):
                if file.name in self._seen:
                    continue
                try:
                    rows = conform(pq.read_table(readable(file)), VERDICTS).to_pylist()
                except (OSError, pa.ArrowException) as problem:
                    if not is_damage(problem):
                        raise
                    why = " ".join(str(problem).split())
                    self.unread = (
                        f"{file} cannot be read ({why}), so verdicts of others may be missing "
                        f"here; type `outvoted check {self._store.root}`."
                    )
                    continue
                for row in rows:
                    self._take(row)
                self._seen.add(file.name)

    def record(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Save entries; they are on the disk when this returns. StoreError where they are not."""
        journal = Journal(self.path)
        try:
            saved = journal.record(entries)
        finally:
            journal.close()
        with self._lock:
            for row in saved:
                self._take(row)
                self._newest = row["time"]
            self._wait_for_publishing()
        return saved

    def undo(self, curator: str) -> str | None:
        """Take back the curator's newest standing verdict; its pair_id, or None if none is."""
        journal = Journal(self.path)
        try:
            undone = journal.undo(curator)
            after = undone["sequence"] if undone else 0
            fresh = journal.rows(after=after) if undone else []
        finally:
            journal.close()
        if undone is None:
            return None
        with self._lock:
            for row in fresh:
                self._take(row)
                self._newest = row["time"]
            self._wait_for_publishing()
        return str(undone["pair_id"])

    def outcome(self, pair_id: str) -> dict[str, Any] | None:
        """The pair's resolved verdict (schema RESOLVED), or None while it is open."""
        return self.outcomes_of([pair_id]).get(pair_id)

    def outcomes_of(self, pair_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The resolved verdicts of those of the pairs that have one."""
        with self._lock:
            rows = [row for name in pair_ids for row in self._rows.get(name, {}).values()]
        return {row["pair_id"]: row for row in resolve_rows(rows).to_pylist()}

    def standing(self, pair_id: str) -> dict[str, dict[str, Any]]:
        """Each curator's verdict on the pair that stands: curator -> row of VERDICTS."""
        with self._lock:
            rows = list(self._rows.get(pair_id, {}).values())
        return standing_rows(rows).get(pair_id, {})

    def history(self, pair_id: str) -> list[dict[str, Any]]:
        """Every row of VERDICTS on the pair, undone ones and undos too, oldest first."""
        with self._lock:
            rows = list(self._rows.get(pair_id, {}).values())
        return sorted(rows, key=lambda row: (row["time"], row["sequence"]))

    def outcomes(self) -> list[dict[str, Any]]:
        """Every pair's resolved verdict."""
        with self._lock:
            rows = [row for by_id in self._rows.values() for row in by_id.values()]
        return list(resolve_rows(rows).to_pylist())

    def saved(self, curator: str) -> Saved:
        """The saved line for a curator."""
        with self._lock:
            return Saved(self._newest, len(self._judged.get(curator, ())), self.path)

    def publish(self) -> None:
        """Publish what the journal holds beyond the parts; a failure becomes `problem`."""
        try:
            journal = Journal(self.path)
            try:
                publish(self._store, journal)
            finally:
                journal.close()
            self.problem = ""
        except Exception as problem:  # the thread must outlive it, and the page must tell it
            self.problem = (
                f"The verdicts are safe in the journal, but could not be published to "
                f"{self._store.folder('verdicts')} ({problem}); free space or mend the folder."
            )

    def _take(self, row: dict[str, Any]) -> None:
        by_id = self._rows.setdefault(row["pair_id"], {})
        if row["verdict_id"] in by_id:
            return
        by_id[row["verdict_id"]] = row
        self.changed.append(row["pair_id"])
        judged = self._judged.setdefault(row["curator"], set())
        if _stands(list(by_id.values()), row["curator"]):
            judged.add(row["pair_id"])
        else:
            judged.discard(row["pair_id"])

    def _wait_for_publishing(self) -> None:
        with self._waiting:
            self._last_waiting = time.monotonic()
            self._first_waiting = self._first_waiting or self._last_waiting
            self._waiting.notify()

    def _publish_when_quiet(self) -> None:
        while True:
            with self._waiting:
                while not self._first_waiting:
                    self._waiting.wait()
                due = min(
                    self._last_waiting + _QUIET_SECONDS, self._first_waiting + _LATEST_SECONDS
                )
                if (left := due - time.monotonic()) > 0:
                    self._waiting.wait(left)
                    continue
                self._first_waiting = 0.0
            self.publish()
            if self.problem:
                time.sleep(5)
                self._wait_for_publishing()


def _stands(rows: list[dict[str, Any]], curator: str) -> bool:
    undone = {row["undoes"] for row in rows if row["choice"] == "undo"}
    return any(
        row["curator"] == curator and row["choice"] != "undo" and row["verdict_id"] not in undone
        for row in rows
    )
