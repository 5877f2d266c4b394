"""The shared look of all figures, and saving them as PNG and SVG.

The ground is transparent and the ink is readable on white and on black; a page that knows its theme
may set `layout.font.color`. Colours are Okabe and Ito's, which colour-blind readers can separate,
and no figure separates things by colour alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from toolkit.colors import BLUE
from toolkit.errors import InputError

INK = "#7d8590"
GRID = "rgba(128, 136, 146, 0.22)"
WHISKER = {"color": BLUE, "thickness": 2, "width": 5}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


def faint(colour: str, share: float = 0.18) -> str:
    """A #rrggbb colour let through to a share."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {share})"


def flat(colour: str) -> dict[str, Any]:
    """Bars so faint that marks and whiskers on them are readable."""
    return {"color": faint(colour, 0.38), "line": {"width": 0}}


def line(figure: go.Figure, y: float, text: str) -> None:
    """A dashed level, named in the right margin, where there are no marks."""
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


FORMATS = ("png", "svg")
WIDTH = 900
"""Pixels; a PNG has twice as many."""


def save_figures(
    figures: Mapping[str, go.Figure], folder: str | Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write FOLDER/NAME.png and NAME.svg of every figure; the paths written.

    InputError for a format that is none of FORMATS, where kaleido finds no Chrome or Chromium, or
    where the folder cannot be written.
    """
    odd = [name for name in formats if name not in FORMATS]
    if odd:
        raise InputError(f"A figure is saved as {' or '.join(FORMATS)}, not {odd[0]!r}.")
    try:
        import kaleido
        from choreographer.browsers.chromium import ChromeNotFoundError
    except ModuleNotFoundError as problem:
        raise InputError(
            "Saving figures needs the package kaleido, which is not installed; type "
            "`pip install 'outvoted[analyze]'`."
        ) from problem
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(
            f"Figures could not be written to {place} ({problem.strerror}); name a folder you may "
            "write."
        ) from problem
    wanted = [
        (figure, place / f"{name}.{kind}", kind)
        for name, figure in figures.items()
        for kind in formats
    ]
    try:
        kaleido.write_fig_from_object_sync(
            [{"fig": f, "path": str(path), "opts": _options(f, kind)} for f, path, kind in wanted],
            # Without MathJax, which would be fetched from the network.
            kopts={"n": 1, "page_generator": kaleido.PageGenerator(mathjax=False)},
        )
    except ChromeNotFoundError as problem:
        raise InputError(
            "Saving figures as PNG or SVG needs Chrome or Chromium, and none was found; on Debian "
            "or Ubuntu type `apt-get install chromium`, or set BROWSER_PATH to the program."
        ) from problem
    return [path for _, path, _ in wanted]


def _options(figure: go.Figure, kind: str) -> dict[str, object]:
    size = {"width": WIDTH, "height": figure.layout.height or 400}
    return {"format": kind, "scale": 2 if kind == "png" else 1, **size}
