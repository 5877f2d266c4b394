"""Verdicts that were given together, taken back together.

A verdict on many pairs is one row a pair in the journal, each naming the batch among what was on
screen (`shown`), so that nothing but the journal has to remember it.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import StoreError


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
