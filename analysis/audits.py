"""What the answers of an audit say: pure functions over a saved sample and the verdicts on it."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.intervals import wilson
from toolkit.preference import is_decided
from toolkit.store.audits import ARMS, Audit
from toolkit.store.journal import Choice
from toolkit.store.verdicts import verdict_of

Answers = Mapping[str, Mapping[str, str]]
"""Curator -> pair_id -> choice."""


@dataclass(frozen=True)
class Rate:
    """How often people would reverse the labels of one arm."""

    arm: str
    answers: int
    """Of all curators."""
    flipped: int
    kept: int
    ties: int
    unsure: int
    share: float | None
    """flipped / (flipped + kept); None if both are 0."""
    low: float | None
    high: float | None
    """95 % interval of the share (Wilson 1927)."""
    expected: float | None
    """Mean calibrated probability of the pairs that were flipped or kept; None if none has one."""


def swapped(audit: Audit, curator: str, pair_id: str) -> bool:
    """Whether image_1 is on the left: by hash, so that a reload does not change it."""
    key = f"{audit.name} {audit.seed} {curator} {pair_id}"
    return bool(hashlib.sha256(key.encode()).digest()[0] & 1)


def choice_of_side(side: str, swapped: bool) -> Choice:
    """left, right, tie or unsure as a choice; `swapped`: image_1 is on the left."""
    if side not in ("left", "right"):
        return side  # type: ignore[return-value]
    return "image_0" if (side == "left") != swapped else "image_1"


def answers_in(audit: Audit, rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """The blind answers of each curator in rows of VERDICTS, oldest first; the last one counts.

    A verdict that was given elsewhere, with the label visible, is no answer.
    """
    answers: dict[str, dict[str, str]] = {}
    for row in _answer_rows(audit, rows):
        answers.setdefault(row["curator"], {})[row["pair_id"]] = row["choice"]
    return answers


def newest_answer(
    audit: Audit, rows: Iterable[Mapping[str, Any]], curator: str
) -> Mapping[str, Any] | None:
    """The curator's newest answer, which an undo takes back; None if there is none."""
    own = [row for row in _answer_rows(audit, rows) if row["curator"] == curator]
    return max(own, key=lambda row: (row["time"], row["sequence"]), default=None)


def _answer_rows(audit: Audit, rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that answer this audit and are not undone."""
    rows, pairs = list(rows), set(audit.order)
    undone = {row["undoes"] for row in rows if row["choice"] == "undo"}
    return [
        row
        for row in rows
        if row["choice"] != "undo"
        and row["verdict_id"] not in undone
        and row["pair_id"] in pairs
        and _shown(row).get("audit") == audit.name
    ]


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = row["shown"]
    return dict(json.loads(shown) if isinstance(shown, str) and shown else shown or {})


def rates(
    audit: Audit,
    labels: Mapping[str, float | None],
    answers: Answers,
    probability: Mapping[str, float],
) -> list[Rate]:
    """One rate an arm, over the answers of all curators."""
    return [_rate(audit, arm, labels, answers, probability) for arm in ARMS]


def _rate(
    audit: Audit,
    arm: str,
    labels: Mapping[str, float | None],
    answers: Answers,
    probability: Mapping[str, float],
) -> Rate:
    members = set(getattr(audit, arm))
    verdicts = [
        (pair_id, compare(choice, labels.get(pair_id)))
        for by_pair in answers.values()
        for pair_id, choice in by_pair.items()
        if pair_id in members
    ]
    counts = Counter(verdict for _, verdict in verdicts)
    flipped, kept = counts["flip"], counts["keep"]
    known = [
        probability[pair_id]
        for pair_id, verdict in verdicts
        if verdict in ("flip", "keep") and pair_id in probability
    ]
    return Rate(
        arm,
        len(verdicts),
        flipped,
        kept,
        counts["tie"],
        counts["unsure"],
        flipped / (flipped + kept) if flipped + kept else None,
        *interval(flipped, flipped + kept),
        sum(known) / len(known) if known else None,
    )


def compare(choice: str, label: float | None) -> str:
    """An answer compared with a label: keep, flip, tie, unsure; none if the label has none."""
    if choice not in ("image_0", "image_1"):
        return choice
    return verdict_of(choice, label) if is_decided(label) else "none"


def interval(count: int, total: int) -> tuple[float | None, float | None]:
    """The 95 % interval of a share by Wilson (1927); (None, None) if the total is 0."""
    if total == 0:
        return None, None
    low, high = wilson(count, total)
    return float(low), float(high)


@dataclass(frozen=True)
class Bin:
    """Answers on pairs of similar calibrated probability."""

    expected: float
    """Their mean probability."""
    share: float
    """Share of the answers that flip."""
    low: float
    high: float
    """95 % interval of the share (Wilson 1927)."""
    count: int


def reliability(
    labels: Mapping[str, float | None],
    answers: Answers,
    probability: Mapping[str, float],
    *,
    bins: int = 5,
) -> list[Bin]:
    """How often people flipped, by calibrated probability: bins of equal count, ascending."""
    pairs = sorted(
        (probability[pair_id], verdict == "flip")
        for by_pair in answers.values()
        for pair_id, choice in by_pair.items()
        if pair_id in probability
        and (verdict := compare(choice, labels.get(pair_id))) in ("flip", "keep")
    )
    result = []
    for number in range(bins):
        part = pairs[number * len(pairs) // bins : (number + 1) * len(pairs) // bins]
        if part:
            flipped = sum(flip for _, flip in part)
            low, high = interval(flipped, len(part))
            mean = sum(value for value, _ in part) / len(part)
            result.append(Bin(mean, flipped / len(part), low or 0.0, high or 0.0, len(part)))
    return result
