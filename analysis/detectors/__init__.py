"""The detectors, one family per file; every analysis of a run executes them.

To add one, write its function and its `Detector` in a file here and add the file to `DETECTORS`.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pyarrow as pa

from analysis.detectors import (
    agreement,
    annotators,
    cartography,
    consistency,
    data_defects,
    minority,
    mixture,
    noise_type,
    trajectory_ell,
)
from analysis.detectors.detector import Detector, Evidence, Score, windows_of
from toolkit.schema import column
from toolkit.store.runs import WINDOW

DETECTORS: dict[str, Detector] = {
    detector.finding: detector
    for detector in chain(
        minority.DETECTORS,
        trajectory_ell.DETECTORS,
        cartography.DETECTORS,
        mixture.DETECTORS,
        consistency.DETECTORS,
        agreement.DETECTORS,
        noise_type.DETECTORS,
        data_defects.DETECTORS,
        annotators.DETECTORS,
    )
}
"""Finding -> the detector that computes it, in the order in which they run: a detector may read
the tables of those before it."""


def scores() -> dict[str, tuple[Detector, Score]]:
    """Score's name -> the score and its detector."""
    return {
        score.name: (detector, score)
        for detector in DETECTORS.values()
        for score in detector.scores
    }


@dataclass(frozen=True)
class Findings:
    """What the detectors gave."""

    window: str
    """The one that was asked for; "" without a run."""
    by_window: dict[str, dict[str, pa.Table]]
    """Window -> finding -> table. Only detectors that have windows are there in other windows."""
    details: dict[str, Any] = field(default_factory=dict)
    """Finding -> the dataset-level result, for detectors that have one."""

    @property
    def tables(self) -> dict[str, pa.Table]:
        """Finding -> its table in the window that was asked for."""
        return self.by_window[self.window]

    def table(self, finding: str) -> pa.Table:
        """A finding as it is stored: with a column `window` where the detector has windows."""
        detector = DETECTORS.get(finding)
        if detector is None or not detector.windows:
            return self.tables[finding]
        return pa.concat_tables(
            tables[finding].add_column(1, _WINDOW, pa.repeat(name, len(tables[finding])))
            for name, tables in self.by_window.items()
        )


_WINDOW = column(
    WINDOW,
    pa.string(),
    "the part of the run that the scores are taken over: all, early (its first 30 % of steps), "
    "late (from 30 %), last (from 70 %), probe (probes with fixed draws), both (late and probe)",
    nullable=False,
)


def run_detectors(evidence: Evidence, window: str) -> Findings:
    """Run every detector whose needs are met, those with windows in every window of the run.

    Without a run the one window is "".
    """
    ready = [d for d in DETECTORS.values() if all(evidence.has(need) for need in d.needs)]
    details: dict[str, Any] = {}

    def compute(name: str) -> dict[str, pa.Table]:
        tables = evidence.tables[name] = {}
        for detector in ready:
            if not detector.windows and name != window:
                continue
            computed = detector.compute(evidence, name)
            if isinstance(computed, tuple):
                computed, details[detector.finding] = computed
            if computed is not None:
                tables[detector.finding] = computed
        return tables

    names = list(dict.fromkeys([window, *(windows_of(evidence.run) if evidence.run else [])]))
    with ThreadPoolExecutor(2) as pool:  # sums over windows: numpy lets go of the interpreter
        tables = dict(zip(names, pool.map(compute, names), strict=True))
    return Findings(window, tables, details)
