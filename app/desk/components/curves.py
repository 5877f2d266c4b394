"""Curves of runs over their steps: each run has a colour, a dash and a mark of its own."""

from collections.abc import Sequence

import plotly.graph_objects as go
import pyarrow as pa

from toolkit.colors import BLUE, GREEN, ORANGE, PURPLE
from toolkit.store.run_log import Watched, thinned

LOOKS = (
    (BLUE, "solid", "circle"),
    (ORANGE, "dash", "x"),
    (GREEN, "dot", "square"),
    (PURPLE, "dashdot", "diamond"),
)
MOST = len(LOOKS)
"""Runs that are compared at once."""

_MARKS = 40
"""Up to so many points carry a mark each."""
_LEVEL = {"color": "rgba(125, 133, 144, 0.8)", "dash": "dash", "width": 1}
"""A line at the value that says nothing."""


def scalar(runs: Sequence[Watched], name: str, title: str, form: str = "") -> go.Figure:
    """One scalar of the log, a line a run."""
    figure = go.Figure()
    for number, watched in enumerate(runs):
        colour, dash, symbol = LOOKS[number % MOST]
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
    return _dressed(figure, title, form)


def accuracy(runs: Sequence[Watched]) -> go.Figure:
    """Accuracy in training as a line, and on held-out pairs as marks with their 95 % interval."""
    figure = scalar(runs, "accuracy", "share of pairs with ell > 0", ".0%")
    for number, watched in enumerate(runs):
        colour, _, symbol = LOOKS[number % MOST]
        told = watched.held_out
        if not told:
            continue
        figure.add_scatter(
            x=[point["step"] for point in told],
            y=[point["accuracy"] for point in told],
            mode="markers",
            name=f"{watched.run}, held out",
            marker={"symbol": f"{symbol}-open", "size": 10, "color": colour, "line": {"width": 2}},
            error_y={
                "type": "data",
                "array": [point["high"] - point["accuracy"] for point in told],
                "arrayminus": [point["accuracy"] - point["low"] for point in told],
                "color": colour,
                "thickness": 1.5,
                "width": 4,
            },
            customdata=[point["pairs"] for point in told],
            hovertemplate="step %{x}: %{y:.1%} of %{customdata} held-out pairs<extra></extra>",
        )
    figure.add_hline(y=0.5, line=_LEVEL)
    return figure


def growth(runs: Sequence[Watched]) -> go.Figure:
    """How far the policy's error on the chosen images rose above the reference's."""
    figure = scalar(runs, "chosen_growth", "error on chosen images, above the reference's", ".1%")
    figure.add_hline(y=0, line=_LEVEL)
    return figure


def ell_medians(tables: Sequence[tuple[str, pa.Table]]) -> go.Figure:
    """Median ell by timestep of several runs, all their pairs together weighted by visits."""
    figure = go.Figure()
    for number, (run, table) in enumerate(tables):
        colour, dash, symbol = LOOKS[number % MOST]
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
    dressed = _dressed(figure, "median ell", "")
    return dressed.update_xaxes(title="timestep (0: clean, high: noisy)")


def _mean(parts: list[tuple[int, float]]) -> float | None:
    total = sum(count for count, _ in parts)
    return sum(count * value for count, value in parts) / total if total else None


def _dressed(figure: go.Figure, title: str, form: str) -> go.Figure:
    from analysis.figures.theme import look  # the desk starts without the extra `analyze`

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
    return f"<extra>{run}</extra>"  # a run's name holds letters, digits, '.', '_' and '-' alone
