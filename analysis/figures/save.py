"""Figures as PNG and SVG files, drawn by a browser that shows no window."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go

from toolkit.errors import InputError

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
