"""Agreement of a label with other voices: further votes, or scorers' choices, given as a table.

A ballot is one voice's choice on a pair: pair_id, voice, choice (1: image_0, 0: image_1, .5: tie,
null: none). Those of the scorers in a store come from `scorer_vote.ballots_of_store`.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analysis.detectors.detector import Detector
from analysis.trajectory import Floats, as_table, numbers
from toolkit.errors import InputError
from toolkit.schema import column

AGREEMENT = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("voices", pa.int32(), "voices (scorers or votes) that chose an image, ties not"),
        column("against", pa.int32(), "of these, voices that chose the other image than the label"),
        column(
            "against_share",
            pa.float64(),
            "against / voices, 0 to 1, high = suspicious; null without a label or a voice",
        ),
        column(
            "pattern",
            pa.string(),
            "all with, all against, or mixed: voices that contradict each other; null as above",
        ),
    ]
)

BALLOTS = ("pair_id", "voice", "choice")


def agreement(labels: pa.Table, ballots: pa.Table) -> pa.Table:
    """How many of the voices on a pair go against its label; schema AGREEMENT, by pair_id.

    `labels`: pair_id and label of every pair. `ballots`: BALLOTS; those on other pairs count
    nothing. InputError where columns are missing or a voice is heard twice on a pair.
    """
    ids, label = _labels(labels)
    place, choice = _ballots(ballots, ids)
    size = len(ids)
    first = np.bincount(place[choice == 1], minlength=size)
    second = np.bincount(place[choice == 0], minlength=size)
    voices = first + second
    decided = (label == 0) | (label == 1)
    against = np.where(label == 1, second, first)
    with np.errstate(invalid="ignore"):
        share = np.where(decided & (voices > 0), against / voices, np.nan)
    pattern = np.select(
        [np.isnan(share), share == 0, share == 1], ["", "all with", "all against"], "mixed"
    )
    known = [
        ids,
        voices.astype(np.int32),
        np.where(decided, against, 0).astype(np.int32),
        share,
    ]
    table = as_table(pa.schema(list(AGREEMENT)[:4]), known)
    words = pa.array(pattern.tolist(), mask=pattern == "")
    return table.append_column(AGREEMENT.field("pattern"), words)


def majority(labels: pa.Table, ballots: pa.Table) -> pa.Table:
    """The label set (pair_id, label) of majorities: each label's own voice and the others'.

    As arXiv 2503.16921 relabels by the human label and four scorers. Held are the pairs whose
    label changes; an even vote leaves the label as it is, a tie among them counts for none.
    """
    ids, label = _labels(labels)
    place, choice = _ballots(ballots, ids)
    signed = np.sign(choice - 0.5)
    known = ~np.isnan(signed)
    heard = np.bincount(place[known], signed[known], len(ids))
    own = np.where(np.isnan(label), 0, np.sign(label - 0.5))
    total = heard + own
    voted = np.where(total > 0, 1.0, 0.0)
    changed = (total != 0) & (own != 0) & (voted != label)
    return pa.table(
        {
            "pair_id": pa.array(ids[changed].tolist(), pa.string()),
            "label": pa.array(voted[changed], pa.float32()),
        }
    )


def _labels(labels: pa.Table) -> tuple[npt.NDArray[np.str_], Floats]:
    ids = np.asarray(labels["pair_id"].to_pylist(), np.str_)
    order = np.argsort(ids)
    return ids[order], numbers(labels["label"])[order]


def _ballots(
    ballots: pa.Table, ids: npt.NDArray[np.str_]
) -> tuple[npt.NDArray[np.integer], Floats]:
    """Position of each ballot's pair among the sorted ids, and its choice; strangers left out."""
    _need(ballots, BALLOTS, "ballots")
    if not ballots.num_rows or not len(ids):
        return np.zeros(0, np.int64), np.zeros(0)
    pair = np.asarray(ballots["pair_id"].to_pylist(), np.str_)
    choice = numbers(ballots["choice"])
    odd = ~np.isnan(choice) & ~np.isin(choice, (0, 0.5, 1))
    if odd.any():
        raise InputError(
            f"A ballot's choice is 1 (image_0), 0 (image_1), .5 (tie) or empty, not "
            f"{choice[odd][0]:g}; a score is no choice: give the image that it is higher for."
        )
    place = np.minimum(np.searchsorted(ids, pair), len(ids) - 1)
    known = ids[place] == pair
    _, voice = np.unique(np.asarray(ballots["voice"].to_pylist(), np.str_), return_inverse=True)
    key = place[known] * (voice.max() + 1) + voice[known]
    if len(np.unique(key)) < len(key):
        raise InputError(
            "A voice is heard twice on a pair; keep one ballot for each pair_id and voice."
        )
    return place[known], choice[known]


def _need(table: pa.Table, names: tuple[str, ...], what: str) -> None:
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise InputError(
            f"The table of {what} has no column {', '.join(missing)} (it has "
            f"{', '.join(table.column_names)}); it needs {', '.join(names)}."
        )


DETECTORS = {
    "agreement": Detector(
        "agreement",
        "against_share",
        "high",
        "voices against the label / voices that chose",
        ("labels", "votes", "scores"),
        "the voices are not the label's own source: a scorer trained on these labels is no "
        "independent witness (PickScore on Pick-a-Pic)",
        "ViPO, arXiv 2604.24953 (conflicting patterns); votes as arXiv 2503.16921 section 5",
    )
}
