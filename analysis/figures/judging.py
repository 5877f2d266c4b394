"""Detectors held against known flips: AUROC with intervals, ROC, precision and recall."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from analysis.arrays import Floats, as_table
from analysis.detection import Detection, Flags
from analysis.figures.look import INK, WHISKER, line, look
from analysis.judging import Calibration
from toolkit.palette import BLUE, OKABE_ITO
from toolkit.schema import column

CURVES = pa.schema(
    [
        column("detector", pa.string(), "its name"),
        column("flagged", pa.float64(), "share of the scored pairs that are flagged"),
        column("false_positives", pa.float64(), "share of the other pairs that are flagged"),
        column("recall", pa.float64(), "share of the flips that are flagged"),
        column("precision", pa.float64(), "share of flips among the flagged"),
    ]
)

_POINTS = 200
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def detector_comparison_figure(
    detections: Sequence[Detection], names: Mapping[str, str] | None = None
) -> go.Figure:
    """AUROC of each detector with its 95 % interval, in the order given, first on top."""
    known = [d for d in detections if d.auroc.value is not None][::-1]
    shown = [(names or {}).get(d.name, d.name) for d in known]
    value = np.array([d.auroc.value for d in known], float)
    ends = [(d.auroc.low, d.auroc.high) for d in known]
    low, high = (
        np.array([[np.nan] * 2 if None in end else end for end in ends], float).reshape(-1, 2).T
    )
    low, high = (np.where(np.isnan(end), value, end) for end in (low, high))
    figure = go.Figure(
        go.Scatter(
            x=value.tolist(),
            y=shown,
            mode="markers",
            marker={"color": BLUE, "size": 10},
            error_x={
                "type": "data",
                "array": (high - value).tolist(),
                "arrayminus": (value - low).tolist(),
                **WHISKER,
            },
            customdata=np.stack([low, high], axis=1).tolist() if len(known) else [],
            hovertemplate="%{y}: %{x:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})"
            "<extra></extra>",
        )
    )
    left = min([0.45, *(low - 0.02).tolist()])
    figure.update_xaxes(title="AUROC", range=[max(0.0, left), 1.01])
    figure.update_yaxes(showgrid=False, automargin=True, ticklabelstandoff=8)
    figure.add_vline(x=0.5, line={"color": INK, "dash": "dash", "width": 1.5})
    figure.add_annotation(
        x=0.5, y=1, yref="paper", yanchor="bottom", text="guessing", showarrow=False
    )
    return look(figure, height=110 + 34 * max(1, len(known)))


def curves_table(detectors: Mapping[str, Floats], flipped: Flags) -> pa.Table:
    """ROC and precision-recall points of detectors, high = suspicious; schema CURVES.

    Pairs of equal score are flagged together. At most some 200 points a detector.
    """
    tables = [_curve(name, scores, flipped) for name, scores in detectors.items()]
    return pa.concat_tables([CURVES.empty_table(), *tables])


def _curve(name: str, scores: Floats, flipped: Flags) -> pa.Table:
    known = ~np.isnan(scores)
    hit = flipped[known]
    if not hit.any() or hit.all():
        return CURVES.empty_table()
    order = np.argsort(-scores[known], kind="stable")
    ranked = scores[known][order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    found = np.cumsum(hit[order])[ends]
    flagged = ends + 1
    if len(ends) > _POINTS:
        keep = np.unique(np.linspace(0, len(ends) - 1, _POINTS).astype(int))
        found, flagged = found[keep], flagged[keep]
    total = int(hit.sum())
    columns = [
        np.full(len(found), name),
        flagged / len(hit),
        (flagged - found) / (len(hit) - total),
        found / total,
        found / flagged,
    ]
    return as_table(CURVES, columns)


def roc_figure(table: pa.Table, names: Mapping[str, str] | None = None) -> go.Figure:
    """Recall against false positives; `table`: of `curves_table`. The diagonal is guessing."""
    figure = _lines(table, "false_positives", names, start=(0.0, 0.0))
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": INK, "dash": "dash", "width": 1.5},
        hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    figure.update_xaxes(title="share of the other pairs flagged", range=[0, 1])
    figure.update_yaxes(title="share of the flips found", range=[0, 1.01])
    return look(figure, height=420)


def precision_recall_figure(
    table: pa.Table, base_rate: float, names: Mapping[str, str] | None = None
) -> go.Figure:
    """Precision against recall; `table`: of `curves_table`. Dashed is guessing, the base rate."""
    figure = _lines(table, "recall", names, up="precision")
    line(figure, y=base_rate, text=f"guessing<br>{base_rate:.1%}")
    figure.update_xaxes(title="share of the flips found", range=[0, 1])
    figure.update_yaxes(title="share of flips among the flagged", range=[0, 1.01])
    return look(figure, height=420)


def _lines(
    table: pa.Table,
    across: str,
    names: Mapping[str, str] | None,
    up: str = "recall",
    start: tuple[float, float] | None = None,
) -> go.Figure:
    figure = go.Figure()
    rows = table.to_pylist()
    for place, name in enumerate(dict.fromkeys(row["detector"] for row in rows)):
        mine = [(row[across], row[up]) for row in rows if row["detector"] == name]
        points = mine if start is None else [start, *mine]
        figure.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            mode="lines",
            name=(names or {}).get(name, name),
            line={
                "color": OKABE_ITO[place % len(OKABE_ITO)],
                "dash": _DASHES[place % len(_DASHES)],
                "width": 2,
            },
        )
    return figure


def calibration_figure(found: Calibration) -> go.Figure:
    """Probability of a planted flip by score: the isotonic curve; `found`: of `calibrate`."""
    figure = go.Figure(
        go.Scatter(
            x=found.score,
            y=found.probability,
            mode="lines",
            line={"color": BLUE, "width": 2},
            hovertemplate="score %{x:.3g}: %{y:.1%}<extra></extra>",
        )
    )
    figure.update_xaxes(title=f"score of {found.detector}")
    figure.update_yaxes(title="probability of a planted flip", tickformat=".0%", rangemode="tozero")
    return look(figure, height=320, showlegend=False)
