"""Small histograms: of a whole column in grey, of the view's pairs in the accent's colour."""

import base64
from typing import Any

import plotly.graph_objects as go

from app.desk.components.html_text import number
from toolkit.colors import Ground, accent, hairline, muted
from toolkit.store.queue.tables import Bins

_FAINT = 0.38
_WIDE, _TALL = 200.0, 34.0


def clickable(
    word: str, whole: Bins, shown: Bins, ground: Ground, *, height: int = 56, ticks: int = 0
) -> go.Figure:
    """Bars that Streamlit tells a click on: point_index is the bin's number in both traces."""
    n = len(whole.counts)
    width = (whole.highest - whole.lowest) / n
    edges = [(number(whole.edge(k)), number(whole.edge(k + 1))) for k in range(n)]
    figure = go.Figure(
        [
            go.Bar(
                x=[whole.edge(k) + width / 2 for k in range(n)],
                y=bins.counts,
                width=width * 0.86,
                marker={"color": colour, "opacity": opacity, "line": {"width": 0}},
                customdata=edges,
                hovertemplate=f"{word} %{{customdata[0]}} to %{{customdata[1]}}<br>"
                f"%{{y:,}} {said}<extra></extra>",
                # What is picked shows by colour; plotly's own fading would say it twice.
                selected={"marker": {"opacity": opacity}},
                unselected={"marker": {"opacity": opacity}},
            )
            for bins, colour, opacity, said in (
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
    """Number of the bar that a selection event names, or None where nothing is selected."""
    points = (event or {}).get("selection", {}).get("points", [])
    return int(points[0]["point_index"]) if points else None


def drawing(whole: Bins, shown: Bins, ground: Ground) -> str:
    """The same as a picture that costs no script: a data address of an SVG."""
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
    drawn = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE:.0f} {_TALL:.0f}"'
        f' preserveAspectRatio="none">{bars}<line x1="0" x2="{_WIDE}" y1="{_TALL}" y2="{_TALL}"'
        f' stroke="{hairline(ground)}"/></svg>'
    )
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode()
