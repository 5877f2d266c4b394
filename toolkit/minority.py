"""Confidence, stability, minority score, weight and margin: Eq. 10 to 16, one definition.

Works on numpy arrays and torch tensors alike (through the array API), and imports neither torch
nor any other framework. Source: "When Preferences Diverge" (arXiv 2503.16921), equations as
numbered there. The paper's names run against plain English and are kept: `confidence` grows when
the model doubts the label, `stability` grows when the models disagree among themselves.

Shapes: M models (the policy and its footprints), B pairs. NaN means "not known": a missing
earlier visit, or a timestep bin whose scale was not observed yet. Missing models are left out of
a mean; a stability of fewer than two models is NaN; a NaN score means weight 1.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from array_api_compat import array_namespace

Array = Any  # numpy.ndarray or torch.Tensor

Preset = Literal["paper", "released", "running", "history"]
WeightForm = Literal["linear", "square", "sqrt", "sigmoid", "sigmoid_sqrt", "none"]
MarginForm = Literal["quadratic", "linear", "none"]


class Scores(NamedTuple):
    """Per-pair scores, each (B,)."""

    confidence: Array
    stability: Array
    minority: Array


@dataclass(frozen=True)
class Metric:
    """How ell becomes c, s and u. The presets of `PRESETS` fill it in; every field is a setting."""

    preset: Preset
    rho: float
    """Sharpness: multiplies the (scaled) ell inside the sigmoid of Eq. 11."""
    ell_scale: float = 1.0
    """`paper` only: multiplies ell, a mean over latent elements; their number gives Eq. 6's sum."""
    warmup_steps: int = 0
    """Optimiser steps during which every weight is 1."""
    timestep_bins: int = 10
    """`running` and `history`: the scale is kept per bin of the noise schedule."""
    rms_decay: float = 0.99
    """`running` and `history`: fraction of the past sums that is kept at each step."""
    rms_min_count: float = 32.0
    """Observations a bin needs before its scale counts."""
    window: int = 4
    """`history`: how many visits, the present one included, stand in for the models."""


PRESETS: dict[str, Metric] = {
    "paper": Metric("paper", rho=15.0),
    "released": Metric("released", rho=15.0, warmup_steps=2),
    "running": Metric("running", rho=3.75),
    "history": Metric("history", rho=3.75),
}


def ell(ref_chosen: Array, ref_rejected: Array, chosen: Array, rejected: Array) -> Array:
    """ell = (e_ref^w - e_ref^l) - (e_theta^w - e_theta^l); > 0 where the model agrees (Eq. 10).

    Errors are per-image means over latent elements, float32. Exchanging the two images negates
    the result bit for bit.
    """
    return (ref_chosen - ref_rejected) - (chosen - rejected)


def ell_sql(model: int = 0) -> str:
    """`ell` in SQL over the columns of a trajectory, as if image_0 were chosen; a label of 0
    negates it. `model`: its place in run.json, 0 for the policy."""
    return f"((err_ref_0 - err_ref_1) - (err_0[{model + 1}] - err_1[{model + 1}]))"


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), from the stable side of zero."""
    xp = array_namespace(x)
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, xp.ones_like(small), small) / (1 + small)


def _known(x: Array) -> tuple[Array, Array, Any]:
    """x with NaN as 0, its mask as numbers of x's kind, and how many models are known, (B,)."""
    xp = array_namespace(x)
    unknown = xp.isnan(x)
    mask = xp.astype(~unknown, x.dtype)
    return xp.where(unknown, xp.zeros_like(x), x), mask, xp.sum(mask, axis=0)


def _over(x: Array, by: Array) -> Array:
    """x / by, and x where by is 0: callers put NaN or 0 there, without numpy's warning."""
    xp = array_namespace(by)
    return x / xp.where(by == 0, xp.ones_like(by), by)


def confidence(x: Array) -> Array:
    """c = 1 - mean_m sigmoid(x_m), x = rho * ell on the preset's scale, (M, B) -> (B,) (Eq. 11)."""
    xp = array_namespace(x)
    filled, mask, count = _known(x)
    mean = _over(xp.sum(sigmoid(filled) * mask, axis=0), count)
    return xp.where(count > 0, 1 - mean, xp.full_like(mean, float("nan")))


def variance(x: Array) -> Array:
    """s = 1/(M-1) sum_m (x_m - mean x)^2, (M, B) -> (B,); NaN below two models (Eq. 12)."""
    xp = array_namespace(x)
    filled, mask, count = _known(x)
    mean = _over(xp.sum(filled, axis=0), count)
    squares = xp.sum(((filled - mean) * mask) ** 2, axis=0)
    spread = _over(squares, count - 1)
    return xp.where(count >= 2, spread, xp.full_like(spread, float("nan")))


def deviation(x: Array, cap: float = 1.0) -> Array:
    """The square root of `variance`, at most `cap`: the stability of the normalised presets."""
    xp = array_namespace(x)
    spread = xp.sqrt(variance(x))
    return xp.where(spread > cap, xp.full_like(spread, cap), spread)


