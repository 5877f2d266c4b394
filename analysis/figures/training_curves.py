"""Curves of several runs over their steps: each run has its own colour, dash and mark."""

from collections.abc import Sequence

import plotly.graph_objects as go
import pyarrow as pa

from analysis.figures.theme import look
from toolkit.colors import BLUE, GREEN, ORANGE, PURPLE
from toolkit.store.run_log import Watched, thinned

STYLES = (
    (BLUE, "solid", "circle"),
    (ORANGE, "dash", "x"),
    (GREEN, "dot", "square"),
    (PURPLE, "dashdot", "diamond"),
)
MOST = len(STYLES)
"""Runs that can be compared at once: each has its own colour, dash and mark."""

_MARKS = 40
"""Up to so many points have a mark each."""
_LEVEL = {"color": "rgba(125, 133, 144, 0.8)", "dash": "dash", "width": 1}
"""A line at the value of no information."""


def scalar_figure(runs: Sequence[Watched], name: str, title: str, form: str = "") -> go.Figure:
    """One scalar of the log, a line for each run."""
    figure = go.Figure()
    for place, watched in enumerate(runs):
        colour, dash, symbol = STYLES[place % MOST]
        steps, values = thinned(watched.scalars, name)
        figure.add_scatter(
            x=steps,
            y=values,
            mode="lines+markers" if len(steps) <= _MARKS else "lines",
            name=watched.run,
            line={"color": colour, "dash": dash, "width": 2},
            marker={"symbol": symbol, "size": 5},
            hovertemplate=f"step %{{x}}: %{{y:{form or '.3g'}}}" + _extra(watched.run),
        )
    return _layout(figure, title, form)


def accuracy_figure(runs: Sequence[Watched]) -> go.Figure:
    """Accuracy in training as a line, and on held-out pairs as marks with 95 % intervals."""
    figure = scalar_figure(runs, "accuracy", "share of pairs with ell > 0", ".0%")
    for place, watched in enumerate(runs):
        colour, _, symbol = STYLES[place % MOST]
        points = watched.held_out
        if not points:
            continue
        figure.add_scatter(
            x=[point["step"] for point in points],
            y=[point["accuracy"] for point in points],
            mode="markers",
            name=f"{watched.run}, held out",
            marker={"symbol": f"{symbol}-open", "size": 10, "color": colour, "line": {"width": 2}},
            error_y={
                "type": "data",
                "array": [point["high"] - point["accuracy"] for point in points],
                "arrayminus": [point["accuracy"] - point["low"] for point in points],
                "color": colour,
                "thickness": 1.5,
                "width": 4,
            },
            customdata=[point["pairs"] for point in points],
            hovertemplate="step %{x}: %{y:.1%} of %{customdata} held-out pairs<extra></extra>",
        )
    figure.add_hline(y=0.5, line=_LEVEL)
    return figure


def growth_figure(runs: Sequence[Watched]) -> go.Figure:
    """How far the policy's error on the chosen images is above the reference's."""
    figure = scalar_figure(
        runs, "chosen_growth", "error on chosen images, above the reference's", ".1%"
    )
    figure.add_hline(y=0, line=_LEVEL)
    return figure


def ell_medians_figure(tables: Sequence[tuple[str, pa.Table]]) -> go.Figure:
    """Median ell by timestep of several runs, over all their pairs, weighted by visits."""
    figure = go.Figure()
    for place, (run, table) in enumerate(tables):
        colour, dash, symbol = STYLES[place % MOST]
        bins: dict[float, list[tuple[int, float]]] = {}
        for row in table.to_pylist():
            middle = (row["low"] + row["high"]) / 2
            bins.setdefault(middle, []).append((row["count"], row["median"]))
        figure.add_scatter(
            x=sorted(bins),
            y=[_mean(bins[middle]) for middle in sorted(bins)],
            mode="lines+markers",
            name=run,
            line={"color": colour, "dash": dash, "width": 2},
            marker={"symbol": symbol, "size": 7},
            hovertemplate="t near %{x:.0f}: ell %{y:.3g}" + _extra(run),
        )
    figure.add_hline(y=0, line=_LEVEL)
    return _layout(figure, "median ell", "").update_xaxes(title="timestep (0: clean, high: noisy)")


def _mean(parts: list[tuple[int, float]]) -> float | None:
    total = sum(count for count, _ in parts)
    return sum(count * value for count, value in parts) / total if total else None


def _layout(figure: go.Figure, title: str, form: str) -> go.Figure:
    look(figure, height=260)
    figure.update_layout(
        margin={"l": 48, "r": 16, "t": 62, "b": 40},
        uirevision="kept",
        title={"text": title, "font": {"size": 14}, "x": 0, "xref": "paper", "y": 0.97},
    )
    figure.update_xaxes(title="optimiser step", rangemode="tozero")
    figure.update_yaxes(tickformat=form if form.endswith("%") else None, exponentformat="power")
    return figure


def _extra(run: str) -> str:
    return f"<extra>{run}</extra>"  # the name of a run has only letters, digits, '.', '_' and '-'
