"""The charts of the desk: histograms that can be clicked, and the map.

They need only plotly. All other figures come from `analysis.figures`, and `show_figure` shows them.
"""

import base64
import json
import math
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app.desk.components import text
from toolkit.colors import (
    BLUE,
    SKY,
    VERMILION,
    Ground,
    accent,
    hairline,
    ink,
    muted,
)
from toolkit.store.queue.histograms import Bins, Map
from toolkit.store.queue.views import Range

CALM = {"displayModeBar": False, "doubleClick": False}
"""Plotly's settings for a chart that is clicked: no buttons, no zoom by double click."""


def show_figure(
    figure: go.Figure, ground: Ground, *, alt: str, height: int = 340, key: str | None = None
) -> None:
    """A figure of `analysis.figures`, with words that can be read on a light or dark page."""
    if ground == "dark":
        figure = go.Figure(json.loads(_sky_for_blue(figure.to_json())))
    font = {"color": ink(ground), "family": "Source Sans, sans-serif"}
    figure.update_layout(font=font, height=height)
    st.plotly_chart(figure, theme=None, key=key, config={"displayModeBar": False}, alt=alt)


def _sky_for_blue(figure: str) -> str:
    """The palette's blue is too dark for a dark page; sky blue replaces it there."""
    parts = [", ".join(str(int(tone[at : at + 2], 16)) for at in (1, 3, 5)) for tone in (BLUE, SKY)]
    return figure.replace(BLUE, SKY).replace(f"rgba({parts[0]}", f"rgba({parts[1]}")


_FAINT = 0.38
_WIDE, _TALL = 200.0, 34.0


def histogram(
    word: str, whole: Bins, shown: Bins, ground: Ground, *, height: int = 56, ticks: int = 0
) -> go.Figure:
    """Bars that can be clicked: the whole column in grey, the view's pairs in the accent's colour.

    `point_index` of a selection event is the number of the bin, in both traces.
    """
    n = len(whole.counts)
    width = (whole.highest - whole.lowest) / n
    edges = [(text.number(whole.edge(k)), text.number(whole.edge(k + 1))) for k in range(n)]
    figure = go.Figure(
        [
            go.Bar(
                x=[whole.edge(k) + width / 2 for k in range(n)],
                y=bins.counts,
                width=width * 0.86,
                marker={"color": colour, "opacity": opacity, "line": {"width": 0}},
                customdata=edges,
                hovertemplate=f"{word} %{{customdata[0]}} to %{{customdata[1]}}<br>"
                f"%{{y:,}} {unit}<extra></extra>",
                # Colour shows what is selected; plotly's own fading would show it again.
                selected={"marker": {"opacity": opacity}},
                unselected={"marker": {"opacity": opacity}},
            )
            for bins, colour, opacity, unit in (
                (whole, muted(ground), _FAINT, "pairs"),
                (shown, accent(ground), 1.0, "pairs in this view"),
            )
        ]
    )
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 2, "b": 24 if ticks else 2},
        barmode="overlay",
        bargap=0,
        dragmode=False,
        showlegend=False,
        clickmode="event+select",
    )
    figure.update_xaxes(
        range=[whole.lowest, whole.highest],
        showgrid=False,
        zeroline=False,
        showline=True,
        linecolor=hairline(ground),
        title=None,
        nticks=ticks,
        showticklabels=ticks > 0,
        fixedrange=True,
        tickfont={"size": 11},
    )
    figure.update_yaxes(visible=False, fixedrange=True)
    return figure


def picked_bin(event: Any) -> int | None:
    """The number of the bar of a selection event, or None if nothing is selected."""
    points = (event or {}).get("selection", {}).get("points", [])
    return int(points[0]["point_index"]) if points else None


