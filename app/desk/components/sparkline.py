"""A small line of ell by visit, as an image that needs no script."""

import base64
from collections.abc import Sequence

from toolkit.colors import VERMILION, Ground, hairline, muted
from toolkit.store.queue.ell_series import Visit

_WIDE, _TALL, _EDGE = 190.0, 34.0, 4.0


def sparkline(visits: Sequence[Visit], ground: str, accent: str) -> str:
    """A data address of an SVG, or "" for no visits. The line across is ell = 0.

    The band spans the policy and its footprints; a visit below the line has a hollow mark.
    """
    if not visits:
        return ""
    side: Ground = "dark" if ground == "dark" else "light"
    most = max(max(abs(one.low), abs(one.high), abs(one.ell)) for one in visits) or 1.0
    first, last = visits[0].visit, visits[-1].visit
    span = max(last - first, 1)

    def x(one: Visit) -> float:
        return _EDGE + (_WIDE - 2 * _EDGE) * (one.visit - first) / span

    def y(ell: float) -> float:
        return _TALL / 2 - (_TALL / 2 - _EDGE) * ell / most

    upper = [f"{x(one):.1f},{y(one.high):.1f}" for one in visits]
    lower = [f"{x(one):.1f},{y(one.low):.1f}" for one in reversed(visits)]
    line = " ".join(f"{x(one):.1f},{y(one.ell):.1f}" for one in visits)
    marks = "".join(
        f'<circle cx="{x(one):.1f}" cy="{y(one.ell):.1f}" r="2.2" stroke-width="1.2" '
        f'stroke="{accent if one.ell > 0 else VERMILION}" '
        f'fill="{accent if one.ell > 0 else "none"}"/>'
        for one in visits
    )
    drawn = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE:.0f} {_TALL:.0f}">'
        f'<polygon points="{" ".join(upper + lower)}" fill="{accent}" opacity="0.2"/>'
        f'<line x1="0" x2="{_WIDE}" y1="{_TALL / 2}" y2="{_TALL / 2}" stroke="{hairline(side)}"/>'
        f'<polyline points="{line}" fill="none" stroke="{muted(side)}" stroke-width="1.3"/>'
        f"{marks}</svg>"
    )
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode()
