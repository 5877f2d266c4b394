"""trajectory_ell: how much less the policy agrees with a label than with other labels there; and
matched_filter, which weighs when and where it does by how steady that is over all pairs."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from analysis.detectors.detector import Computed, Detector, Evidence, Score, scored_table
from analysis.pair_stats import GAP_BINS, BinSums, Digest
from analysis.trajectory import Floats, Mask, as_table
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
    """Columns pair_id, visits, trajectory_ell and first_ell, in a window.

    Negated, so that high = suspicious. `first_ell` takes only rows from before the run had
    trained on the pair, so the pair's own label cannot have taught them: first visits and earlier
    probes.
    """
    return scored_table(
        digest,
        window,
        {
            "trajectory_ell": (-digest.ell.standardised(window)[0], _MEANING),
            "first_ell": (
                -digest.unseen.standardised(window)[0],
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


def matched_filter(digest: Digest) -> pa.Table:
    """Columns pair_id, visits, matched_filter, matched_filter_ell, reference_gap; of the whole run.

    F are sums over a pair's visits of label-signed ell by phase of the run and timestep (3 x 5),
    and of the reference's own label-signed gap by timestep (5): `matched_filter` takes both,
    `matched_filter_ell` the first, `reference_gap` the second. The filter is the one that is best
    for a constant signal in independent noise (North 1943): no labels of errors, nothing tuned.
    """
    ell = phases(digest.ell)
    known = ~np.isnan(digest.sign) & (digest.counted("all") > 0)
    parts = {
        "matched_filter": (np.hstack([ell, digest.gaps]), f"{_FILTER} of ell and the reference"),
        "matched_filter_ell": (ell, f"{_FILTER} of ell alone"),
        "reference_gap": (digest.gaps, f"{_FILTER} of the reference's own errors alone"),
    }
    scores = {name: (filtered(F, known), meaning) for name, (F, meaning) in parts.items()}
    return scored_table(digest, "all", scores)


_FILTER = "- sum F mean(F) / var(F), high = suspicious, null without a label or a visit"


def phases(sums: BinSums) -> Floats:
    """(P, 3 * GAP_BINS) sums of ell over the parts of the run that are no probes, by timestep."""
    parts, pairs, bins = sums.sums.shape
    edges = np.arange(GAP_BINS) * bins // GAP_BINS
    binned = np.add.reduceat(sums.sums[: parts - 1], edges, axis=2)
    return np.moveaxis(binned, 1, 0).reshape(pairs, -1)


def filtered(features: Floats, known: Mask) -> Floats:
    """(P,) - sum_k F_k mean(F_k) / var(F_k) of (P, K) features; mean and variance over the `known`
    pairs, NaN for the others. A feature without spread says nothing."""
    scores = np.full(len(features), np.nan)
    values = features[known].astype(np.float64)
    if len(values) > 1:
        spread = values.var(axis=0)
        weight = np.where(spread > 0, values.mean(axis=0) / np.where(spread > 0, spread, 1), 0)
        scores[known] = -(values @ weight)
    return scores


def _score(name: str, formula: str, assumption: str) -> Score:
    return Score(
        name=name,
        column=name,
        direction="high",
        formula=formula,
        assumption=_WHY + assumption,
        source="this project; the ranking of arXiv 2503.16921's ell without its batch",
    )


def _out_of_fold(evidence: Evidence, window: str) -> Computed:  # noqa: ARG001
    table = out_of_fold(evidence.folds or [evidence.digest])
    return table if table.num_rows else None


DETECTORS = (
    Detector(
        finding="trajectory_ell",
        compute=lambda evidence, window: trajectory_ell(evidence.digest, window),
        needs=("trajectory", "labels"),
        scores=(
            _score(
                "trajectory_ell",
                "-(mean over visits of (ell - mean_b) / sd_b), b the visit's timestep bin",
                "A pair's own label pulls its ell up once it was trained on: best where a pair is "
                "met few times",
            ),
            _score(
                "first_ell",
                "trajectory_ell over rows from before the run had trained on the pair",
                "Other pairs have taught the model the preference before this one is met; in the "
                "first steps they have not",
            ),
        ),
        windows=True,
    ),
    Detector(
        finding="matched_filter",
        compute=lambda evidence, window: matched_filter(evidence.digest),  # noqa: ARG005
        needs=("trajectory", "labels"),
        scores=tuple(
            Score(
                name,
                name,
                "high",
                f"- sum F mean(F) / var(F), F {what}",
                f"most labels are right, and {why}",
                "matched filter, North 1943; features ours",
                whole_run=True,
            )
            for name, what, why in (
                (
                    "matched_filter",
                    "ell by phase and timestep, and the reference's gap",
                    "the reference was trained on images like these: else its gap says nothing",
                ),
                ("matched_filter_ell", "ell by phase and timestep", "pairs are met alike often"),
                (
                    "reference_gap",
                    "the reference's gap by timestep",
                    "a model that was not trained on any label draws preferred images better",
                ),
            )
        ),
    ),
    Detector(
        finding="out_of_fold_ell",
        compute=_out_of_fold,
        needs=("trajectory", "labels", "fold"),
        scores=(
            _score(
                "out_of_fold_ell",
                "trajectory_ell over probes by runs without a visit of the pair",
                "Folds are drawn by prompt, and the runs differ in nothing but the fold",
            ),
        ),
    ),
)
