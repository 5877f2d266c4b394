"""What becomes of every pair, as arrays, and the two ways to change it.

Row k of every array is the k-th pair in the store's order. NaN: no label, or not known.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.floating]

SCORES = ("minority", "confidence", "stability")


@dataclass
class Plan:
    """The pairs (columns of `pairs_in_order`) and what the policy makes of each."""

    files: list[Path]
    labels: str
    rows: pa.Table
    label: Floats
    """Under the label set, before verdicts and scores."""
    final: Floats
    kept: npt.NDArray[np.bool_]
    weight: Floats
    scores: dict[str, Floats]
    verdict: list[str | None]
    decisions: dict[int, dict[str, Any]]
    """Row to {action, why, by, ...}; a row that is absent is exported as it was."""
    own_weight: Floats
    """The sample_weight that the source came with."""
    planted: npt.NDArray[np.bool_]
    """True where the label is one that planted flips made wrong."""
    without: str | None
    """The label set beneath those flips; None where none were planted."""

    @property
    def pair_ids(self) -> list[str]:
        """Of every row."""
        return list(self.rows["pair_id"].to_pylist())


def facts_of(decision: dict[str, Any]) -> dict[str, Any]:
    """What a verdict added to a decision."""
    return {name: decision[name] for name in ("verdict", "verdict_id") if name in decision}


def drop(plan: Plan, row: int, why: str, by: str, **facts: Any) -> None:
    """Leave a pair out, and say why and by whom."""
    plan.kept[row] = False
    plan.decisions[row] = {"action": "dropped", "why": why, "by": by, **facts}


def relabel(plan: Plan, row: int, label: float, why: str, by: str) -> None:
    """Give a pair another label, and say why and by whom."""
    plan.final[row] = label
    action = "tied" if label == 0.5 else "flipped"
    plan.decisions[row] = {"action": action, "why": why, "by": by}


def floats(values: pa.ChunkedArray) -> Floats:
    """A column as an array, NaN where it is null."""
    return np.asarray(values.cast(pa.float64()).to_numpy(), np.float64)
