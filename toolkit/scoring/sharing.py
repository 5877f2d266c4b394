"""Several processes may fill one scorer's scores at once: what one has written the others leave
out, and a row that two of them judged is written once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from toolkit.store import Store
from toolkit.store.locks import turn
from toolkit.store.scores import Identity, Key, claim_scores, keys_in, score_parts, write_scores

FLUSH_SECONDS = 20.0
FLUSH_ROWS = 4096


@dataclass
class Writer:
    """Collects rows and writes a part now and then, so that a killed run loses seconds."""

    store: Store
    scorer: str
    identity: Identity
    wanted: frozenset[Key]
    """What this process is to score."""
    wrote: Callable[[list[dict[str, Any]]], None]
    """Hears the rows that were written."""
    seen: set[str]
    """Parts whose rows are accounted for: those that lay there when `wanted` was found out."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)
    elsewhere: set[Key] = field(default_factory=set)
    """Of `wanted`: what another process has written meanwhile."""
    settled: set[Key] = field(default_factory=set)
    """Of `wanted`: what was judged here or written elsewhere."""

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Keep rows of SCORES; now and then they are written."""
        self.rows += rows
        self.settled |= {(row["image_id"], row["prompt"]) for row in rows}
        if len(self.rows) >= FLUSH_ROWS or time.monotonic() - self.since > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what others have not. StoreError where they score in another way."""
        with turn(self.store):
            claim_scores(self.store, self.scorer, self.identity)
            self._look()
            rows = [r for r in self.rows if (r["image_id"], r["prompt"]) not in self.elsewhere]
            written = write_scores(self.store, self.scorer, rows)
            self.seen |= {written.name} if written else set()
        self.rows, self.since = [], time.monotonic()
        self.wrote(rows)

    def _look(self) -> None:
        new = [file for file in score_parts(self.store, self.scorer) if file.name not in self.seen]
        self.seen |= {file.name for file in new}
        found = keys_in(new) & self.wanted
        self.elsewhere |= found
        self.settled |= found
