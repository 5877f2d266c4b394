"""How scores are distributed: u with its weights, ell by timestep, the map, noise, annotators."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import pyarrow as pa

from analysis.figures.theme import INK, WHISKER, faint, flat, line, look
from analysis.frames import as_arrow
from analysis.ranking_metrics import Flags, Interval
from analysis.trajectory import DEFAULT_WINDOW, Floats, Trajectory, as_table, numbers
from toolkit.colors import BLUE, ORANGE, VERMILION
from toolkit.intervals import wilson
from toolkit.schema import column


def minority_histogram_figure(frame: Any, score: str = "minority score u") -> go.Figure:
    """How u is distributed over the pairs, and the mean weight training gave at each u.

    `frame`: of `minority_histogram_table`; or one with a column `minority`, from which it is made
    (and a column `weight`, if it has one). The weight has an axis of its own on the right.
    """
    table = _histogram(as_arrow(frame))
    low, high = (np.asarray(table[name].to_pylist(), float) for name in ("low", "high"))
    middle, width = (low + high) / 2, high - low
    figure = go.Figure(
        go.Bar(
            x=middle.tolist(),
            y=table["count"].to_pylist(),
            width=(width * 0.94).tolist(),
            marker=flat(BLUE),
            name="pairs",
            hovertemplate="u near %{x:.3g}: %{y} pairs<extra></extra>",
        )
    )
    weights = table["weight"].to_pylist()
    if any(value is not None for value in weights):
        figure.add_scatter(
            x=middle.tolist(),
            y=weights,
            yaxis="y2",
            mode="lines+markers",
            line={"color": ORANGE, "width": 2},
            marker={"symbol": "diamond", "size": 7},
            name="mean weight W (right)",
            connectgaps=True,
            hovertemplate="u near %{x:.3g}: W %{y:.3f}<extra></extra>",
        )
        figure.update_layout(
            yaxis2={
                "title": "mean weight W",
                "overlaying": "y",
                "side": "right",
                "range": [0, 1.05],
                "tickmode": "array",
                "tickvals": [0, 0.25, 0.5, 0.75, 1],
                "showgrid": False,
                "zeroline": False,
            }
        )
    figure.update_xaxes(title=score, showgrid=False)
    figure.update_layout(yaxis={"title": "pairs", "rangemode": "tozero"})
    return look(figure, height=360)


def _histogram(table: pa.Table) -> pa.Table:
    if set(HISTOGRAM.names) <= set(table.column_names):
        return table
    values = numbers(as_arrow(table, "minority")["minority"])
    weight = numbers(table["weight"]) if "weight" in table.column_names else None
    return minority_histogram_table(values, weight)


def ell_by_timestep_figure(frame: Any) -> go.Figure:
    """The policy's ell by timestep: medians and middle halves, flipped and other pairs apart.

    `frame`: of `ell_by_timestep_table`. Above 0 the model agrees with the label.
    """
    table = as_arrow(frame, *ELL_BY_TIMESTEP.names)
    figure = go.Figure()
    looks = {
        "all pairs": (BLUE, "circle", "solid"),
        "label as it was": (BLUE, "circle", "solid"),
        "label flipped": (VERMILION, "square", "dash"),
    }
    rows = table.to_pylist()
    for group in dict.fromkeys(row["pairs"] for row in rows):
        mine = [row for row in rows if row["pairs"] == group and row["count"]]
        colour, symbol, dash = looks[group]
        x = [(row["low"] + row["high"]) / 2 for row in mine]
        band = [row["upper"] for row in mine] + [row["lower"] for row in mine][::-1]
        figure.add_scatter(
            x=x + x[::-1],
            y=band,
            fill="toself",
            fillcolor=faint(colour),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=x,
            y=[row["median"] for row in mine],
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": dash},
            marker={"symbol": symbol, "size": 7},
            name=group,
            customdata=[row["count"] for row in mine],
            hovertemplate="t near %{x:.0f}: median ell %{y:.3g} (%{customdata} visits)"
            f"<extra>{group}</extra>",
        )
    line(figure, y=0.0, text="no opinion")
    figure.update_xaxes(title="timestep (0: clean, high: noisy)", showgrid=False)
    figure.update_yaxes(title="ell", exponentformat="power", zeroline=False)
    return look(figure, height=360)


def noise_rate_figure(rates: dict[str, Interval]) -> go.Figure:
    """Noise rates with their 95 % intervals, first on top: estimated, planted, of a group."""
    known = [(name, rate) for name, rate in rates.items() if rate.value is not None][::-1]
    ends = [(f.value if f.low is None else f.low, f.value, f.high) for _, f in known]
    low, value, high = np.array(ends, float).reshape(-1, 3).T
    high = np.where(np.isnan(high), value, high)
    figure = go.Figure(
        go.Scatter(
            x=value.tolist(),
            y=[name for name, _ in known],
            mode="markers",
            marker={"color": BLUE, "size": 10},
            error_x={
                "type": "data",
                "array": (high - value).tolist(),
                "arrayminus": (value - low).tolist(),
                **WHISKER,
            },
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    figure.update_xaxes(title="share of reversed labels", tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(showgrid=False, automargin=True, ticklabelstandoff=8)
    return look(figure, height=110 + 40 * max(1, len(known)))


Habit = Literal["mean_u", "agreement", "left_share", "tie_rate"]

WORDS: dict[Habit, str] = {
    "mean_u": "mean minority score u of the annotator's pairs",
    "agreement": "share of votes that go with the majority of the others",
    "left_share": "share of votes for image_0, ties left out",
    "tie_rate": "share of ties",
}


def annotators_figure(frame: Any, habit: Habit = "mean_u", *, most: int = 25) -> go.Figure:
    """One habit of the annotators with the most votes, shrunk values, highest on top.

    `frame`: the finding `annotators`. Shares carry 95 % Wilson intervals of the plain share around
    them; the dashed line is the mean over all votes.
    """
    count = "compared" if habit == "agreement" else "votes"
    table = as_arrow(frame, "annotator", habit, f"{habit}_shrunk", count)
    shrunk, plain = numbers(table[f"{habit}_shrunk"]), numbers(table[habit])
    votes = numbers(table[count])
    if habit == "left_share":
        votes = np.round(votes * (1 - np.nan_to_num(numbers(table["tie_rate"]))))
    known = np.flatnonzero(~np.isnan(shrunk))
    busy = known[np.argsort(-votes[known], kind="stable")[:most]]
    rows = busy[np.argsort(shrunk[busy], kind="stable")]
    names = [str(table["annotator"][int(row)]) for row in rows]
    bars = {}
    if habit != "mean_u":
        low, high = wilson(plain[rows] * votes[rows], votes[rows])
        value = shrunk[rows]
        bars = {
            "error_x": {
                "type": "data",
                "array": np.nan_to_num(np.maximum(high - value, 0)).tolist(),
                "arrayminus": np.nan_to_num(np.maximum(value - low, 0)).tolist(),
                **WHISKER,
            }
        }
    figure = go.Figure(
        go.Scatter(
            x=shrunk[rows].tolist(),
            y=names,
            mode="markers",
            marker={"color": BLUE, "size": 9},
            customdata=np.stack([votes[rows], plain[rows]], axis=1).tolist(),
            hovertemplate="%{y}: %{x:.3f} (plain %{customdata[1]:.3f}, %{customdata[0]:.0f} votes)"
            "<extra></extra>",
            **bars,
        )
    )
    if len(known):
        counted = np.where(np.isnan(plain), 0.0, votes)
        total = float(np.nan_to_num(plain) @ counted) / max(float(counted.sum()), 1.0)
        figure.add_vline(x=total, line={"dash": "dash", "width": 1.5, "color": INK})
    figure.update_xaxes(title=WORDS[habit])
    figure.update_yaxes(type="category", showgrid=False, automargin=True, ticklabelstandoff=8)
    return look(figure, height=110 + 22 * max(1, len(rows)))


DRAWN = 4_000
"""Dots on a map at most."""


def cartography_figure(
    frame: Any, flipped: Flags | str | None = None, *, seed: int = 0
) -> go.Figure:
    """The dataset as a map: mean probability of the label against its spread over visits.

    `frame`: the finding `cartography`, or any frame with columns variability,
    cartography_confidence and pair_id; `flipped`: (P,) known flips or the name of their column,
    drawn as crosses. At most DRAWN pairs, at random.
    """
    named = [flipped] if isinstance(flipped, str) else []
    table = as_arrow(frame, "pair_id", "variability", "cartography_confidence", *named)
    hit = np.zeros(table.num_rows, bool)
    if isinstance(flipped, str):
        hit = numbers(table[flipped].cast(pa.int8())) == 1
    elif flipped is not None:
        hit = flipped
    across, up = numbers(table["variability"]), numbers(table["cartography_confidence"])
    known = np.flatnonzero(~np.isnan(across) & ~np.isnan(up))
    shown = np.sort(np.random.default_rng(seed).permutation(known)[:DRAWN])
    names = {"label flipped": True, "label as it was": False} if hit.any() else {"pairs": False}
    ids = np.asarray(table["pair_id"].to_pylist(), np.str_)
    figure = go.Figure()
    for name, which in sorted(names.items(), key=lambda entry: entry[1]):
        mine = shown[hit[shown] == which]
        figure.add_scatter(
            x=across[mine].tolist(),
            y=up[mine].tolist(),
            mode="markers",
            name=name,
            customdata=ids[mine].tolist(),
            marker={
                "color": VERMILION if which else BLUE,
                "symbol": "x" if which else "circle",
                "size": 6 if which else 5,
                "opacity": 0.75 if which else 0.35,
            },
            hovertemplate="%{customdata}: p %{y:.2f} ± %{x:.2f}<extra>" + name + "</extra>",
        )
    for place, text in ((0.97, "easy to learn"), (0.03, "hard to learn: look here first")):
        figure.add_annotation(
            x=0, xanchor="left", y=place, yref="y", text=text, showarrow=False,
            font={"color": INK, "size": 12},
        )  # fmt: skip
    line(figure, y=0.5, text="undecided")
    figure.update_xaxes(title="variability (standard deviation of p)", rangemode="tozero")
    figure.update_yaxes(title="cartography_confidence (mean p)", range=[-0.02, 1.02])
    return look(figure, height=440)


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