def score(scaled: Array, metric: Metric) -> Scores:
    """c, s and u = s * c (Eq. 11 to 13) from ell times its scale, (M, B).

    `paper` sees the variance of ell and puts rho into the sigmoid only; the normalised presets
    carry rho in the scale, so that it sharpens both.
    """
    if metric.preset == "paper":
        c, s = confidence(metric.rho * scaled), variance(scaled)
    else:
        c, s = confidence(scaled), deviation(scaled)
    return Scores(c, s, s * c)


def batch_scale(ell: Array, metric: Metric) -> Array:
    """The factor on ell for the presets without memory, (M, B) -> (M, B).

    `paper`: `ell_scale`. `released`: rho over each model's L2 norm across the micro-batch.
    """
    xp = array_namespace(ell)
    if metric.preset == "paper":
        return xp.full_like(ell, metric.ell_scale)
    norm = xp.sqrt(xp.sum(ell * ell, axis=1, keepdims=True))
    # At step 0 policy and reference coincide and every ell is 0: no scale, and 0 stays 0.
    return xp.where(norm > 0, _over(metric.rho, norm), xp.zeros_like(norm)) + xp.zeros_like(ell)


def timestep_bin(timestep: Array, bins: int, train_timesteps: int = 1000) -> Array:
    """Index of the equal-width bin of the noise schedule each timestep falls in, integer (B,).

    The schedule's very end, `train_timesteps` itself, belongs to the last bin.
    """
    xp = array_namespace(timestep)
    which = timestep * bins // train_timesteps
    return xp.where(which >= bins, xp.full_like(which, bins - 1), which)


@dataclass
class RunningScale:
    """rho / RMS of ell per model and timestep bin, remembered across steps (`running`, `history`).

    Frozen during a step: every rank reads `scale`, then all add the same all-reduced `sums`. So a
    pair's score does not depend on micro-batch, accumulation or world size.
    """

    squares: Array
    """(M, bins) decayed sums of ell^2."""
    counts: Array
    """(M, bins) decayed numbers of observations."""

    @classmethod
    def zeros(cls, like: Array, models: int, metric: Metric) -> "RunningScale":
        """An empty scale of the array kind and device of `like`."""
        xp = array_namespace(like)
        shape = (models, metric.timestep_bins)
        where = {"device": like.device} if hasattr(like, "device") else {}
        return cls(
            xp.zeros(shape, dtype=xp.float64, **where), xp.zeros(shape, dtype=xp.float64, **where)
        )

    def scale(self, bins: Array, metric: Metric) -> Array:
        """The factor for pairs in these bins, (B,) -> (M, B); NaN where too little was seen."""
        xp = array_namespace(self.squares)
        enough = (self.counts >= metric.rms_min_count) & (self.squares > 0)
        mean_square = xp.where(enough, _over(self.squares, self.counts), xp.ones_like(self.squares))
        nan = xp.full_like(mean_square, float("nan"))
        return xp.where(enough, metric.rho / xp.sqrt(mean_square), nan)[:, bins]

    def sums(self, ell: Array, bins: Array) -> tuple[Array, Array]:
        """This micro-batch's (M, bins) sums of ell^2 and numbers of pairs, to be all-reduced."""
        xp = array_namespace(ell)
        which = xp.arange(self.squares.shape[1], dtype=bins.dtype, device=bins.device)
        onehot = xp.astype(bins[:, None] == which[None, :], xp.float64)
        squares = xp.astype(ell, xp.float64) ** 2 @ onehot
        return squares, xp.zeros_like(squares) + xp.sum(onehot, axis=0)

    def update(self, squares: Array, counts: Array, metric: Metric) -> None:
        """Let the past fade by `rms_decay` and add one step's sums."""
        self.squares = self.squares * metric.rms_decay + squares
        self.counts = self.counts * metric.rms_decay + counts


def weight(u: Array, form: WeightForm, k1: float) -> Array:
    """W(u), (B,) (Eq. 15 is `linear`); 1 where u is NaN.

    `sigmoid_sqrt` is what the authors' release computes under the name of `sqrt`.
    """
    xp = array_namespace(u)
    ones = xp.ones_like(u)
    known = ~xp.isnan(u)
    v = xp.where(known, u, xp.zeros_like(u))
    forms = {
        "linear": lambda: 1 / (1 + k1 * v),
        "square": lambda: 1 / (1 + k1 * v * v),
        "sqrt": lambda: 1 / (1 + k1 * xp.sqrt(v)),
        "sigmoid": lambda: sigmoid(-k1 * v),
        "sigmoid_sqrt": lambda: sigmoid(-k1 * xp.sqrt(v)),
        "none": lambda: ones,
    }
    return xp.where(known, forms[form](), ones)


def margin(u: Array, form: MarginForm, k2: float, c2: Array | float) -> Array:
    """Gamma(u), (B,) (Eq. 16 is `quadratic`, with k2 < 0); c2 alone where u is NaN."""
    xp = array_namespace(u)
    v = xp.where(xp.isnan(u), xp.zeros_like(u), u)
    if form == "none":
        return xp.zeros_like(u)
    return k2 * (v * v if form == "quadratic" else v) + c2
