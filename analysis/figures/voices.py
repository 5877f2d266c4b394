"""Annotators beside each other."""

from typing import Literal

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from analysis.arrays import numbers
from analysis.figures.look import INK, WHISKER, look
from toolkit.palette import BLUE
from toolkit.shares import wilson

Habit = Literal["mean_u", "agreement", "left_share", "tie_rate"]

WORDS: dict[Habit, str] = {
    "mean_u": "mean minority score u of the annotator's pairs",
    "agreement": "share of votes that go with the majority of the others",
    "left_share": "share of votes for image_0, ties left out",
    "tie_rate": "share of ties",
}


def annotators_figure(table: pa.Table, habit: Habit = "mean_u", *, most: int = 25) -> go.Figure:
    """One habit of the annotators with the most votes, shrunk values, highest on top.

    `table`: of `annotators`. Shares carry 95 % Wilson intervals of the plain share around them;
    the dashed line is the mean over all votes.
    """
    shrunk, plain = numbers(table[f"{habit}_shrunk"]), numbers(table[habit])
    votes = numbers(table["compared" if habit == "agreement" else "votes"])
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
    figure.update_yaxes(showgrid=False, automargin=True, ticklabelstandoff=8)
    return look(figure, height=110 + 22 * max(1, len(rows)))
