"""Curves over the steps of a run: its scalars, one pair's errors, one pair's trajectory of ell.

Runs that are compared have their own colour, dash and mark.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from analysis.figures.theme import faint, line, look
from analysis.frames import as_arrow
from analysis.trajectory import Floats, Trajectory, as_table
from toolkit.colors import BLUE, GREEN, ORANGE, PURPLE, VERMILION
from toolkit.preference import lean
from toolkit.schema import column
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


PAIR_ERRORS = pa.schema(
    [
        column("step", pa.int64(), "optimiser steps done before the visit"),
        column("timestep", pa.int64(), "of the noise schedule; null where not recorded"),
        column("kind", pa.string(), "train or probe"),
        column("chosen", pa.float64(), "policy's error less the reference's, chosen image"),
        column("rejected", pa.float64(), "the same on the rejected image"),
    ]
)


def pair_errors_table(rows: pa.Table, label: float) -> pa.Table:
    """The policy's error less the reference's, by role; schema PAIR_ERRORS, in order of step.

    `rows`: one pair's rows of `toolkit.store.trajectory.read_trajectory`; `label`: no tie, it says
    which image is the chosen one. By Eq. 10, ell = rejected - chosen. A visit that a resumed run
    wrote twice counts once; rows without a finite error are left out.
    """
    visits: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows.sort_by("step").to_pylist():
        policy = [(row[f"err_{slot}"] or [None])[0] for slot in (0, 1)]
        given = [*policy, row["err_ref_0"], row["err_ref_1"]]
        if any(value is None or not math.isfinite(value) for value in given):
            continue
        gaps = [policy[slot] - row[f"err_ref_{slot}"] for slot in (0, 1)]
        chosen, rejected = gaps if lean(label) > 0 else gaps[::-1]
        about = {name: row[name] for name in ("step", "timestep", "kind")}
        # Two probes may bear one number, at different steps.
        measured = row["step"] if row["kind"] == "probe" else None
        key = (row["visit"], row["draw"], row["kind"], measured)
        visits.setdefault(key, about | {"chosen": chosen, "rejected": rejected})
    return pa.Table.from_pylist(list(visits.values()), schema=PAIR_ERRORS)


def pair_errors_figure(frame: Any) -> go.Figure:
    """How far the policy's error moved from the reference's on each image; the gap is ell.

    `frame`: of `pair_errors_table`. Below 0 the policy does better than the reference.
    """
    table = as_arrow(frame, *PAIR_ERRORS.names)
    figure = go.Figure()
    looks = (("chosen", BLUE, "circle", "solid"), ("rejected", ORANGE, "x", "dash"))
    for role, colour, symbol, dash in looks:
        for kind in ("train", "probe"):
            mine = [row for row in table.to_pylist() if row["kind"] == kind]
            if not mine:
                continue
            probe = kind == "probe"
            figure.add_scatter(
                x=[row["step"] for row in mine],
                y=[row[role] for row in mine],
                mode="markers" if probe else "lines+markers",
                name=f"{role}, probes" if probe else role,
                line={"color": colour, "width": 2, "dash": dash},
                marker={
                    "symbol": "diamond-open" if probe else symbol, "size": 9 if probe else 7,
                    "color": colour,
                },
                customdata=[row["timestep"] for row in mine],
                hovertemplate="step %{x}, t %{customdata}: %{y:.3g}<extra>" + role + "</extra>",
            )  # fmt: skip
    line(figure, y=0.0, text="reference")
    figure.update_xaxes(title="optimiser step")
    figure.update_yaxes(title="error - reference's", exponentformat="power")
    return look(figure, height=320)


PAIR = pa.schema(
    [
        column("step", pa.int64(), "optimiser steps done before the visit"),
        column("timestep", pa.int64(), "of the noise schedule; -1: not recorded"),
        column("kind", pa.string(), "train or probe"),
        column("policy", pa.float64(), "the policy's ell"),
        column("low", pa.float64(), "lowest ell among the policy and its footprints"),
        column("high", pa.float64(), "highest"),
    ]
)


def pair_trajectory_table(trajectory: Trajectory, pair_id: str) -> pa.Table:
    """One pair's visits and probes in order of step; schema PAIR, empty for a pair not there."""
    rows = np.flatnonzero(trajectory.pair_ids[trajectory.pair] == pair_id)
    ell: Floats = trajectory.ell[:, rows].astype(np.float64)
    if not len(rows):
        return PAIR.empty_table()
    kinds = np.where(trajectory.train[rows], "train", "probe")
    columns = [
        trajectory.step[rows], trajectory.timestep[rows], kinds, ell[0], ell.min(0), ell.max(0),
    ]  # fmt: skip
    return as_table(PAIR, columns)


def pair_trajectory_figure(frame: Any) -> go.Figure:
    """A pair's ell over the run, with the band that policy and footprints span.

    `frame`: of `pair_trajectory_table`. Above 0 the model agrees with the label.
    """
    table = as_arrow(frame, *PAIR.names)
    figure = go.Figure()
    for kind, colour, symbol, dash in (
        ("train", BLUE, "circle", "solid"), ("probe", VERMILION, "diamond", "dot"),
    ):  # fmt: skip
        mine = [row for row in table.to_pylist() if row["kind"] == kind]
        if not mine:
            continue
        x = [row["step"] for row in mine]
        figure.add_scatter(
            x=x + x[::-1],
            y=[row["low"] for row in mine] + [row["high"] for row in mine][::-1],
            fill="toself",
            fillcolor=faint(colour),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=x,
            y=[row["policy"] for row in mine],
            mode="lines+markers",
            name={"train": "visits", "probe": "probes"}[kind],
            line={"color": colour, "width": 2, "dash": dash},
            marker={"symbol": symbol, "size": 7},
            customdata=[row["timestep"] for row in mine],
            hovertemplate="step %{x}, t %{customdata}: ell %{y:.3g}<extra></extra>",
        )
    line(figure, y=0.0, text="no opinion")
    figure.update_xaxes(title="optimiser step")
    figure.update_yaxes(title="ell (band: footprints)", exponentformat="power")
    return look(figure, height=320)