def histogram_image(whole: Bins, shown: Bins, ground: Ground) -> str:
    """The same as an image that needs no script: a data URL of an SVG."""
    most, n = max(whole.counts) or 1, len(whole.counts)
    wide = _WIDE / n
    bars = "".join(
        f'<rect x="{k * wide:.2f}" width="{wide * 0.86:.2f}" y="{_TALL * (1 - count / most):.2f}"'
        f' height="{_TALL * count / most:.2f}" fill="{colour}" opacity="{opacity}"/>'
        for bins, colour, opacity in (
            (whole, muted(ground), _FAINT),
            (shown, accent(ground), 1),
        )
        for k, count in enumerate(bins.counts)
        if count
    )
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE:.0f} {_TALL:.0f}"'
        f' preserveAspectRatio="none">{bars}<line x1="0" x2="{_WIDE}" y1="{_TALL}" y2="{_TALL}"'
        f' stroke="{hairline(ground)}"/></svg>'
    )
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode()


Bounds = tuple[float | None, float | None]


def map_figure(points: Map, x: Range, y: Range, ground: Ground) -> go.Figure:
    """A dot for each pair, or, if there are many, a square for each bin, darker for more pairs.

    A frame shows the view's bounds.
    """
    figure = go.Figure()
    if points.dots is not None:
        _add_dots(figure, points, ground)
    else:
        _add_squares(figure, points, ground)
    if any(end is not None for side in (x, y) for end in (side.lowest, side.highest)):
        (left, right), (low, high) = (_ends(*pair) for pair in ((x, points.x), (y, points.y)))
        figure.add_shape(
            type="rect", x0=left, x1=right, y0=low, y1=high,
            line={"color": accent(ground), "width": 2.5},
        )  # fmt: skip
    figure.update_layout(
        template="none", height=470, margin={"l": 64, "r": 8, "t": 30, "b": 48}, dragmode="select",
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"color": ink(ground), "family": "Source Sans, sans-serif"},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        clickmode="event+select",
        newselection={"line": {"color": accent(ground)}},
    )  # fmt: skip
    axis = {"gridcolor": hairline(ground), "zeroline": False, "linecolor": hairline(ground)}
    figure.update_xaxes(title=x.column, range=_padded(points.x), **axis)
    figure.update_yaxes(title=y.column, range=_padded(points.y), **axis)
    return figure


def _add_dots(figure: go.Figure, points: Map, ground: Ground) -> None:
    assert points.dots is not None
    rows = points.dots.to_pylist()
    plain = accent(ground)
    looks = (
        ("label as the source gave it", False, plain, "circle", 6, 0.45),
        ("label changed in this set", True, VERMILION, "x", 7, 0.8),
    )
    for name, changed, colour, symbol, size, opacity in looks:
        mine = [row for row in rows if row["changed"] == changed]
        if not mine:
            continue
        figure.add_scatter(
            x=[row["x"] for row in mine],
            y=[row["y"] for row in mine],
            mode="markers",
            name=name,
            customdata=[[row["pair_id"], row["verdict"] or "no verdict"] for row in mine],
            marker={"color": colour, "symbol": symbol, "size": size, "opacity": opacity},
            hovertemplate="%{customdata[0]}, %{customdata[1]}: %{x:.3g}, %{y:.3g}<extra></extra>",
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": opacity}},
        )
    with_verdict = [row for row in rows if row["verdict"]]
    if with_verdict:
        figure.add_scatter(
            x=[row["x"] for row in with_verdict],
            y=[row["y"] for row in with_verdict],
            mode="markers",
            name="with a verdict",
            hoverinfo="skip",
            marker={"symbol": "circle-open", "size": 12, "color": ink(ground), "line_width": 1.5},
        )


