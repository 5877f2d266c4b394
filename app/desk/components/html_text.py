"""Text from the data as HTML that shows it and nothing else, and numbers as people read them."""

import html
import math


def literal(text: str) -> str:
    """Escaped so that any text stands on the page exactly as it is, on one line of source."""
    return html.escape(text, quote=True).replace("\r", "").replace("\n", "&#10;")


def number(value: float | None) -> str:
    """Three significant digits; a dash where the value is not known."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.3g}"


def share(part: float) -> str:
    """A share of 0 to 1 as per cent, with one digit near the ends."""
    percent = 100 * part
    return f"{percent:.1f} %" if percent < 1 or percent > 99 else f"{percent:.0f} %"
