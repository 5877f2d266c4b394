"""The detectors of labels and votes on plain arrays; `analysis.detectors.arrays` has them all."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analysis.detectors.agreement import against_label
from analysis.detectors.annotators import overlap, shrunken_mean
from analysis.detectors.consistency import conflicts, image_numbers
from analysis.trajectory import Floats, Ints

Values = npt.ArrayLike


def contradicted(winner: Values, loser: Values, prompt: Values | None = None) -> Floats:
    """Share of the other labels on the same two images that are opposite, high = suspicious.

    `winner`, `loser`: (E,) the chosen and the rejected image of each label; `prompt`: (E,) an image
    under another prompt is another image. Returns (E,), aligned with the labels; NaN where no other
    label has the same two images.

        >>> contradicted(["x", "y", "x"], ["y", "x", "z"])
        array([ 1.,  1., nan])
    """
    counts, _ = _conflicts(winner, loser, prompt)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(counts[1] / counts[0])


def cyclic(winner: Values, loser: Values, prompt: Values | None = None) -> Floats:
    """Share of third images with which a label forms a cycle (A > B > C > A), high = suspicious.

    Arguments and alignment as of `contradicted`; NaN without a third image that was compared with
    both. Source: Kendall and Babington Smith 1940.

        >>> cyclic(["a", "b", "c"], ["b", "c", "a"])
        array([1., 1., 1.])
    """
    counts, _ = _conflicts(winner, loser, prompt)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(counts[3] / counts[2])


def ranking_residual(winner: Values, loser: Values, prompt: Values | None = None) -> Floats:
    """1 - probability of a label under the Bradley-Terry ranking of all, high = suspicious.

    Arguments and alignment as of `contradicted`; 0 to 1, NaN where no other label says anything
    about the two images. Source: Bradley and Terry 1952.

        >>> ranking_residual(["a", "a", "b", "c"], ["b", "c", "c", "a"]).argmax()
        np.int64(3)
    """
    return _conflicts(winner, loser, prompt)[1]


def _conflicts(winner: Values, loser: Values, prompt: Values | None) -> tuple[Ints, Floats]:
    sides = [np.asarray(side, np.str_) for side in (winner, loser)]
    prompts = np.zeros(len(sides[0])) if prompt is None else np.asarray(prompt, np.str_)
    return conflicts(*image_numbers(prompts, *sides))


def agreement(label: Values, votes: Values) -> Floats:
    """Share of votes that go against each label, 0 to 1, high = suspicious.

    `label`: (P,) 1 for image_0, 0 for image_1; others have no score. `votes`: (P, V) the choices of
    V further voters, as labels; .5 is a tie, NaN no vote. Returns (P,); NaN without a label or a
    vote for an image. Source: arXiv 2503.16921, section 5; arXiv 2604.24953.

        >>> agreement([1, 0], [[1, 0, 0], [0, 0, np.nan]]).round(2)
        array([0.67, 0.  ])
    """
    cast = np.atleast_2d(_floats(votes))
    first, second = (cast == 1).sum(axis=1), (cast == 0).sum(axis=1)
    return against_label(_floats(label), first, second)[1]


def annotator_mean(annotator: Sequence[str], score: Values, *, prior: float = 20.0) -> Floats:
    """The mean score of each row's annotator, shrunk to the common mean, high = suspicious.

    `annotator`: (P,) who gave each label; `score`: (P,) of each label, such as u, NaN left out;
    `prior`: average labels that are added to an annotator's own. Returns (P,), aligned with the
    labels.

        >>> annotator_mean(["x", "x", "y"], [1.0, 1.0, 0.0], prior=1.0).round(2)
        array([0.89, 0.89, 0.33])
    """
    names, who = np.unique(np.asarray(annotator, np.str_), return_inverse=True)
    values = _floats(score)
    shrunk = shrunken_mean(who, len(names), values, ~np.isnan(values), prior)[1]
    return np.asarray(shrunk[who])


def dawid_skene(pair: Values, annotator: Values, choice: Values, label: Values) -> Floats:
    """1 - Dawid-Skene's probability of each label, 0 to 1, high = suspicious.

    `pair`, `annotator`, `choice`: (V,) of each vote; 1 is image_0, 0 image_1, .5 a tie. `label`:
    (P,) the label of each pair. Label and result are aligned with np.unique(pair); NaN below two
    voters. Source: Dawid and Skene 1979.

        >>> dawid_skene(list("aabb"), list("xyxy"), [1, 1, 0, 0], [1, 1]).round(2)
        array([0., 1.])
    """
    return _voted("dawid_skene", pair, annotator, choice, label)


def glad(pair: Values, annotator: Values, choice: Values, label: Values) -> Floats:
    """1 - GLAD's probability of each label, 0 to 1, high = suspicious.

    Arguments as of `dawid_skene`. Source: Whitehill et al. 2009.

        >>> glad(list("aabb"), list("xyxy"), [1, 1, 0, 0], [1, 1]).argmax()
        np.int64(1)
    """
    return _voted("glad", pair, annotator, choice, label)


def noisy_bradley_terry(
    pair: Values, annotator: Values, choice: Values, label: Values, image_0: Values,
    image_1: Values, prompt: Values | None = None,
) -> Floats:  # fmt: skip
    """1 - probability of each label by strengths of images, 0 to 1, high = suspicious.

    Each annotator has a skill and a bias for a side. `pair`, `annotator`, `choice`, `label` as of
    `dawid_skene`; `image_0`, `image_1`, `prompt`: (P,) of each pair: an image under another prompt
    is another image. Source: Bradley and Terry 1952; Bugakova et al. 2019.

        >>> votes = list("aabbcc"), list("xyxyxy"), [1, 1, 1, 1, 0, 0]
        >>> noisy_bradley_terry(*votes, [1, 1, 1], list("ijk"), list("jki")).argmax()
        np.int64(2)
    """
    named = {"image_0": image_0, "image_1": image_1}
    named |= {} if prompt is None else {"prompt": prompt}
    return _voted("noisy_bradley_terry", pair, annotator, choice, label, **named)


def _voted(
    name: str, pair: Values, annotator: Values, choice: Values, label: Values, **images: Values
) -> Floats:
    ids, where = np.unique(np.asarray(pair, np.str_), return_inverse=True)
    names = ids.tolist()
    zero = ["0"] * len(ids)
    pairs = pa.table(
        {
            "pair_id": names, "comparison_id": names, "prompt": zero, "label": _floats(label),
            "image_0": [f"{text} 0" for text in names], "image_1": [f"{text} 1" for text in names],
        } | {column: np.asarray(values, np.str_).tolist() for column, values in images.items()}
    )  # fmt: skip
    people = np.asarray(annotator, np.str_).tolist()
    votes = pa.table(
        {"pair_id": ids[where].tolist(), "annotator": people, "choice": _floats(choice)}
    )
    models = overlap(pairs, votes)
    scores = np.full(len(ids), np.nan)
    if models is not None:
        place = np.searchsorted(ids, np.asarray(models.pairs["pair_id"].to_pylist(), np.str_))
        scores[place] = models.pairs[name].to_numpy()
    return scores


def _floats(values: Values) -> Floats:
    return np.asarray(values, np.float64)
