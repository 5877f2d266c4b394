"""Models of several votes on one comparison: Krippendorff's alpha, Dawid-Skene, GLAD, and noisy
Bradley-Terry.

Votes are arrays of numbers, (V,) each: `task` below T and `worker` below W number the comparisons
and the voters; `choice` is 0 for a comparison's first image, 1 for its second, 2 for a tie.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.special import expit  # type: ignore[import-untyped]

from analysis.trajectory import Floats, Ints

CHOICES = 3
_TINY = 1e-10
_FIT = {"maxiter": 100, "ftol": 1e-6}
"""When a fit by gradient ends: relative growth of the likelihood."""
_SAMPLE = 50_000
"""Comparisons from which GLAD learns the voters' abilities at first; all are then fitted together,
in _ROUNDS steps."""
_ROUNDS = 10


@dataclass(frozen=True)
class Fit:
    """What a model says of comparisons and voters."""

    probability: Floats
    """(T, CHOICES) of each choice being right."""
    voter: Floats
    """(W,) how good each voter is; see the model."""


def krippendorff_alpha(task: Ints, choice: Ints) -> float:
    """Agreement of the votes on a comparison: 1 if all agree, 0 by chance (nominal data).

    Comparisons with one vote say nothing and are left out. NaN where no comparison has two votes,
    or all votes are the same. Source: Krippendorff 2004, chapter 11.
    """
    counts = np.bincount(task * CHOICES + choice, minlength=CHOICES)
    counts = np.pad(counts, (0, -len(counts) % CHOICES)).reshape(-1, CHOICES).astype(float)
    votes = counts.sum(axis=1)
    counts, votes = counts[votes > 1], votes[votes > 1]
    total = counts.sum(axis=0)
    n = total.sum()
    chance = n * n - (total**2).sum()
    if not chance:
        return float("nan")
    differ = ((votes**2 - (counts**2).sum(axis=1)) / (votes - 1)).sum()
    return float(1 - (n - 1) * differ / chance)


def dawid_skene(task: Ints, worker: Ints, choice: Ints, *, rounds: int = 50) -> Fit:
    """EM for a confusion matrix a voter; `voter` is the mean of its diagonal.

    Source: Dawid and Skene 1979.
    """
    tasks, workers = int(task.max()) + 1, int(worker.max()) + 1
    cast = _matrix(task, worker * CHOICES + choice, tasks, workers * CHOICES)
    votes = np.asarray(cast @ np.tile(np.eye(CHOICES), (workers, 1)))
    probability = votes / votes.sum(axis=1, keepdims=True)
    before = -np.inf
    for _ in range(rounds):
        counts = (cast.T @ probability).reshape(workers, CHOICES, CHOICES)  # voter, choice, truth
        rate = counts / np.maximum(counts.sum(axis=1, keepdims=True), _TINY)
        log_rate = np.log(np.maximum(rate, _TINY)).reshape(workers * CHOICES, CHOICES)
        score = cast @ log_rate + np.log(np.maximum(probability.mean(axis=0), _TINY))
        whole = _log_sum(score)
        probability = np.exp(score - whole[:, None])
        if whole.mean() - before < 1e-6:
            break
        before = float(whole.mean())
    seen = counts.sum(axis=1) > 0  # a truth that the voter never met has no rate
    diagonal = np.where(seen, np.diagonal(rate, axis1=1, axis2=2), np.nan)
    known = seen & (votes.sum(axis=0) > 0)
    return Fit(probability, np.nanmean(np.where(known, diagonal, np.nan), axis=1))


def glad(task: Ints, worker: Ints, choice: Ints) -> Fit:
    """An ability a voter (`voter`; 0 is chance) and a difficulty a comparison.

    P(a vote is right) = sigmoid(a exp(b)), a and b with priors N(1, 1); the other choices share the
    rest. The marginal likelihood is maximised directly. Source: Whitehill et al. 2009.
    """
    tasks, workers = int(task.max()) + 1, int(worker.max()) + 1
    kinds = np.unique(choice)
    if tasks <= _SAMPLE:
        return _glad(task, worker, choice, kinds, np.ones(workers + tasks))
    drawn = np.random.default_rng(0).permutation(tasks)[:_SAMPLE]
    number = np.full(tasks, -1)
    number[drawn] = np.arange(_SAMPLE)
    mine = number[task] >= 0
    start = np.ones(workers + _SAMPLE)
    ability = _glad(number[task[mine]], worker[mine], choice[mine], kinds, start).voter
    start = np.concatenate([ability, np.ones(tasks)])
    return _glad(task, worker, choice, kinds, start, rounds=_ROUNDS)


def _glad(
    task: Ints, worker: Ints, choice: Ints, kinds: Ints, start: Floats, rounds: int | None = None
) -> Fit:
    others, absent = max(1, len(kinds) - 1), np.setdiff1d(np.arange(CHOICES), kinds)
    place = task * CHOICES + choice
    tasks = int(task.max()) + 1
    workers = len(start) - tasks

    def posterior(x: Floats) -> tuple[Floats, Floats, Floats]:
        """(T, CHOICES) log joint, its log sum, and each vote's logit."""
        logit = x[:workers][worker] * np.exp(x[workers:])[task]
        wrong = -np.maximum(logit, 0) - np.log1p(np.exp(-np.abs(logit))) - np.log(others)
        right = np.bincount(place, logit + np.log(others), tasks * CHOICES)
        joint = (
            np.asarray(right, np.float64).reshape(tasks, CHOICES)
            + np.bincount(task, wrong, tasks)[:, None]
        )
        joint[:, absent] = -np.inf
        return joint, _log_sum(joint), logit

    def loss(x: Floats) -> tuple[float, Floats]:
        joint, whole, logit = posterior(x)
        slope = np.exp(joint - whole[:, None]).reshape(-1)[place] - expit(logit)
        spread = np.exp(x[workers:])
        ability = np.bincount(worker, slope * spread[task], workers)
        gradient = np.concatenate([ability, np.bincount(task, slope * logit, tasks)])
        return float(-whole.sum() + ((x - 1) ** 2).sum() / 2), (x - 1) - gradient

    x = _fitted(loss, start, rounds)
    joint, whole, _ = posterior(x)
    return Fit(np.exp(joint - whole[:, None]), x[:workers])


