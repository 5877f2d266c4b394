"""Consistency within a prompt: contradictions, cycles, and labels no common ranking explains."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse  # type: ignore[import-untyped]

from analysis.detectors.detector import Computed, Detector, Evidence, Score
from analysis.trajectory import Floats, Ints, as_table, numbers
from toolkit.preference import is_decided, lean
from toolkit.schema import column

CONSISTENCY = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("repeats", pa.int32(), "other labelled pairs of the same prompt and two images"),
        column("contradictions", pa.int32(), "of these, pairs with the opposite label"),
        column(
            "contradicted",
            pa.float64(),
            "contradictions / repeats, high = suspicious; null without a repeat or label",
        ),
        column("triangles", pa.int32(), "third images of the prompt compared with both of these"),
        column("cycles", pa.int32(), "of these, images with which the three labels form a cycle"),
        column(
            "cyclic", pa.float64(), "cycles / triangles, high = suspicious; null without a triangle"
        ),
        column(
            "ranking_residual",
            pa.float64(),
            "1 - probability of the label under the prompt's Bradley-Terry ranking, 0 to 1, high = "
            "suspicious; null where no other pair says anything about the two images",
        ),
    ]
)

_IMAGES = ("prompt", "image_0", "image_1")
_RIDGE = 1.0
"""Prior variance of a strength: what keeps an image that always won at a finite one."""


def consistency(pairs: pa.Table) -> pa.Table:
    """How far each label fits the other labels of its prompt; schema CONSISTENCY, by pair_id.

    `pairs`: pair_id, prompt, image_0, image_1, label. Ties, unlabelled pairs and pairs with the
    same image on both sides get nulls and say nothing about others. Cost grows with the comparisons
    that share an image, not with their square over the dataset.
    """
    ids = np.asarray(pairs["pair_id"].to_pylist(), np.str_)
    order = np.argsort(ids)
    pairs = pairs.take(pa.array(order))
    label = numbers(pairs["label"])
    same = pc.fill_null(pc.equal(pairs["image_0"], pairs["image_1"]), False)
    use = np.flatnonzero(is_decided(label) & ~same.to_numpy())
    first, second = image_numbers(*(pairs[name].take(use) for name in _IMAGES))
    won = lean(label[use]) > 0
    winner, loser = np.where(won, first, second), np.where(won, second, first)
    size = len(ids)
    counts = np.zeros((4, size), np.int32)
    residual = np.full(size, np.nan)
    if len(use):
        counts[:, use], residual[use] = conflicts(winner, loser)
    repeats, contradictions, triangles, cycles = counts
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = [contradictions / repeats, cycles / triangles]
    return as_table(
        CONSISTENCY,
        [ids[order], repeats, contradictions, shares[0], triangles, cycles, shares[1], residual],
    )


def conflicts(winner: Ints, loser: Ints) -> tuple[Ints, Floats]:
    """(4, E) repeats, contradictions, triangles, cycles, and (E,) ranking residuals of E labels.

    `winner`, `loser`: (E,) numbers of images, as of `image_numbers`.
    """
    if not len(winner):
        return np.zeros((4, 0), np.int32), np.zeros(0)
    nodes = int(max(winner.max(), loser.max())) + 1
    wins = sparse.csr_array((np.ones(len(winner)), (winner, loser)), shape=(nodes, nodes))
    counts = np.stack([*_repeats(wins, winner, loser), *_triangles(wins, winner, loser)])
    return counts, _residuals(winner, loser, nodes)


def image_numbers(prompt: Any, image_0: Any, image_1: Any) -> tuple[Ints, Ints]:
    """(P,) numbers of the pairs' two images: an image under another prompt is another one.

    Arguments: (P,) columns of strings.
    """
    import polars as pl

    slots = [pl.DataFrame({"prompt": pl.Series(prompt), "image": pl.Series(image)})
             for image in (image_0, image_1)]  # fmt: skip
    long = pl.concat(slots).select(pl.struct(pl.all().rank("dense")).rank("dense") - 1)
    first, second = long.to_series().to_numpy().astype(np.int64).reshape(2, -1)
    return first, second


def _repeats(wins: sparse.csr_array, winner: Ints, loser: Ints) -> list[Ints]:
    same, opposite = _at(wins, winner, loser), _at(wins, loser, winner)
    return [(same - 1 + opposite).astype(np.int32), opposite.astype(np.int32)]


def _triangles(wins: sparse.csr_array, winner: Ints, loser: Ints) -> list[Ints]:
    """Third images compared with both, and those with which the labels form a cycle.

    Each comparison counts once, by who won more often; w beat l: k closes a cycle where l beat k
    and k beat w. (B B)[l, w] counts these k, (C C)[w, l] all that were compared with both.
    """
    net = (wins - wins.T).tocsr()
    beat = (net > 0).astype(np.float64)
    compared = ((wins + wins.T) > 0).astype(np.float64)
    compared.setdiag(0)
    third = _at(sparse.csr_array(compared @ compared), winner, loser)
    cycle = _at(sparse.csr_array(beat @ beat), loser, winner)
    return [third.astype(np.int32), cycle.astype(np.int32)]


def _at(matrix: sparse.csr_array, row: Ints, col: Ints) -> Floats:
    return np.asarray(matrix[row, col]).ravel()


def _residuals(winner: Ints, loser: Ints, nodes: int) -> Floats:
    """1 - P(winner beats loser) with strengths from all labels of the prompt, ridge-penalised.

    Bradley-Terry is a logistic regression without intercept on (winner - loser).
    """
    from sklearn.linear_model import LogisticRegression

    degree = np.bincount(winner, minlength=nodes) + np.bincount(loser, minlength=nodes)
    informed = (degree[winner] > 1) | (degree[loser] > 1)
    residual = np.full(len(winner), np.nan)
    played = np.flatnonzero(informed & (winner != loser))
    if len(played) < 2:
        return residual
    shape = (len(played), nodes)
    rows = np.arange(len(played))
    turn = np.where(rows % 2 == 0, 1.0, -1.0)  # both classes must occur; the sign says the same
    design = sparse.csr_array((turn, (rows, winner[played])), shape=shape) - sparse.csr_array(
        (turn, (rows, loser[played])), shape=shape
    )
    model = LogisticRegression(C=_RIDGE, fit_intercept=False, max_iter=200)
    model.fit(design, turn > 0)
    strength = model.coef_[0]
    gap = strength[winner[played]] - strength[loser[played]]
    residual[played] = 1 / (1 + np.exp(gap))
    return residual


def contradictions(table: pa.Table) -> tuple[int, int]:
    """Pairs whose comparison occurs again, and how many of these have an opposite label."""
    share = numbers(table["contradicted"])
    return int((~np.isnan(share)).sum()), int((share > 0).sum())


def _consistency(evidence: Evidence, window: str) -> Computed:  # noqa: ARG001
    return evidence.of_pairs(consistency(evidence.facts))


_ONE_ORDER = (
    "people who compare the images of a prompt agree on one order of them; with honest minorities "
    "a contradiction is a difference of taste"
)

DETECTORS = (
    Detector(
        finding="consistency",
        compute=_consistency,
        needs=("labels", "prompts"),
        scores=(
            Score(
                name="contradicted",
                column="contradicted",
                direction="high",
                formula="opposite labels / other labels of the same prompt and two images",
                assumption=_ONE_ORDER,
                source="counting",
            ),
            Score(
                name="cyclic",
                column="cyclic",
                direction="high",
                formula="third images with which the labels form a cycle / third images",
                assumption=_ONE_ORDER + "; each label of a cycle is equally suspect",
                source="Kendall and Babington Smith 1940, circular triads",
            ),
            Score(
                name="ranking_residual",
                column="ranking_residual",
                direction="high",
                formula="1 - sigmoid(theta_winner - theta_loser), theta by penalised logistic "
                "regression",
                assumption=_ONE_ORDER + "; images are compared more than once",
                source="Bradley and Terry 1952",
            ),
        ),
    ),
)
