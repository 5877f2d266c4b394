"""Probes: pairs measured under fixed draws, without gradient, so that ell compares across steps.

Held-out pairs are measured the same way; their accuracy is the share whose mean ell is positive.
"""

import hashlib
import heapq
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from toolkit.shares import wilson
from training.batches import Source, probe_batch
from training.recorder import RunRecorder
from training.step import Learner, errors_aside, errors_of


def probe_members(seed: int, pair_ids: Sequence[str] | np.ndarray, pairs: int | None) -> list[int]:
    """Indices of the pairs a probe measures: `pairs` of them chosen by the seed, in order.

    A pair's place in the choice is its own, so that runs of which one lacks some pairs (a tie, a
    dropped pair) measure the same ones but for those.
    """
    if pairs is None or pairs >= len(pair_ids):
        return list(range(len(pair_ids)))
    keys = [hashlib.sha256(f"probe {seed} {name}".encode()).digest() for name in pair_ids]
    return sorted(heapq.nsmallest(pairs, range(len(keys)), key=keys.__getitem__))


@torch.no_grad()
def probe(
    learner: Learner,
    source: Source,
    recorder: RunRecorder,
    members: Sequence[int],
    *,
    draws: int,
    only: Sequence[int] | None = None,
    seed: int,
    step: int,
    number: int,
    reference: dict[tuple[int, int], Tensor] | None = None,
) -> np.ndarray:
    """Measure this rank's share of `members` under `draws` draws and record the rows.

    `only`: these of the draws, where the others are known.

    `reference` keeps the reference's errors from one measuring to the next, (2, B) by batch
    and draw: draws are fixed, so they are the same while members and their labels are.

    Returns the policy's ell of every member, averaged over what was measured, (len(members),)
    float64, the same on every rank.
    """
    accelerator = learner.accelerator
    rank, world = accelerator.process_index, accelerator.num_processes
    size = source.recipe.batch_size
    total = torch.zeros(len(members), dtype=torch.float64, device=accelerator.device)
    places = list(range(len(members)))[rank::world]
    wanted = range(draws) if only is None else only
    was_training = learner.bare.training
    learner.bare.eval()
    shares = [places[start : start + size] for start in range(0, len(places), size)]
    idle = _idle(len(members), world, size, len(shares)) if learner.frozen is not None else 0
    for turn, some in enumerate([*shares, *[[0]] * idle]):
        for draw in wanted:
            indices = [members[place] for place in some]
            batch = probe_batch(source, indices, draw, seed=seed, strata=draws)
            if reference is not None and (turn, draw) in reference:
                batch = batch._replace(reference=reference[turn, draw])
            with accelerator.autocast():
                policy = errors_of(learner.bare, batch)
            before, *footprints = errors_aside(learner, batch)
            if reference is not None:
                reference[turn, draw] = before
            if turn >= len(shares):
                continue
            errors = torch.stack([before, policy, *footprints])
            ell = (before[0] - before[1]) - (policy[0] - policy[1])
            total[some] += ell.double() / len(wanted)
            recorder.probe(step, number, source.pairs, batch, errors.cpu().numpy())
    learner.bare.train(was_training)
    return np.asarray(accelerator.reduce(total, "sum").cpu())


def _idle(members: int, world: int, size: int, own: int) -> int:
    """Passes that this rank, which has `own` batches, makes for the sake of the others: those of a
    divided network need all ranks, and the first rank has the most batches."""
    return math.ceil(math.ceil(members / world) / size) - own


def accuracy(ell: np.ndarray) -> tuple[float, float, float]:
    """Share of positive ell with its 95 % Wilson interval: (share, low, high)."""
    n, hits = len(ell), float((ell > 0).sum())
    low, high = wilson(hits, n)
    return hits / n, float(low), float(high)
