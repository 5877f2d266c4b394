"""c, s and u of every visit, recomputed exactly from the errors under any preset.

The mathematics is `toolkit.minority`'s; this module only decides which rows belong together: those
of a micro-batch (`released`), the steps before (`running`), the pair's own visits (`history`).
Scales depend on |ell| alone, so they are the same under every label set.
"""

from dataclasses import fields, replace
from typing import Any

import numpy as np
from scipy.signal import lfilter

from analysis.trajectory import Floats, Ints, Mask, Trajectory
from toolkit.errors import StoreError
from toolkit.minority import PRESETS, Metric, RunningScale, Scores, batch_scale, score

_BLOCK = 1 << 22


def metric_of(about: dict[str, Any]) -> Metric:
    """The metric a run was trained with, from its run.json; preset `released` where none is named.

    StoreError naming what run.json holds instead.
    """
    named = dict(about.get("metric") or {})
    preset = named.get("preset", "released")
    if preset not in PRESETS:
        raise StoreError(
            f"run.json names the preset {preset!r}; this version knows {', '.join(PRESETS)}. "
            "Correct metric.preset in the run's run.json."
        )
    known = {entry.name for entry in fields(Metric)}
    return replace(PRESETS[preset], **{k: v for k, v in named.items() if k in known})


def metrics_of(own: Metric) -> dict[str, Metric]:
    """Finding -> metric: the run's own as `minority`, then the presets that differ from it."""
    presets = {f"minority_{name}": metric for name, metric in PRESETS.items() if metric != own}
    return {"minority": own, **presets}


def scores(trajectory: Trajectory, metric: Metric) -> Scores:
    """c, s and u of every row of a whole run, (N,) each; see `MetricReplay`."""
    return MetricReplay(metric, len(trajectory.models), len(trajectory.pair_ids)).scores(trajectory)


