"""trajectory_ell: how much less the policy agrees with a label than with other labels there."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from analysis.detectors.detector import Detector, by_window, forms
from analysis.pair_stats import Digest
from analysis.trajectory import as_table
from toolkit.schema import column

_MEANING = (
    "mean over visits of ell standardised within its timestep bin, negated: in standard "
    "deviations, high = suspicious, null: no visit"
)
_WHY = "ell's size depends on the timestep far more than on the pair; within a bin visits compare. "

OUT_OF_FOLD = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("visits", pa.int32(), "probes by runs that did not train on the pair"),
        column("out_of_fold_ell", pa.float64(), f"{_MEANING} by such a run"),
    ]
)


def trajectory_ell(digest: Digest, window: str) -> pa.Table:
    """Columns pair_id, visits, trajectory_ell and first_ell, then both for every window.

    Negated, so that high = suspicious. `first_ell` takes only rows from before the run had
    trained on the pair, which its label cannot have taught: first visits and earlier probes.
    """
    return by_window(
        digest,
        window,
        {
            "trajectory_ell": (lambda name: -digest.ell.standardised(name)[0], _MEANING),
            "first_ell": (
                lambda name: -digest.unseen.standardised(name)[0],
                f"{_MEANING} before the run had trained on the pair",
            ),
        },
    )


def out_of_fold(digests: Sequence[Digest]) -> pa.Table:
    """trajectory_ell by runs that never trained on the pair, one fold of prompts held out each.

    Schema OUT_OF_FOLD. Each run's probes of pairs it has no visit of, standardised within that
    run, then averaged over all such probes. Pairs without one are absent.
    """
    size = len(digests[0].pair_ids)
    total, count = np.zeros(size), np.zeros(size, np.int64)
    for digest in digests:
        values, rows = digest.unseen.standardised("probe")
        held_out = ~digest.memory.trained & (rows > 0)
        total[held_out] += (values * rows)[held_out]
        count[held_out] += rows[held_out]
    some = np.flatnonzero(count)
    ids = digests[0].pair_ids[some]
    return as_table(OUT_OF_FOLD, [ids, count[some].astype(np.int32), -total[some] / count[some]])


def _detector(name: str, finding: str, formula: str, assumption: str, *needs: str) -> Detector:
    return Detector(
        finding=finding,
        column=name,
        direction="high",
        formula=formula,
        needs=("trajectory", "labels", *needs),  # type: ignore[arg-type]
        assumption=assumption,
        source="this project; the ranking of arXiv 2503.16921's ell without its batch",
    )


DETECTORS = {
    **forms(
        {
            "trajectory_ell": _detector(
                "trajectory_ell",
                "trajectory_ell",
                "-(mean over visits of (ell - mean_b) / sd_b), b the visit's timestep bin",
                _WHY + "A pair's own label pulls its ell up once it was trained on: best where a "
                "pair is met few times",
            ),
            "first_ell": _detector(
                "first_ell",
                "trajectory_ell",
                "trajectory_ell over rows from before the run had trained on the pair",
                _WHY + "Other pairs have taught the model the preference before this one is met; "
                "in the first steps they have not",
            ),
        }
    ),
    "out_of_fold_ell": _detector(
        "out_of_fold_ell",
        "out_of_fold_ell",
        "trajectory_ell over probes by runs without a visit of the pair",
        _WHY + "Folds are drawn by prompt, and the runs differ in nothing but the fold",
        "fold",
    ),
}
