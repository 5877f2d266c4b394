"""Detectors on known flips: AUROC with intervals, ROC, precision and recall, share by score.

Figures 2 and 3 of arXiv 2503.16921 are `flip_shares_figure` and `flipped_ratio_figure`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from analysis.audits import Bin
from analysis.evaluate_detectors import Calibration
from analysis.figures.distributions import between
from analysis.figures.theme import INK, WHISKER, flat, line, look
from analysis.frames import as_arrow
from analysis.ranking_metrics import RATIO, Detection, Flags
from analysis.trajectory import Floats, as_table, numbers
from toolkit.colors import BLUE, OKABE_ITO, ORANGE
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
    hits = np.cumsum(hit[order])[ends]
    flagged = ends + 1
    if len(ends) > _POINTS:
        keep = np.unique(np.linspace(0, len(ends) - 1, _POINTS).astype(int))
        hits, flagged = hits[keep], flagged[keep]
    total = int(hit.sum())
    columns = [
        np.full(len(hits), name),
        flagged / len(hit),
        (flagged - hits) / (len(hit) - total),
        hits / total,
        hits / flagged,
    ]
    return as_table(CURVES, columns)


def roc_figure(
    frame: Any,
    names: Mapping[str, str] | None = None,
    *,
    score: str | Sequence[str] = (),
    flipped: str = "",
) -> go.Figure:
    """Recall against false positives. The diagonal is guessing.

    `frame`: of `curves_table`; or one row per pair, with a column or several of scores (high =
    suspicious) and one that says which labels are flipped. `names`: score's name -> its legend.
    """
    table = _curves(as_arrow(frame), score, flipped)
    figure = _lines(table, "false_positives", names, start=(0.0, 0.0))
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": INK, "dash": "dash", "width": 1.5},
        hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    figure.update_xaxes(title="share of the other pairs flagged", range=[0, 1])
    figure.update_yaxes(title="share of the flips found", range=[0, 1.01])
    return look(figure, height=420)


def precision_recall_figure(
    frame: Any,
    base_rate: float | None = None,
    names: Mapping[str, str] | None = None,
    *,
    score: str | Sequence[str] = (),
    flipped: str = "",
) -> go.Figure:
    """Precision against recall, arguments as of `roc_figure`. Dashed is guessing, the base rate."""
    whole = as_arrow(frame)
    table = _curves(whole, score, flipped)
    if base_rate is None and flipped:
        base_rate = float(numbers(whole[flipped].cast(pa.int8())).mean())
    figure = _lines(table, "recall", names, up="precision")
    if base_rate is not None:
        line(figure, y=base_rate, text=f"guessing<br>{base_rate:.1%}")
    figure.update_xaxes(title="share of the flips found", range=[0, 1])
    figure.update_yaxes(title="share of flips among the flagged", range=[0, 1.01])
    return look(figure, height=420)


def _curves(table: pa.Table, score: str | Sequence[str], flipped: str) -> pa.Table:
    if not flipped:
        return as_arrow(table, *CURVES.names)
    listed = [score] if isinstance(score, str) else list(score)
    table = as_arrow(table, flipped, *listed)
    hit = numbers(table[flipped].cast(pa.int8())) == 1
    return curves_table({name: numbers(table[name]) for name in listed}, hit)


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


def calibration_figure(calibration: Calibration) -> go.Figure:
    """Probability of a planted flip by score: the isotonic curve; `calibration`: of `calibrate`."""
    figure = go.Figure(
        go.Scatter(
            x=calibration.score,
            y=calibration.probability,
            mode="lines",
            line={"color": BLUE, "width": 2},
            hovertemplate="score %{x:.3g}: %{y:.1%}<extra></extra>",
        )
    )
    figure.update_xaxes(title=f"score of {calibration.detector}")
    figure.update_yaxes(title="probability of a planted flip", tickformat=".0%", rangemode="tozero")
    return look(figure, height=320, showlegend=False)


def reliability_figure(bins: list[Bin]) -> go.Figure:
    """Share flipped by people against the calibrated probability, with Wilson's intervals."""
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", name="as calibrated", hoverinfo="skip",
        line={"color": INK, "dash": "dash", "width": 1.5},
    )  # fmt: skip
    figure.add_scatter(
        x=[part.expected for part in bins],
        y=[part.share for part in bins],
        mode="markers",
        name="people",
        marker={"color": BLUE, "size": 10},
        customdata=[part.count for part in bins],
        error_y={
            "type": "data",
            "array": [part.high - part.share for part in bins],
            "arrayminus": [part.share - part.low for part in bins],
            **WHISKER,
        },
        hovertemplate="calibrated %{x:.0%}, people %{y:.0%} of %{customdata}<extra></extra>",
    )
    figure.update_xaxes(title="calibrated probability of a flip", range=[0, 1], tickformat=".0%")
    figure.update_yaxes(title="share flipped by people", range=[0, 1], tickformat=".0%")
    return look(figure, height=340)


SHARES = pa.schema(
    [
        column("rate", pa.float64(), "share of all labels that are flipped"),
        column("minority", pa.float64(), "share of labels that are then against the majority"),
        column("majority", pa.float64(), "share that are with it"),
        column("expected", pa.float64(), "m + r (1 - 2m): the minority share to be expected"),
    ]
)


def flipped_ratio_figure(frame: Any, score: str = "minority score u") -> go.Figure:
    """Share of planted flips by score bin with 95 % intervals (Figure 3 of 2503.16921).

    `frame`: of `flipped_ratio_table`. Counts are above the bars, the base rate is dashed.
    """
    table = as_arrow(frame, *RATIO.names)
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

    A share `minority` of the labels is against the majority; a flip turns a label of either
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


def flip_shares_figure(frame: Any) -> go.Figure:
    """Majority and minority share by flip ratio (Figure 2 of arXiv 2503.16921).

    `frame`: of `flip_shares_table`. Dots are drawn at random, lines are the closed form.
    """
    table = as_arrow(frame, *SHARES.names)
    rate, minority, majority, expected = (
        np.asarray(table[name].to_pylist(), float) for name in SHARES.names
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
