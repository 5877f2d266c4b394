"""What is known of a pair, as HTML: chips, its curve, and the words of its label."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from app.desk.components import text
from app.desk.image_cache import ShownImage
from toolkit.colors import VERDICT_COLOURS, VERMILION, Ground, accent, hairline, muted
from toolkit.preference import lean
from toolkit.store.queue.tables import ORDERS, SYMBOLS, Visit

_SMALL_SIDE = 128
"""Images of at most so many pixels are enlarged with hard edges, so that each pixel shows."""


def marks(label: float | None) -> tuple[str, str]:
    """The words for image_0 and image_1 under a label."""
    if label is None:
        return "no label", "no label"
    words = {1: ("chosen", "rejected"), -1: ("rejected", "chosen"), 0: ("tie", "tie")}
    return words[int(lean(label))]


def image_tag(image: ShownImage, alt: str) -> str:
    """An <img>; a small image has hard edges."""
    extra = ' class="pixel"' if max(image.width, image.height) <= _SMALL_SIDE else ""
    return f'<img src="{image.source}" alt="{text.escape(alt)}"{extra}>'


_MEANING = {
    "minority": "minority: s times c",
    "confidence": "confidence: large if the model doubts the label",
    "stability": "stability: large if the model and its footprints differ",
}


BLIND_CHIPS = (
    '<span class="desk-chip given"><b>blind</b></span><span class="desk-quiet">label, scores and '
    "verdicts are hidden, and the sides are shuffled; your answer becomes keep or flip "
    "afterwards</span>"
)
"""What replaces the chips while the curator judges blind."""


def chips(
    pair: Mapping[str, Any],
    agreement: Mapping[str, Any],
    verdicts: Mapping[str, str],
    curator: str,
    curve: str,
) -> str:
    """Everything known about a pair, as HTML.

    `pair`: as in `tables.card`; `agreement`: its columns of the finding agreement; `verdicts`:
    curator -> verdict; `curve`: as `ell_curve` returns it.
    """
    shown = _score_chips(pair)
    if agreement.get("agreement.votes"):
        scorers = int(agreement["agreement.votes"])
        agreeing = scorers - int(agreement["agreement.against"])
        shown.append(_chip("", f"{agreeing} of {scorers}", "scorers agree"))
    shown += _vote_chips(pair)
    shown += _verdict_chips(verdicts, curator, differ=bool(pair["differ"]))
    return "".join(shown) + curve


def verdict_chip(verdict: str, note: str = "") -> str:
    """A verdict with its colour, as HTML."""
    more = f"<i>{note}</i>" if note else ""
    return (
        f'<span class="desk-chip"><span class="desk-dot" style="background: '
        f'{VERDICT_COLOURS[verdict]}"></span><b>{text.escape(verdict)}</b>{more}</span>'
    )


def _score_chips(pair: Mapping[str, Any]) -> list[str]:
    if pair["visits"] is None and all(pair[name] is None for name in ORDERS):
        return []
    chips = []
    for name in ORDERS:
        lower = pair["lower"][name]
        rank = "not known" if lower is None else ordinal(lower)
        if lower is not None and name == "minority":
            rank += " percentile"
        title = f"{_MEANING[name]}; then its percentile among all pairs"
        chips.append(_chip(SYMBOLS[name], text.number(pair[name]), rank, title))
    return chips


def ordinal(share: float) -> str:
    """A share from 0 to 1 as a percentile in words: .987 is the 98th."""
    rank = int(100 * share)
    ending = (
        "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    )
    return f"{rank}{ending}"


def _vote_chips(pair: Mapping[str, Any]) -> list[str]:
    votes = pair["votes"]
    names = [vote["annotator"] for vote in votes if vote["annotator"]]
    decided = [vote["choice"] for vote in votes if vote["choice"] is not None]
    chips = []
    if names:
        word = "annotator" if len(names) == 1 else "annotators"
        chips.append(_chip(word, ", ".join(names[:2]) + (" ..." if len(names) > 2 else "")))
    if len(decided) > 1:
        agreeing = sum(choice == pair["label"] for choice in decided)
        chips.append(_chip("", f"{agreeing} of {len(decided)}", "votes agree"))
    return chips


def _verdict_chips(verdicts: Mapping[str, str], curator: str, *, differ: bool) -> list[str]:
    chips = [
        _chip("verdict" if name == curator else name, verdict, given=True)
        for name, verdict in sorted(verdicts.items(), key=lambda item: item[0] != curator)
    ]
    if differ:
        chips.append(_chip("≠", "curators differ", title="their verdicts are not the same"))
    return chips


def _chip(name: str, value: str, more: str = "", title: str = "", *, given: bool = False) -> str:
    kind = "desk-chip given" if given else "desk-chip"
    head = f"<i>{text.escape(name)}</i>" if name else ""
    tail = f"<i>{text.escape(more)}</i>" if more else ""
    return (
        f'<span class="{kind}" title="{text.escape(title)}">{head}<b>{text.escape(value)}</b>'
        f"{tail}</span>"
    )


_NO_CURVE = {
    "loading": "the visits of the run are being read; the next pairs will have their curve",
    "too large": "the trajectory is too large to keep in memory; the page Pair draws this pair's",
    "failed": "the visits of the run could not be read; the terminal says why",
}


def ell_curve(visits: Sequence[Visit], state: str, ground: Ground) -> str:
    """ell of the pair by visit as a small chart, or why there is none; `state`: `Desk.series`."""
    if not visits:
        why = _NO_CURVE.get(state, "")
        return f'<span class="desk-quiet">{why}</span>' if why else ""
    count = f"{len(visits)} visits" if len(visits) != 1 else "1 visit"
    title = "above the line the model agrees with the label; the band spans its footprints"
    return (
        f'<span class="desk-spark" title="{title}"><span class="desk-quiet">ell over {count}'
        f'</span><img src="{_sparkline(visits, ground)}" alt="ell by visit; {title}"></span>'
    )


_WIDE, _TALL, _EDGE = 190.0, 34.0, 4.0


def _sparkline(visits: Sequence[Visit], ground: Ground) -> str:
    """A data URL of an SVG. The horizontal line is ell = 0; the band spans the policy and its
    footprints; a visit below the line has a hollow mark."""
    colour = accent(ground)
    most = max(max(abs(visit.low), abs(visit.high), abs(visit.ell)) for visit in visits) or 1.0
    first, last = visits[0].visit, visits[-1].visit
    span = max(last - first, 1)

    def x(visit: Visit) -> float:
        return _EDGE + (_WIDE - 2 * _EDGE) * (visit.visit - first) / span

    def y(ell: float) -> float:
        return _TALL / 2 - (_TALL / 2 - _EDGE) * ell / most

    upper = [f"{x(visit):.1f},{y(visit.high):.1f}" for visit in visits]
    lower = [f"{x(visit):.1f},{y(visit.low):.1f}" for visit in reversed(visits)]
    line = " ".join(f"{x(visit):.1f},{y(visit.ell):.1f}" for visit in visits)
    dots = "".join(
        f'<circle cx="{x(visit):.1f}" cy="{y(visit.ell):.1f}" r="2.2" stroke-width="1.2" '
        f'stroke="{colour if visit.ell > 0 else VERMILION}" '
        f'fill="{colour if visit.ell > 0 else "none"}"/>'
        for visit in visits
    )
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE:.0f} {_TALL:.0f}">'
        f'<polygon points="{" ".join(upper + lower)}" fill="{colour}" opacity="0.2"/>'
        f'<line x1="0" x2="{_WIDE}" y1="{_TALL / 2}" y2="{_TALL / 2}" '
        f'stroke="{hairline(ground)}"/>'
        f'<polyline points="{line}" fill="none" stroke="{muted(ground)}" stroke-width="1.3"/>'
        f"{dots}</svg>"
    )
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode()
