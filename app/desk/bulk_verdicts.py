"""One verdict on many pairs: saved together, undone together."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.desk.queries.connection import Desk
from app.desk.verdict_state import VerdictState
from toolkit.errors import InputError
from toolkit.preference import is_decided
from toolkit.store.journal import Action, Entry, newest_action
from toolkit.store.queue import tables, views
from toolkit.store.queue.views import View
from toolkit.store.verdicts import Verdict, choice_of

MOST = 100_000
"""Pairs that one verdict may cover: more are rarely intended."""


@dataclass(frozen=True)
class Result:
    """How many pairs a bulk verdict was saved for."""

    verdict: Verdict
    pairs: int
    skipped: int
    """Pairs whose label states no preference, which can be neither kept nor flipped."""

    def sentence(self) -> str:
        """The result in words."""
        word = "pair" if self.pairs == 1 else "pairs"
        text = f"{self.verdict} saved for {self.pairs:,} {word}"
        if self.skipped:
            text += f"; {self.skipped:,} without a preference were left unchanged"
        return text + "."


def entries(
    pair_ids: Sequence[str],
    labels: Mapping[str, float | None],
    verdict: Verdict,
    curator: str,
    label_set: str,
    shown: Mapping[str, Any],
) -> list[Entry]:
    """One entry for each pair that the verdict fits, all with one batch id."""
    on_screen = {**shown, "batch": uuid.uuid4().hex, "blind": False}
    return [
        Entry(
            pair_id,
            curator,
            choice_of(verdict, labels.get(pair_id)),
            label_set,
            shown=on_screen | {"label": labels.get(pair_id)},
        )
        for pair_id in pair_ids
        if verdict not in ("keep", "flip") or is_decided(labels.get(pair_id))
    ]


def save(
    desk: Desk, pair_ids: Sequence[str], verdict: Verdict, curator: str, shown: Mapping[str, Any]
) -> Result:
    """Save a verdict for these pairs. StoreError if it is not on the disk."""
    if len(pair_ids) > MOST:
        raise InputError(
            f"The view has {len(pair_ids):,} pairs, and one verdict covers at most {MOST:,}; "
            "narrow the filter first."
        )
    labels = tables.labels_of(desk.cursor(), list(pair_ids))
    saved = entries(pair_ids, labels, verdict, curator, desk.label_set, {"run": desk.run, **shown})
    if not saved:
        raise InputError(
            f"None of these pairs states a preference, so {verdict} fits none of them; choose tie, "
            "drop or unsure."
        )
    desk.verdicts.record(saved)
    return Result(verdict, len(saved), len(pair_ids) - len(saved))


def replaced(desk: Desk, view: View, curator: str) -> int:
    """How many pairs of a view have a verdict of the curator already."""
    return views.count_among(desk.cursor(view), view, desk.verdicts.judged_by(curator))


def save_view(
    desk: Desk, view: View, verdict: Verdict, curator: str, *, confirmed: tuple[int, int]
) -> Result:
    """Save a verdict for every pair of a view. `confirmed`: the pairs, and how many of the
    curator's verdicts this replaces, as the curator confirmed them. InputError if either has
    changed: others give verdicts at the same time."""
    pair_ids = views.ids(desk.cursor(view), view)
    now = (len(pair_ids), replaced(desk, view, curator))
    if now != confirmed:
        raise InputError(
            f"The view has {now[0]:,} pairs now, {now[1]:,} of them with your verdict, not "
            f"{confirmed[0]:,} and {confirmed[1]:,}; look at it again, then confirm."
        )
    return save(desk, pair_ids, verdict, curator, {"page": "grid", "whole_view": True})


def newest(verdicts: VerdictState, curator: str) -> dict[str, Any] | None:
    """What `undo` would take back: how many pairs, and the id of its last verdict."""
    action = _newest(verdicts.path, curator, len(verdicts.changed))
    return {"pairs": len(action.rows), "id": action.rows[-1][1]} if action else None


@lru_cache(maxsize=16)
def _newest(path: Path, curator: str, changes: int) -> Action | None:  # noqa: ARG001
    """Cached: a batch may have 100,000 rows, and ticking a box redraws the page."""
    return newest_action(path, curator)


def undo(
    verdicts: VerdictState, curator: str, *, pair: str | None = None, last: str | None = None
) -> list[str]:
    """Take back the curator's newest action, on one pair or a batch; returns its pairs.

    InputError if it is not a verdict on `pair` alone, or its last verdict is not `last`, where
    they are given.
    """
    action = newest_action(verdicts.path, curator)
    if action is None:
        return []
    single = len(action.rows) == 1 and action.rows[0][0] == pair
    if (pair and not single) or (last and action.rows[-1][1] != last):
        raise InputError(
            "Your newest verdict is another one by now, given in another window; nothing was "
            "undone. Press Z again to undo that one."
        )
    verdicts.record(
        [Entry(pair_id, curator, "undo", undoes=verdict) for pair_id, verdict in action.rows]
    )
    return [pair_id for pair_id, _ in action.rows]
