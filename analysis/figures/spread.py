"""How scores and errors are spread: u with its weights, ell by timestep, the noise rate."""

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from analysis.bootstrap import Interval
from analysis.figures.look import WHISKER, faint, flat, line, look
from toolkit.palette import BLUE, ORANGE, VERMILION


def minority_histogram_figure(table: pa.Table, score: str = "minority score u") -> go.Figure:
    """How u is spread over the pairs, and the mean weight training gave at each u.

    `table`: of `minority_histogram_table`. The weight has an axis of its own on the right.
    """
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


def ell_by_timestep_figure(table: pa.Table) -> go.Figure:
    """The policy's ell by timestep: medians and middle halves, flipped and other pairs apart.

    `table`: of `ell_by_timestep_table`. Above 0 the model agrees with the label.
    """
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
    known = [(name, found) for name, found in rates.items() if found.value is not None][::-1]
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
