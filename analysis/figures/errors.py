"""One pair's errors over a run: on the chosen and on the rejected image, each against the
reference's."""

import math
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa

from analysis.figures.look import line, look
from toolkit.palette import BLUE, ORANGE
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

    `rows`: one pair's rows of `toolkit.store.trajectories.read_trajectory`; `label`: 1 or 0, which
    says which image is the chosen one. By Eq. 10, ell = rejected - chosen. A visit that a resumed
    run wrote twice counts once; rows without a finite error are left out.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows.sort_by("step").to_pylist():
        policy = [(row[f"err_{slot}"] or [None])[0] for slot in (0, 1)]
        given = [*policy, row["err_ref_0"], row["err_ref_1"]]
        if any(value is None or not math.isfinite(value) for value in given):
            continue
        gaps = [policy[slot] - row[f"err_ref_{slot}"] for slot in (0, 1)]
        chosen, rejected = gaps if label == 1 else gaps[::-1]
        told = {name: row[name] for name in ("step", "timestep", "kind")}
        # Two probes may bear one number, at different steps.
        measured = row["step"] if row["kind"] == "probe" else None
        key = (row["visit"], row["draw"], row["kind"], measured)
        found.setdefault(key, told | {"chosen": chosen, "rejected": rejected})
    return pa.Table.from_pylist(list(found.values()), schema=PAIR_ERRORS)


def pair_errors_figure(table: pa.Table) -> go.Figure:
    """How far the policy's error moved from the reference's on each image; the gap is ell.

    `table`: of `pair_errors_table`. Below 0 the policy does better than the reference.
    """
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
