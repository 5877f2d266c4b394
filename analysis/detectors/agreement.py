"""Agreement of a label with extra votes: further people's or scorers' (`toolkit.labels`)."""

import numpy as np
import pyarrow as pa

from analysis.detectors.detector import Computed, Detector, Evidence, Score
from analysis.trajectory import Floats, Ints, as_table, numbers
from toolkit.labels.majority import align_votes
from toolkit.schema import column

AGREEMENT = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("votes", pa.int32(), "extra votes for an image, by people or scorers; no ties"),
        column("against", pa.int32(), "of these, votes for the other image than the label"),
        column(
            "against_share",
            pa.float64(),
            "against / votes, 0 to 1, high = suspicious; null without a label or a vote",
        ),
        column(
            "pattern",
            pa.string(),
            "all with, all against, or mixed: votes that contradict each other; null as above",
        ),
    ]
)


def agreement(labels: pa.Table, votes: pa.Table) -> pa.Table:
    """How many of the votes on a pair go against its label; schema AGREEMENT, by pair_id.

    `labels`: pair_id and label of every pair. `votes`: pair_id, annotator, choice; those on other
    pairs count nothing. InputError where columns are missing or an annotator votes twice on a pair.
    """
    order = np.argsort(np.asarray(labels["pair_id"].to_pylist(), np.str_))
    ids = np.asarray(labels["pair_id"].to_pylist(), np.str_)[order]
    label = numbers(labels["label"])[order]
    place, choice = align_votes(votes, ids.tolist())
    size = len(ids)
    first = np.bincount(place[choice == 1], minlength=size)
    second = np.bincount(place[choice == 0], minlength=size)
    against, share = against_label(label, first, second)
    pattern = np.select(
        [np.isnan(share), share == 0, share == 1], ["", "all with", "all against"], "mixed"
    )
    known = [
        ids,
        (first + second).astype(np.int32),
        against.astype(np.int32),
        share,
    ]
    table = as_table(pa.schema(list(AGREEMENT)[:4]), known)
    words = pa.array(pattern.tolist(), pa.string(), mask=pattern == "")
    return table.append_column(AGREEMENT.field("pattern"), words)


def against_label(label: Floats, first: Ints, second: Ints) -> tuple[Ints, Floats]:
    """(P,) votes against each label and their share, from the votes for image_0 and image_1.

    A label that is no 0 or 1 has 0 votes against it and a share of NaN.
    """
    decided = (label == 0) | (label == 1)
    against = np.where(decided, np.where(label == 1, second, first), 0)
    votes = first + second
    with np.errstate(invalid="ignore"):
        return against, np.where(decided & (votes > 0), against / votes, np.nan)


def _agreement(evidence: Evidence, window: str) -> Computed:  # noqa: ARG001
    assert evidence.extra_votes is not None  # by the need `scores`
    table = agreement(evidence.facts.select(["pair_id", "label"]), evidence.extra_votes)
    return table.take(pa.array(evidence.digest.visited))


DETECTORS = (
    Detector(
        finding="agreement",
        compute=_agreement,
        needs=("labels", "scores"),
        scores=(
            Score(
                name="agreement",
                column="against_share",
                direction="high",
                formula="votes against the label / votes for an image",
                assumption="the voters are independent of the label: a scorer trained on these "
                "labels is not (PickScore on Pick-a-Pic)",
                source="ViPO, arXiv 2604.24953 (conflicting patterns); votes as arXiv 2503.16921 "
                "section 5",
            ),
        ),
    ),
)
