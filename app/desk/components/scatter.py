"""The map's figures: pairs as dots or bins, and the bars of each side; and what was picked."""

import math
from typing import Any

import plotly.graph_objects as go

from app.desk.components.html_text import number
from toolkit.colors import BLUE, VERMILION, Ground, accent, hairline, ink, muted
from toolkit.store.queue.histograms import Map
from toolkit.store.queue.tables import Bins
from toolkit.store.queue.view import Range

Side = tuple[float | None, float | None]


def scatter(drawn: Map, x: Range, y: Range, ground: Ground) -> go.Figure:
    """Every pair a dot, or, where they are many, every bin a square as dark as it is full.

    The view's box is drawn as a frame.
    """
    figure = go.Figure()
    if drawn.dots is not None:
        _dots(figure, drawn, ground)
    else:
        _squares(figure, drawn, ground)
    if any(end is not None for one in (x, y) for end in (one.lowest, one.highest)):
        (left, right), (low, high) = (_ends(*pair) for pair in ((x, drawn.x), (y, drawn.y)))
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
    figure.update_xaxes(title=x.column, range=_padded(drawn.x), **axis)
    figure.update_yaxes(title=y.column, range=_padded(drawn.y), **axis)
    return figure


def _dots(figure: go.Figure, drawn: Map, ground: Ground) -> None:
    assert drawn.dots is not None
    rows = drawn.dots.to_pylist()
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
    judged = [row for row in rows if row["verdict"]]
    if judged:
        figure.add_scatter(
            x=[row["x"] for row in judged],
            y=[row["y"] for row in judged],
            mode="markers",
            name="with a verdict",
            hoverinfo="skip",
            marker={"symbol": "circle-open", "size": 12, "color": ink(ground), "line_width": 1.5},
        )


def _squares(figure: go.Figure, drawn: Map, ground: Ground) -> None:
    most = max(cell.pairs for cell in drawn.cells)
    full = [math.log1p(cell.pairs) / math.log1p(most) for cell in drawn.cells]
    ends = [
        [drawn.x.edge(c.x), drawn.x.edge(c.x + 1), drawn.y.edge(c.y), drawn.y.edge(c.y + 1)]
        for c in drawn.cells
    ]
    figure.add_scatter(
        x=[(left + right) / 2 for left, right, _, _ in ends],
        y=[(low + high) / 2 for _, _, low, high in ends],
        mode="markers",
        name="pairs in a bin: larger and darker, more",
        showlegend=True,
        customdata=[
            [cell.pairs, cell.changed, cell.judged, *end]
            for cell, end in zip(drawn.cells, ends, strict=True)
        ],
        marker={
            "symbol": "square", "color": BLUE if ground == "light" else accent(ground),
            "size": [4 + 7 * share for share in full],
            "opacity": [0.3 + 0.7 * share for share in full],
        },
        hovertemplate="%{customdata[0]:,} pairs, %{customdata[1]:,} with a changed label, "
        "%{customdata[2]:,} with a verdict<extra></extra>",
    )  # fmt: skip


def bars(bins: Bins, one: Range, ground: Ground, *, upright: bool) -> go.Figure:
    """A side's histogram; the bars within the view's range in the accent's colour."""
    count = len(bins.counts)
    low, high = _ends(one, bins)
    middle = [(bins.edge(k) + bins.edge(k + 1)) / 2 for k in range(count)]
    colours = [accent(ground) if low <= at <= high else muted(ground) for at in middle]
    ends = [[bins.edge(k), bins.edge(k + 1)] for k in range(count)]
    words = [f"{number(a)} to {number(b)}" for a, b in ends]
    across, up = (middle, list(bins.counts)) if upright else (list(bins.counts), middle)
    figure = go.Figure(
        go.Bar(
            x=across, y=up, orientation="v" if upright else "h", text=words, textposition="none",
            width=(bins.highest - bins.lowest) / count * 0.9, customdata=ends,
            marker={"color": colours, "line": {"width": 0}},
            hovertemplate=f"{one.column} %{{text}}<br>%{{{'y' if upright else 'x'}:,}} pairs"
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


def _ends(one: Range, bins: Bins) -> tuple[float, float]:
    low = bins.lowest if one.lowest is None else one.lowest
    return low, bins.highest if one.highest is None else one.highest


def picked_box(event: Any) -> tuple[Side, Side] | None:
    """(x ends, y ends) of a selection event: its box, or the clicked bin; None for neither."""
    selection = (event or {}).get("selection", {})
    for box in selection.get("box", []):
        (left, right), (low, high) = sorted(box["x"]), sorted(box["y"])
        return (float(left), float(right)), (float(low), float(high))
    for point in selection.get("points", []):
        held = point.get("customdata") or []
        if len(held) == 7:
            left, right, low, high = map(float, held[3:])
            return (left, right), (low, high)
    return None


def picked_pair(event: Any) -> str | None:
    """The pair_id of a clicked dot; None where a bin or nothing was clicked."""
    for point in (event or {}).get("selection", {}).get("points", []):
        held = point.get("customdata") or []
        if len(held) == 2:
            return str(held[0])
    return None


def picked_bar(event: Any) -> Side | None:
    """The ends of a clicked bar; None where nothing was clicked."""
    for point in (event or {}).get("selection", {}).get("points", []):
        held = point.get("customdata") or []
        if len(held) == 2:
            return float(held[0]), float(held[1])
    return None