class MetricReplay:
    """Recomputes a run chunk by chunk, in order of step, with what the metric remembers between.

    A chunk holds whole steps: a scale is frozen during a step and updated after it.
    """

    def __init__(self, metric: Metric, models: int, pairs: int) -> None:
        self.metric = metric
        self._models = 1 if metric.preset == "history" else models
        self._state = np.zeros((2, self._models, metric.timestep_bins))
        back = metric.window - 1 if metric.preset == "history" else 0
        self._earlier = np.full((back, pairs), np.nan)

    def scores(self, chunk: Trajectory) -> Scores:
        """c, s and u of every row, (N,) each, as a run under this metric and label set logs them.

        NaN: stability of one model or visit, a timestep bin not seen often enough before that
        step (`running`, `history`), a pair without a preference in the label set, and a probe
        under `history`, whose footprints are visits.
        """
        ell = chunk.ell[: self._models]
        if self.metric.preset == "history":
            own = (ell * self.factor(chunk))[0]
            return score(self._visits_as_models(chunk, own), self.metric)
        return score(ell * self.factor(chunk), self.metric)

    def factor(self, chunk: Trajectory) -> Floats:
        """The factor on ell of every row, (M, N) float32; NaN where too little was seen."""
        difference = chunk.difference[: self._models]
        if self.metric.preset == "released":
            return _by_micro_batch(chunk, difference, self.metric)
        if self.metric.preset == "paper":
            return batch_scale(difference, self.metric)
        return self._remembered(chunk, difference)

    def _remembered(self, chunk: Trajectory, difference: Floats) -> Floats:
        """The running scale at every row: frozen during a step, updated after it.

        Equals RunningScale.update step by step: state = state * decay + the step's sums is a
        first-order recursion, which lfilter walks in one call.
        """
        bins, decay = self.metric.timestep_bins, self.metric.rms_decay
        which = chunk.bins(bins)
        steps = _distinct(chunk.step[chunk.train])
        place = np.searchsorted(steps, chunk.step)
        sums = _step_sums(difference, place * bins + which, chunk.train, len(steps) * bins)
        flow = sums.reshape(2, self._models, len(steps), bins)
        after = lfilter([1.0], [1.0, -decay], flow, axis=2, zi=decay * self._state[:, :, None, :])[
            0
        ]
        before = np.concatenate([self._state[:, :, None, :], after], axis=2)
        self._state = before[:, :, -1].copy()
        squares, counts = before.reshape(2, self._models, -1)
        scale = RunningScale(squares, counts).scale(place * bins + which, self.metric)
        return scale.astype(np.float32)

    def _visits_as_models(self, chunk: Trajectory, scaled: Floats) -> Floats:
        """(window, N): the visit's scaled ell, then the pair's earlier ones as scaled back then.

        Earlier means in an earlier step: what a step finds out is remembered when it ends.
        """
        x = np.full((self.metric.window, len(scaled)), np.nan, np.float32)
        x[0] = np.where(chunk.train, scaled, np.nan)
        order = chunk.groups.order
        order = order[chunk.train[order]]
        if not len(order) or not len(self._earlier):
            return x
        pair, step, own = chunk.pair[order], chunk.step[order], scaled[order]
        place = np.arange(len(order))
        new_pair = np.ones(len(order), bool)
        new_pair[1:] = pair[1:] != pair[:-1]
        new_step = new_pair.copy()
        new_step[1:] |= step[1:] != step[:-1]
        first = np.maximum.accumulate(np.where(new_pair, place, 0))
        before = np.maximum.accumulate(np.where(new_step, place, 0)) - first
        for back in range(1, self.metric.window):
            x[back, order] = self._value(own, pair, first, before - back)
        last = np.append(new_pair[1:], True)
        remembered = [
            self._value(own, pair[last], first[last], (place - first)[last] - back)
            for back in range(len(self._earlier))
        ]
        self._earlier[:, pair[last]] = remembered
        return x

    def _value(self, own: Floats, pair: Ints, first: Ints, nth: Ints) -> Floats:
        """The pair's nth value of this chunk, or, where nth < 0, of those remembered before it."""
        ago = np.clip(-nth - 1, 0, len(self._earlier) - 1)
        far = -nth - 1 >= len(self._earlier)
        remembered = np.where(far, np.nan, self._earlier[ago, pair])
        return np.where(nth >= 0, own[first + np.maximum(nth, 0)], remembered)


def _distinct(ascending: Ints) -> Ints:
    new = np.ones(len(ascending), bool)
    new[1:] = ascending[1:] != ascending[:-1]
    return ascending[new]


def _step_sums(difference: Floats, place: Ints, train: Mask, size: int) -> Floats:
    """(2, M, size): sums of ell^2 and numbers of rows of each (step, bin), visits only."""
    mine = place[train]
    count = np.bincount(mine, minlength=size).astype(np.float64)
    squares = [np.bincount(mine, row[train].astype(np.float64) ** 2, size) for row in difference]
    return np.stack([np.stack(squares), np.broadcast_to(count, (len(difference), size))])


def _by_micro_batch(chunk: Trajectory, difference: Floats, metric: Metric) -> Floats:
    """`batch_scale` of every micro-batch (step, rank, micro), (M, N).

    Rows are in that order. Micro-batches become rows of one array, filled up with zeros, which
    add nothing to a norm.
    """
    new = np.ones(len(chunk.step), bool)
    new[1:] = False
    for key in (chunk.step, chunk.rank, chunk.micro, chunk.train):
        new[1:] |= key[1:] != key[:-1]
    starts = np.flatnonzero(new)
    size = np.diff(np.append(starts, len(new)))
    widest = int(size.max())
    each = max(1, _BLOCK // widest)
    factor = np.empty(difference.shape, np.float32)
    for first in range(0, len(size), each):
        mine = slice(first, first + each)
        rows = slice(starts[first], starts[first] + size[mine].sum())
        filled = np.arange(widest) < size[mine, None]
        padded = np.zeros(filled.shape, difference.dtype)
        for model, values in enumerate(difference):
            padded[filled] = values[rows]
            factor[model, rows] = batch_scale(padded, metric)[filled]
    return factor
