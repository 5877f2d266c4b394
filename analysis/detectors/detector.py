"""What a detector is: scores, what they assume, and the function that computes them.

A detector's function takes an `Evidence` and a window, and gives a table keyed by pair_id. It may
read the tables of the detectors that are registered before it, `evidence.tables[window]`.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from analysis.pair_stats import Digest
from analysis.trajectory import WINDOWS, WITH_PROBES, Floats, as_table
from toolkit.schema import column

Need = Literal[
    "trajectory", "labels", "votes", "scores", "annotators", "prompts", "images", "splits", "fold"
]  # fmt: skip


@dataclass(frozen=True)
class Score:
    """One score per pair: which side is suspicious, and when to believe it."""

    name: str
    """What evaluations, reports and `ov.detect` call it."""
    column: str
    """Its column in the detector's table, (P,) float64, null where the score does not exist."""
    direction: Literal["high", "low"]
    """The side on which suspicious pairs are."""
    formula: str
    assumption: str
    """What must hold for the score to say something about the label."""
    source: str
    whole_run: bool = False
    """The same in every window of the run."""

    def suspicion(self, values: Floats) -> Floats:
        """(P,) the score turned so that high = suspicious."""
        return values if self.direction == "high" else -values


@dataclass(frozen=True)
class Evidence:
    """What detectors may look at."""

    run: Digest | None
    """Sums over the rows of a run; None: labels, votes and images alone are looked at."""
    facts: pa.Table
    """`pair_facts` of every pair in the store, by pair_id."""
    votes: pa.Table
    """pair_id, annotator, choice."""
    extra_votes: pa.Table | None = None
    """Extra votes, of people, scorers or axes (`toolkit.labels.majority`)."""
    folds: Sequence[Digest] = ()
    """Runs that held a fold of the pairs out of training."""
    looks: pa.Table | None = None
    """`data_defects.LOOKS` of the images that something is known of."""
    tables: dict[str, dict[str, pa.Table]] = field(default_factory=lambda: defaultdict(dict))
    """Window -> finding -> table, of the detectors that ran before."""

    @property
    def digest(self) -> Digest:
        """`run` where there is one, as for detectors that need a trajectory."""
        assert self.run is not None
        return self.run

    @cached_property
    def pairs(self) -> pa.Table:
        """`of_pairs(facts)`; with a run, row k belongs to `digest.visited[k]`."""
        return self.of_pairs(self.facts)

    def of_pairs(self, table: pa.Table) -> pa.Table:
        """The rows of the pairs that are analyzed: those the run met, or all without one.

        `table`: a row a pair of the store, by pair_id.
        """
        return table if self.run is None else table.take(pa.array(self.run.visited))

    @cached_property
    def annotators(self) -> list[str | None] | None:
        """The annotator of each of `pairs`; None where none is known."""
        people = self.pairs["annotator"].to_pylist()
        return people if any(name is not None for name in people) else None

    def has(self, need: Need) -> bool:
        """Whether a need of a detector is met."""
        if need == "votes":
            return bool(self.votes.num_rows)
        if need == "scores":
            return self.extra_votes is not None
        if need == "annotators":
            return self.annotators is not None
        if need == "images":
            return self.looks is not None
        if need == "splits":
            return len(self.facts["split"].drop_null().unique()) > 1
        if need == "trajectory":
            return self.run is not None
        if need == "fold":
            return bool(self.folds or (self.run and self.run.counted("probe").any()))
        return True


Computed: TypeAlias = "pa.Table | tuple[pa.Table, Any] | None"
"""A table; or a table and what it says of the dataset as a whole; or nothing to say."""


@dataclass(frozen=True)
class Detector:
    """A family of scores that one function computes."""

    finding: str
    """Name of its table in the store."""
    compute: Callable[[Evidence, str], Computed]
    """Called with the evidence and the window. Rows ascend by pair_id."""
    needs: tuple[Need, ...]
    """It runs where all of these are met."""
    scores: tuple[Score, ...]
    """None for a table that ranks no pairs, such as one of annotators."""
    windows: bool = False
    """Computed for every window of the run, not only for the one that was asked for."""


def windows_of(digest: Digest) -> list[str]:
    """The windows that a run has rows for: those with probes only where it recorded any."""
    probed = digest.counted("probe").any()
    return [name for name in WINDOWS if name not in WITH_PROBES or probed]


def scored_table(digest: Digest, window: str, scores: Mapping[str, tuple[Floats, str]]) -> pa.Table:
    """pair_id, visits and scores in a window, by pair_id.

    `scores`: column's name -> ((P,) score over all the store's pairs, what the column means). Pairs
    that the run never met are absent; one that it met outside the window has nulls.
    """
    visited = digest.visited
    fields = [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("visits", pa.int32(), "visits in the window; 0: the scores are null"),
        *(column(name, pa.float64(), meaning) for name, (_, meaning) in scores.items()),
    ]
    values = [values[visited].astype(np.float64) for values, _ in scores.values()]
    visits = digest.counted(window)[visited].astype(np.int32)
    return as_table(pa.schema(fields), [digest.visited_ids, visits, *values])
