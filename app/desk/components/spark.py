"""A small line of ell by visit, as an image that needs no script."""

import base64

from toolkit.palette import Ground, hairline, muted
from toolkit.store.desk import Visit

_WIDE, _TALL, _EDGE = 190.0, 34.0, 4.0


def sparkline(visits: list[Visit], ground: str, accent: str) -> str:
    """A data address of an SVG, or "" for no points. The line across is ell = 0."""
    points = [(one.visit, one.ell) for one in visits]
    if not points:
        return ""
    side: Ground = "dark" if ground == "dark" else "light"
    most = max(abs(ell) for _, ell in points) or 1.0
    first, last = points[0][0], points[-1][0]
    span = max(last - first, 1)

    def spot(visit: int, ell: float) -> tuple[float, float]:
        x = _EDGE + (_WIDE - 2 * _EDGE) * (visit - first) / span
        return x, _TALL / 2 - (_TALL / 2 - _EDGE) * ell / most

    spots = [spot(visit, ell) for visit, ell in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{accent if ell > 0 else "#D55E00"}"/>'
        for (x, y), (_, ell) in zip(spots, points, strict=True)
    )
    drawn = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE:.0f} {_TALL:.0f}">'
        f'<line x1="0" x2="{_WIDE}" y1="{_TALL / 2}" y2="{_TALL / 2}" stroke="{hairline(side)}"/>'
        f'<polyline points="{line}" fill="none" stroke="{muted(side)}" stroke-width="1.3"/>'
        f"{dots}</svg>"
    )
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode()
