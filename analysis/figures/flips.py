"""Flips: their share by score and what they do to majorities (arXiv 2503.16921, Fig. 3 and 2)."""

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from analysis.arrays import as_table
from analysis.figures.look import INK, WHISKER, flat, line, look
from analysis.tables import between
from toolkit.palette import BLUE, ORANGE
from toolkit.schema import column

SHARES = pa.schema(
    [
        column("rate", pa.float64(), "share of all labels that are flipped"),
        column("minority", pa.float64(), "share of labels that then stand against the majority"),
        column("majority", pa.float64(), "share that stand with it"),
        column("expected", pa.float64(), "m + r (1 - 2m): the minority share to be expected"),
    ]
)


def flipped_ratio_figure(table: pa.Table, score: str = "minority score u") -> go.Figure:
    """Share of planted flips by score bin with 95 % intervals (Figure 3 of 2503.16921).

    `table`: of `flipped_ratio_table`. Counts stand above the bars, the base rate is dashed.
    """
    rows = [row for row in table.to_pylist() if row["count"]]
    names = [between(row["low"], row["high"]) for row in rows]
    counts = [f"{row['flipped']}/{row['count']}" for row in rows]
    share = np.array([row["share"] for row in rows], float)
    up = np.array([row["share_high"] for row in rows], float) - share
    down = share - np.array([row["share_low"] for row in rows], float)
    place = list(range(len(rows)))
    figure = go.Figure(go.Bar(x=place, y=share.tolist(), marker=flat(BLUE), hoverinfo="skip"))
    figure.add_scatter(
        x=place,
        y=share.tolist(),
        mode="markers",
        marker={"color": BLUE, "size": 8},
        error_y={"type": "data", "array": up.tolist(), "arrayminus": down.tolist(), **WHISKER},
        customdata=list(zip(names, counts, strict=True)),
        hovertemplate="score %{customdata[0]}<br>%{customdata[1]} flipped (%{y:.1%})"
        "<extra></extra>",
    )
    for at, text, high in zip(place, counts, share + up, strict=True):
        words = {"text": text, "showarrow": False, "yshift": 10, "font": {"size": 11}}
        figure.add_annotation(x=at, y=float(high), **words)
    top = float((share + up).max()) if rows else 1.0
    total = sum(row["count"] for row in rows)
    if total:
        base = sum(row["flipped"] for row in rows) / total
        line(figure, y=base, text=f"base rate<br>{base:.1%}")
    figure.update_xaxes(
        title=f"{score}, lowest to highest",
        tickvals=place,
        ticktext=names,
        tickangle=-40 if len(rows) > 6 else 0,
        showgrid=False,
    )
    figure.update_yaxes(title="share flipped", tickformat=".0%", range=[0, min(1.12, top * 1.14)])
    return look(figure, bargap=0.18, showlegend=False, height=400)


def flip_shares_table(
    *, samples: int = 1000, minority: float = 0.1, seed: int = 0, rates: int = 21
) -> pa.Table:
    """Minority share of `samples` labels by flip ratio, drawn; schema SHARES.

    A share `minority` of the labels stands against the majority; a flip turns a label of either
    kind into the other, so m + r (1 - 2m) is expected. The same labels are flipped first at every
    rate: the curve is one dataset under more and more noise.
    """
    rng = np.random.default_rng(seed)
    against = np.arange(samples) < round(minority * samples)
    order = rng.permutation(samples)
    grid = np.linspace(0, 1, rates)
    share = []
    for rate in grid:
        flipped = np.zeros(samples, bool)
        flipped[order[: round(rate * samples)]] = True
        share.append(float((against ^ flipped).mean()))
    drawn, m = np.array(share), round(minority * samples) / samples
    return as_table(SHARES, [grid, drawn, 1 - drawn, m + grid * (1 - 2 * m)])


def flip_shares_figure(table: pa.Table) -> go.Figure:
    """Majority and minority share by flip ratio (Figure 2 of arXiv 2503.16921).

    `table`: of `flip_shares_table`. Dots are drawn, lines the closed form.
    """
    rate, minority, majority, expected = (
        np.asarray(table[name].to_pylist(), float) for name in table.column_names
    )
    figure = go.Figure()
    for name, dots, curve, colour, symbol in (
        ("majority", majority, 1 - expected, BLUE, "circle"),
        ("minority", minority, expected, ORANGE, "diamond"),
    ):
        figure.add_scatter(
            x=rate.tolist(), y=curve.tolist(), mode="lines",
            line={"color": colour, "width": 1.5, "dash": "dot"}, showlegend=False,
            hoverinfo="skip",
        )  # fmt: skip
        figure.add_scatter(
            x=rate.tolist(), y=dots.tolist(), mode="markers", name=name,
            marker={"color": colour, "symbol": symbol, "size": 8},
            hovertemplate="%{x:.0%} flipped: %{y:.1%}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.add_vline(x=0.5, line={"color": INK, "dash": "dash", "width": 1.5})
    figure.update_xaxes(title="share of labels flipped", tickformat=".0%")
    figure.update_yaxes(title="share of labels", tickformat=".0%", range=[0, 1])
    return look(figure, height=360)
