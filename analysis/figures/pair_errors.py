"""Single pairs: the cartography map, one pair's errors over a run, and its trajectory of ell."""

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from analysis.figures.theme import INK, faint, line, look
from analysis.frames import as_arrow
from analysis.ranking_metrics import Flags
from analysis.trajectory import Floats, Trajectory, as_table, numbers
from toolkit.colors import BLUE, ORANGE, VERMILION
from toolkit.schema import column

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

    `rows`: one pair's rows of `toolkit.store.trajectory.read_trajectory`; `label`: 1 or 0, which
    says which image is the chosen one. By Eq. 10, ell = rejected - chosen. A visit that a resumed
    run wrote twice counts once; rows without a finite error are left out.
    """
    visits: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows.sort_by("step").to_pylist():
        policy = [(row[f"err_{slot}"] or [None])[0] for slot in (0, 1)]
        given = [*policy, row["err_ref_0"], row["err_ref_1"]]
        if any(value is None or not math.isfinite(value) for value in given):
            continue
        gaps = [policy[slot] - row[f"err_ref_{slot}"] for slot in (0, 1)]
        chosen, rejected = gaps if label == 1 else gaps[::-1]
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


DRAWN = 4_000
"""Dots on a map at most."""

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
