"""The one look of all figures: transparent ground, an ink that reads on white and on black.

A figure needs no theme; a page that knows its theme may set `layout.font.color`. Colours are Okabe
and Ito's, which differ for colour-blind readers too, and no figure tells things apart by colour
alone.
"""

from typing import Any

import plotly.graph_objects as go

from toolkit.palette import BLUE

INK = "#7d8590"
GRID = "rgba(128, 136, 146, 0.22)"
WHISKER = {"color": BLUE, "thickness": 2, "width": 5}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


def faint(colour: str, share: float = 0.18) -> str:
    """A #rrggbb colour let through to a share."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {share})"


def flat(colour: str) -> dict[str, Any]:
    """Bars so faint that marks and whiskers on them read."""
    return {"color": faint(colour, 0.38), "line": {"width": 0}}


def line(figure: go.Figure, y: float, text: str) -> None:
    """A dashed level, named in the right margin where no mark can lie."""
    figure.add_hline(y=y, line={"color": INK, "dash": "dash", "width": 1.5})
    figure.add_annotation(
        x=1.008,
        xref="paper",
        y=y,
        text=text,
        showarrow=False,
        xanchor="left",
        align="left",
        font={"size": 12},
    )


def look(figure: go.Figure, *, height: int, **more: Any) -> go.Figure:
    """The figure in the shared look."""
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "automargin": True}
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13, "color": INK},
        margin={"l": 64, "r": 84, "t": 34, "b": 48},
        height=height,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"font": {"family": FONT}},
        **more,
    )
    figure.update_xaxes(title_standoff=14, **axis)
    figure.update_yaxes(title_standoff=14, **axis)
    return figure
