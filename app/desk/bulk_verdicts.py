"""Verdicts on many pairs at once: made into entries, saved as one, taken back as one."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.desk.queries.queue import Desk
from app.desk.verdict_state import Ledger
from toolkit.errors import InputError
from toolkit.store.queue import tables as queries
from toolkit.store.queue import views as listing
from toolkit.store.queue.view import View
from toolkit.store.verdicts import Action, Entry, Verdict, choice_of, newest_action

MOST = 100_000
"""Pairs that one verdict may cover: more is seldom meant."""


@dataclass(frozen=True)
class Given:
    """What became of one verdict on many pairs."""

    verdict: Verdict
    pairs: int
    left: int
    """Pairs that state no preference, which can be neither kept nor flipped."""

    def sentence(self) -> str:
        """As a person reads it."""
        word = "pair" if self.pairs == 1 else "pairs"
        said = f"{self.verdict} saved for {self.pairs:,} {word}"
        if self.left:
            said += f"; {self.left:,} without a preference were left as they were"
        return said + "."


def entries(
    pair_ids: Sequence[str],
    labels: Mapping[str, float | None],
    verdict: Verdict,
    curator: str,
    label_set: str,
    shown: Mapping[str, Any],
) -> list[Entry]:
    """One entry a pair that the verdict fits, all of one batch."""
    batch = uuid.uuid4().hex
    told = {**shown, "batch": batch, "blind": False}
    return [
        Entry(
            pair_id,
            curator,
            choice_of(verdict, labels.get(pair_id)),
            label_set,
            shown=told | {"label": labels.get(pair_id)},
        )
        for pair_id in pair_ids
        if verdict not in ("keep", "flip") or labels.get(pair_id) in (0.0, 1.0)
    ]


def give(
    desk: Desk, pair_ids: Sequence[str], verdict: Verdict, curator: str, shown: Mapping[str, Any]
) -> Given:
    """Save a verdict for these pairs. StoreError where it is not on the disk."""
    if len(pair_ids) > MOST:
        raise InputError(
            f"The view holds {len(pair_ids):,} pairs, and one verdict covers {MOST:,} at most; "
            "narrow the filter first."
        )
    labels = queries.labels_of(desk.cursor(), list(pair_ids))
    made = entries(pair_ids, labels, verdict, curator, desk.label_set, {"run": desk.run, **shown})
    if not made:
        raise InputError(
            f"None of these pairs states a preference, so {verdict} fits none of them; choose tie, "
            "drop or unsure."
        )
    desk.ledger.record(made)
    return Given(verdict, len(made), len(pair_ids) - len(made))


def give_view(desk: Desk, view: View, verdict: Verdict, curator: str, *, sure_of: int) -> Given:
    """The same for every pair of a view. InputError where it no longer holds `sure_of` pairs:
    others judge beside this curator, who confirmed that number."""
    pair_ids = listing.ids(desk.cursor(view), view)
    if len(pair_ids) != sure_of:
        raise InputError(
            f"The view holds {len(pair_ids):,} pairs now, not {sure_of:,}; look again, then "
            "confirm."
        )
    return give(desk, pair_ids, verdict, curator, {"page": "grid", "whole_view": True})


def newest(ledger: Ledger, curator: str) -> Action | None:
    """What `take_back` would take back, as of the ledger's last change: for a button."""
    return _newest(ledger.path, curator, len(ledger.changed))


@lru_cache(maxsize=16)
def _newest(path: Path, curator: str, changes: int) -> Action | None:  # noqa: ARG001
    """A batch holds 100,000 rows, and a page is drawn at every tick of a box."""
    return newest_action(path, curator)


def take_back(ledger: Ledger, curator: str) -> list[str]:
    """Undo the curator's newest action, one pair or a batch; the pairs that it was about."""
    action = newest_action(ledger.path, curator)
    if action is None:
        return []
    ledger.record(
        [Entry(pair_id, curator, "undo", undoes=verdict) for pair_id, verdict in action.rows]
    )
    return [pair_id for pair_id, _ in action.rows]