def noisy_bradley_terry(
    left: Ints, right: Ints, worker: Ints, won: Ints | Floats, *, images: int
) -> tuple[Floats, Floats]:
    """(images,) strengths and (W,) skills, 0 to 1, from votes that chose an image.

    `left`, `right`: (V,) numbers of the two images; `won`: (V,) 1 where the left one was chosen, -1
    where the right one was. With probability `skill` a vote is Bradley-Terry's, otherwise it is
    drawn by the voter's own bias for a side. Strengths and biases have priors N(0, 1), the skill's
    logit N(1, 1). Source: Bradley and Terry 1952; the noise as in Bugakova et al. 2019.
    """
    workers = int(worker.max(initial=-1)) + 1

    def loss(x: Floats) -> tuple[float, Floats]:
        strength, bias, logit = np.split(x, [images, images + workers])
        ours = expit(won * (strength[left] - strength[right]))
        theirs, skill = expit(won * bias[worker]), expit(logit[worker])
        p = np.maximum(skill * ours + (1 - skill) * theirs, _TINY)
        pull = skill * ours * (1 - ours) * won / p
        gradient = np.concatenate(
            [
                np.bincount(left, pull, images) - np.bincount(right, pull, images),
                np.bincount(worker, (1 - skill) * theirs * (1 - theirs) * won / p, workers),
                np.bincount(worker, skill * (1 - skill) * (ours - theirs) / p, workers),
            ]
        )
        away = np.concatenate([strength, bias, logit - 1])
        return float(-np.log(p).sum() + (away**2).sum() / 2), away - gradient

    start = np.concatenate([np.zeros(images + workers), np.ones(workers)])
    x = _fitted(loss, start)
    return x[:images], expit(x[images + workers :])


def _fitted(
    loss: Callable[[Floats], tuple[float, Floats]], start: Floats, rounds: int | None = None
) -> Floats:
    options = _FIT if rounds is None else _FIT | {"maxiter": rounds}
    fit = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    return np.asarray(fit.x, np.float64)


def _log_sum(joint: Floats) -> Floats:
    """(T,) log of the sum of exp over each row."""
    top = joint.max(axis=1)
    return np.asarray(top + np.log(np.exp(joint - top[:, None]).sum(axis=1)))


def _matrix(row: Ints, column: Ints, rows: int, columns: int) -> sparse.csr_array:
    return sparse.csr_array((np.ones(len(row)), (row, column)), shape=(rows, columns))
