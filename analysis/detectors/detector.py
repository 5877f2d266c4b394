"""What every detector declares, and the table of one score in every window of a run."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import pyarrow as pa

from analysis.pair_stats import Digest
from analysis.trajectory import WINDOWS, WITH_PROBES, Floats, as_table, window_words
from toolkit.schema import column

Need = Literal["trajectory", "labels", "votes", "scores", "annotators", "prompts", "images", "fold"]


@dataclass(frozen=True)
class Detector:
    """One score a pair: where it lies, which side is suspicious, and when to believe it."""

    finding: str
    """The table it is a column of, keyed by pair_id."""
    column: str
    """Its column, (P,) float64, null where the score does not exist."""
    direction: Literal["high", "low"]
    """The side on which suspicious pairs lie."""
    formula: str
    needs: tuple[Need, ...]
    assumption: str
    """What must hold for the score to say something about the label."""
    source: str
    window: str | None = None
    """The part of the run it is bound to; None: the part that was asked for."""

    def suspicion(self, values: Floats) -> Floats:
        """(P,) the score turned so that high = suspicious."""
        return values if self.direction == "high" else -values


Scored = Mapping[str, tuple[Callable[[str], Floats], str]]
"""Column's name -> (window -> (P,) score over all the store's pairs, what the column means)."""


def windows_of(digest: Digest) -> list[str]:
    """The windows that a run has rows for: those with probes only where it recorded any."""
    probed = digest.counted("probe").any()
    return [name for name in WINDOWS if name not in WITH_PROBES or probed]


def by_window(digest: Digest, window: str, scored: Scored) -> pa.Table:
    """pair_id, visits and scores in `window`, then NAME_WINDOW for every window, by pair_id.

    Pairs that the run never met are absent; one it met outside a window has nulls there.
    """
    met = digest.met
    fields = [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("visits", pa.int32(), "visits in the window; 0: the scores are null"),
    ]
    arrays = [digest.pair_ids[met], digest.counted(window)[met].astype(np.int32)]
    listed = windows_of(digest)
    asked = list(product(dict.fromkeys([window, *listed]), scored))
    with ThreadPoolExecutor(2) as pool:  # sums over windows: numpy lets go of the interpreter
        scores = pool.map(lambda one: scored[one[1]][0](one[0])[met].astype(np.float64), asked)
    found = dict(zip(asked, scores, strict=True))
    for suffix, chosen in [("", window), *((f"_{name}", name) for name in listed)]:
        for name, (_, meaning) in scored.items():
            words = f"{meaning}; {window_words(chosen)}"
            fields.append(column(f"{name}{suffix}", pa.float64(), words))
            arrays.append(found[chosen, name])
    return as_table(pa.schema(fields), arrays)


def forms(detectors: Mapping[str, Detector]) -> dict[str, Detector]:
    """The detectors and, as NAME_WINDOW, the same scores over each window of a run."""
    found = dict(detectors)
    for name, detector in detectors.items():
        for window in WINDOWS:
            text = f"{detector.formula}; {window_words(window)}"
            found[f"{name}_{window}"] = Detector(
                **{
                    **vars(detector),
                    "column": f"{detector.column}_{window}",
                    "formula": text,
                    "window": window,
                }
            )
    return found
