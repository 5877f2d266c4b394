"""The tables behind the figures."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analysis.arrays import Floats, as_table
from analysis.trajectories import DEFAULT_WINDOW, Trajectory
from toolkit.schema import column

HISTOGRAM = pa.schema(
    [
        column("low", pa.float64(), "lower edge of the bin of u"),
        column("high", pa.float64(), "upper edge"),
        column("count", pa.int64(), "pairs in the bin"),
        column("weight", pa.float64(), "mean over them of the weight training applied"),
    ]
)

ELL_BY_TIMESTEP = pa.schema(
    [
        column("pairs", pa.string(), "all pairs, label as it was, or label flipped"),
        column("low", pa.float64(), "lower edge of the timestep bin"),
        column("high", pa.float64(), "upper edge"),
        column("count", pa.int64(), "visits in the bin"),
        column("lower", pa.float64(), "first quartile of the policy's ell"),
        column("median", pa.float64(), "median of the policy's ell"),
        column("upper", pa.float64(), "third quartile of the policy's ell"),
    ]
)


def minority_histogram_table(minority: Floats, weight: Floats | None, bins: int = 30) -> pa.Table:
    """Pairs by u in equal-width bins with their mean weight; schema HISTOGRAM. (P,) each."""
    has = ~np.isnan(minority)
    kept = minority[has]
    if not len(kept):
        return HISTOGRAM.empty_table()
    top = max(float(kept.max()), float(np.finfo(np.float32).tiny))
    edges = np.linspace(min(0.0, float(kept.min())), top, bins + 1)
    which = np.clip(np.searchsorted(edges, kept, side="right") - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    applied = np.full(len(kept), np.nan) if weight is None else weight[has]
    known = ~np.isnan(applied)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(which[known], applied[known], minlength=bins) / np.bincount(
            which[known], minlength=bins
        )
    return as_table(HISTOGRAM, [edges[:-1], edges[1:], count, mean])


def ell_by_timestep_table(
    trajectory: Trajectory,
    flipped: npt.NDArray[np.bool_] | None = None,
    *,
    window: str = DEFAULT_WINDOW,
    bins: int = 10,
) -> pa.Table:
    """Quartiles of the policy's ell over a window's visits; schema ELL_BY_TIMESTEP.

    `flipped`: (P,) planted flips, which then are a group of their own. Empty where the run left
    no timesteps.
    """
    ell = trajectory.ell[0]
    use = trajectory.within(window) & ~np.isnan(ell)
    if (trajectory.timestep < 0).any():
        return ELL_BY_TIMESTEP.empty_table()
    groups = {"all pairs": use}
    if flipped is not None:
        mine = flipped[trajectory.pair]
        groups = {"label as it was": use & ~mine, "label flipped": use & mine}
    which = trajectory.bins(bins)
    width = trajectory.train_timesteps / bins
    rows = []
    for name, member in groups.items():
        for place in range(bins):
            values = ell[member & (which == place)].astype(np.float64)
            quartiles = np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else [None] * 3
            named = zip(("lower", "median", "upper"), quartiles, strict=True)
            edges = {"low": place * width, "high": (place + 1) * width}
            rows.append({"pairs": name, **edges, "count": len(values), **dict(named)})
    return pa.Table.from_pylist(rows, schema=ELL_BY_TIMESTEP)


def between(low: float, high: float) -> str:
    """A bin in as many digits as its width asks for."""
    if max(abs(low), abs(high)) < 1e-3:
        text = f"{low:.1e} to {high:.1e}"
    else:
        width = high - low
        digits = 3 if width <= 0 else int(np.clip(1 - np.floor(np.log10(width)), 2, 4))
        text = f"{low:.{digits}f}{'–' if low >= 0 else ' to '}{high:.{digits}f}"
    return text.replace("-", "−").replace("e−0", "e−")
