"""What an audit's answers say: pure functions over a kept sample and the verdicts given on it."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.intervals import wilson
from toolkit.store.audits import ARMS, Audit
from toolkit.store.verdicts import Choice

Answers = Mapping[str, Mapping[str, str]]
"""Curator -> pair_id -> choice."""


@dataclass(frozen=True)
class Rate:
    """How often people would reverse the labels of one arm."""

    arm: str
    judged: int
    """Answers, of all curators that count."""
    flipped: int
    kept: int
    ties: int
    unsure: int
    share: float | None
    """flipped of flipped and kept; None without any."""
    low: float | None
    high: float | None
    """95 % interval of the share (Wilson 1927)."""
    expected: float | None
    """Mean calibrated probability of the same answers' pairs; None where none has one."""


def swapped(audit: Audit, curator: str, pair_id: str) -> bool:
    """Whether image_1 stands on the left: by hash, so that a reload changes nothing."""
    key = f"{audit.name} {audit.seed} {curator} {pair_id}"
    return bool(hashlib.sha256(key.encode()).digest()[0] & 1)


def choice_of_side(side: str, turned: bool) -> Choice:
    """left, right, tie or unsure as a choice, with image_1 on the left where `turned`."""
    if side not in ("left", "right"):
        return side  # type: ignore[return-value]
    return "image_0" if (side == "left") != turned else "image_1"


def answers_in(audit: Audit, rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """The blind answers of each curator in rows of VERDICTS, oldest first; the last one counts.

    A verdict that was given elsewhere, in sight of the label, is no answer.
    """
    kept = list(rows)
    undone = {row["undoes"] for row in kept if row["choice"] == "undo"}
    found: dict[str, dict[str, str]] = {}
    members = set(audit.order)
    for row in kept:
        if row["choice"] == "undo" or row["verdict_id"] in undone or row["pair_id"] not in members:
            continue
        if _shown(row).get("audit") == audit.name:
            found.setdefault(row["curator"], {})[row["pair_id"]] = row["choice"]
    return found


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    held = row["shown"]
    return dict(json.loads(held) if isinstance(held, str) and held else held or {})


def newest_answer(
    audit: Audit, rows: Sequence[Mapping[str, Any]], curator: str
) -> Mapping[str, Any] | None:
    """The curator's newest standing answer, which an undo takes back."""
    undone = {row["undoes"] for row in rows if row["choice"] == "undo"}
    mine = [
        row
        for row in rows
        if row["curator"] == curator
        and row["choice"] != "undo"
        and row["verdict_id"] not in undone
        and _shown(row).get("audit") == audit.name
    ]
    return max(mine, key=lambda row: (row["time"], row["sequence"]), default=None)


def rates(
    audit: Audit,
    labels: Mapping[str, float | None],
    answers: Answers,
    probability: Mapping[str, float],
) -> list[Rate]:
    """A rate an arm, over the answers of all curators given."""
    found = []
    for arm in ARMS:
        members = set(getattr(audit, arm))
        given = [
            (pair_id, choice)
            for by_pair in answers.values()
            for pair_id, choice in by_pair.items()
            if pair_id in members
        ]
        verdicts = [held_against(choice, labels.get(pair_id)) for pair_id, choice in given]
        flipped, kept = verdicts.count("flip"), verdicts.count("keep")
        decided = [p for (p, _), verdict in zip(given, verdicts, strict=True)
                   if verdict in ("flip", "keep")]  # fmt: skip
        known = [probability[pair_id] for pair_id in decided if pair_id in probability]
        low, high = interval(flipped, flipped + kept)
        found.append(
            Rate(
                arm, len(given), flipped, kept, verdicts.count("tie"), verdicts.count("unsure"),
                flipped / len(decided) if decided else None, low, high,
                sum(known) / len(known) if known else None,
            )
        )  # fmt: skip
    return found


def held_against(choice: str, label: float | None) -> str:
    """An answer held against a label: keep, flip, tie, unsure, or none where the label is none."""
    if choice not in ("image_0", "image_1"):
        return choice
    if label not in (0.0, 1.0):
        return "none"
    return "keep" if (choice == "image_0") == (label == 1.0) else "flip"


def interval(found: int, of: int) -> tuple[float | None, float | None]:
    """The 95 % interval of a share by Wilson (1927); None, None of nothing."""
    if of == 0:
        return None, None
    low, high = wilson(found, of)
    return float(low), float(high)


@dataclass(frozen=True)
class Bin:
    """Answers on pairs of about the same calibrated probability."""

    expected: float
    """Their mean probability."""
    share: float
    low: float
    high: float
    count: int


def reliability(
    labels: Mapping[str, float | None],
    answers: Answers,
    probability: Mapping[str, float],
    *,
    bins: int = 5,
) -> list[Bin]:
    """How often people flipped, by calibrated probability: bins of equal count, ascending."""
    told = sorted(
        (probability[pair_id], verdict == "flip")
        for by_pair in answers.values()
        for pair_id, choice in by_pair.items()
        if pair_id in probability
        and (verdict := held_against(choice, labels.get(pair_id))) in ("flip", "keep")
    )
    found = []
    for number in range(bins):
        part = told[number * len(told) // bins : (number + 1) * len(told) // bins]
        if part:
            hits = sum(hit for _, hit in part)
            low, high = interval(hits, len(part))
            mean = sum(value for value, _ in part) / len(part)
            found.append(Bin(mean, hits / len(part), low or 0.0, high or 0.0, len(part)))
    return found
