"""Figures of `analysis` on the desk's ground."""

import json

import plotly.graph_objects as go

from toolkit.colors import BLUE, SKY, Ground, ink


def on_ground(figure: go.Figure, ground: Ground, height: int = 340) -> go.Figure:
    """The figure with words that read on a light or dark page."""
    if ground == "dark":
        figure = go.Figure(json.loads(_sky_for_blue(figure.to_json())))
    font = {"color": ink(ground), "family": "Source Sans, sans-serif"}
    figure.update_layout(font=font, height=height)
    return figure


def _sky_for_blue(text: str) -> str:
    """The palette's blue is too dark for a dark page; sky blue stands in for it there."""
    parts = [", ".join(str(int(tone[at : at + 2], 16)) for at in (1, 3, 5)) for tone in (BLUE, SKY)]
    return text.replace(BLUE, SKY).replace(f"rgba({parts[0]}", f"rgba({parts[1]}")