def _add_squares(figure: go.Figure, points: Map, ground: Ground) -> None:
    most = max(cell.pairs for cell in points.cells)
    full = [math.log1p(cell.pairs) / math.log1p(most) for cell in points.cells]
    ends = [
        [points.x.edge(c.x), points.x.edge(c.x + 1), points.y.edge(c.y), points.y.edge(c.y + 1)]
        for c in points.cells
    ]
    figure.add_scatter(
        x=[(left + right) / 2 for left, right, _, _ in ends],
        y=[(low + high) / 2 for _, _, low, high in ends],
        mode="markers",
        name="pairs in a bin: larger and darker for more",
        showlegend=True,
        customdata=[
            [cell.pairs, cell.changed, cell.judged, *end]
            for cell, end in zip(points.cells, ends, strict=True)
        ],
        marker={
            "symbol": "square", "color": BLUE if ground == "light" else accent(ground),
            "size": [4 + 7 * share for share in full],
            "opacity": [0.3 + 0.7 * share for share in full],
        },
        hovertemplate="%{customdata[0]:,} pairs, %{customdata[1]:,} with a changed label, "
        "%{customdata[2]:,} with a verdict<extra></extra>",
    )  # fmt: skip


def side_histogram(bins: Bins, limits: Range, ground: Ground, *, upright: bool) -> go.Figure:
    """The histogram beside the map; bars within the view's range have the accent's colour."""
    count = len(bins.counts)
    low, high = _ends(limits, bins)
    middle = [(bins.edge(k) + bins.edge(k + 1)) / 2 for k in range(count)]
    colours = [accent(ground) if low <= at <= high else muted(ground) for at in middle]
    ends = [[bins.edge(k), bins.edge(k + 1)] for k in range(count)]
    words = [f"{text.number(a)} to {text.number(b)}" for a, b in ends]
    x, y = (middle, list(bins.counts)) if upright else (list(bins.counts), middle)
    figure = go.Figure(
        go.Bar(
            x=x, y=y, orientation="v" if upright else "h", text=words, textposition="none",
            width=(bins.highest - bins.lowest) / count * 0.9, customdata=ends,
            marker={"color": colours, "line": {"width": 0}},
            hovertemplate=f"{limits.column} %{{text}}<br>%{{{'y' if upright else 'x'}:,}} pairs"
            "<extra></extra>",
            selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}},
        )
    )  # fmt: skip
    margin = {"l": 64, "r": 8, "t": 4, "b": 4} if upright else {"l": 4, "r": 4, "t": 30, "b": 48}
    figure.update_layout(
        template="none", height=80 if upright else 470, margin=margin, dragmode=False,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", showlegend=False,
        clickmode="event+select",
    )  # fmt: skip
    shown = {"visible": False, "fixedrange": True}
    figure.update_xaxes(**shown, **({"range": _padded(bins)} if upright else {}))
    figure.update_yaxes(**shown, **({} if upright else {"range": _padded(bins)}))
    return figure


def _padded(bins: Bins) -> list[float]:
    edge = (bins.highest - bins.lowest) * 0.02
    return [bins.lowest - edge, bins.highest + edge]


def _ends(limits: Range, bins: Bins) -> tuple[float, float]:
    low = bins.lowest if limits.lowest is None else limits.lowest
    return low, bins.highest if limits.highest is None else limits.highest


def picked_box(event: Any) -> tuple[Bounds, Bounds] | None:
    """(x bounds, y bounds) of a selection event: its box, or the clicked bin; None for neither."""
    selection = (event or {}).get("selection", {})
    for box in selection.get("box", []):
        (left, right), (low, high) = sorted(box["x"]), sorted(box["y"])
        return (float(left), float(right)), (float(low), float(high))
    for point in selection.get("points", []):
        data = point.get("customdata") or []
        if len(data) == 7:
            left, right, low, high = map(float, data[3:])
            return (left, right), (low, high)
    return None


def picked_pair(event: Any) -> str | None:
    """The pair_id of a clicked dot; None if a bin or nothing was clicked."""
    for point in (event or {}).get("selection", {}).get("points", []):
        data = point.get("customdata") or []
        if len(data) == 2:
            return str(data[0])
    return None


def picked_bar(event: Any) -> Bounds | None:
    """The bounds of a clicked bar; None if nothing was clicked."""
    for point in (event or {}).get("selection", {}).get("points", []):
        data = point.get("customdata") or []
        if len(data) == 2:
            return float(data[0]), float(data[1])
    return None
