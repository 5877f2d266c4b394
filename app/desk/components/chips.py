"""The row of chips below the images: scores with their rank, voices, verdicts, ell over visits."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app.desk.components.html_text import literal, number
from app.desk.components.sparkline import sparkline
from toolkit.store.queue.ell_series import Visit
from toolkit.store.queue.tables import ORDERS, SYMBOLS

_MEANING = {
    "minority": "minority: s times c",
    "confidence": "confidence: large where the model doubts the label",
    "stability": "stability: large where the model and its footprints differ",
}


def blind() -> None:
    """What stands there instead while the curator judges blind."""
    st.html(
        '<div class="desk-chips"><span class="desk-chip given"><b>blind</b></span>'
        '<span class="desk-quiet">label, scores and verdicts are hidden, and the sides are drawn '
        "by lot; your answer becomes keep or flip afterwards</span></div>"
    )


def all_of(
    pair: Mapping[str, Any],
    voices: Mapping[str, Any],
    verdicts: Mapping[str, str],
    curator: str,
    curve: str,
) -> None:
    """Everything known of a pair. `pair` as of `desk.card`; `verdicts`: curator -> word."""
    shown = _scores(pair)
    if voices.get("agreement.voices"):
        of = int(voices["agreement.voices"])
        agreeing = of - int(voices["agreement.against"])
        shown.append(_chip("", f"{agreeing} of {of}", "scorers agree"))
    shown += _votes(pair)
    shown += _verdicts(verdicts, curator, differ=bool(pair["differ"]))
    st.html(f'<div class="desk-chips">{"".join(shown)}{curve}</div>')


def curve(visits: Sequence[Visit], state: str, ground: str, accent: str) -> str:
    """The pair's visits as a small chart, or why there is none. `state` as of `Desk.curves`."""
    spark = sparkline(visits, ground, accent)
    if not spark:
        why = {
            "coming": "the run's visits are being read; coming pairs have their curve",
            "large": "the run's record is too large to hold here; the page Pair draws this pair's",
            "absent": "the run's visits could not be read; the terminal says why",
        }.get(state, "")
        return f'<span class="desk-quiet">{why}</span>' if why else ""
    about = f"{len(visits)} visits" if len(visits) != 1 else "1 visit"
    title = "above the line the model agrees with the label; the band spans its footprints"
    return (
        f'<span class="desk-spark" title="{title}"><span class="desk-quiet">ell over {about}'
        f'</span><img src="{spark}" alt="ell by visit; {title}"></span>'
    )


def ordinal(share: float) -> str:
    """A share of 0 to 1 as a percentile in words: .987 is the 98th."""
    rank = int(100 * share)
    ending = (
        "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    )
    return f"{rank}{ending}"


def _scores(pair: Mapping[str, Any]) -> list[str]:
    if pair["visits"] is None and all(pair[name] is None for name in ORDERS):
        return []
    found = []
    for name in ORDERS:
        lower = pair["lower"][name]
        rank = "not known" if lower is None else ordinal(lower)
        if lower is not None and name == "minority":
            rank += " percentile"
        about = f"{_MEANING[name]}; its percentile among all pairs follows"
        found.append(_chip(SYMBOLS[name], number(pair[name]), rank, about))
    return found


def _votes(pair: Mapping[str, Any]) -> list[str]:
    votes = pair["votes"]
    names = [vote["annotator"] for vote in votes if vote["annotator"]]
    decided = [vote["choice"] for vote in votes if vote["choice"] is not None]
    found = []
    if names:
        word = "annotator" if len(names) == 1 else "annotators"
        found.append(_chip(word, ", ".join(names[:2]) + (" ..." if len(names) > 2 else "")))
    if len(decided) > 1:
        agreeing = sum(choice == pair["label"] for choice in decided)
        found.append(_chip("", f"{agreeing} of {len(decided)}", "votes agree"))
    return found


def _verdicts(verdicts: Mapping[str, str], curator: str, *, differ: bool) -> list[str]:
    found = [
        _chip("verdict" if who == curator else who, word, given=True)
        for who, word in sorted(verdicts.items(), key=lambda one: one[0] != curator)
    ]
    if differ:
        found.append(_chip("≠", "curators differ", title="their verdicts are not the same"))
    return found


def _chip(name: str, value: str, more: str = "", title: str = "", *, given: bool = False) -> str:
    kind = "desk-chip given" if given else "desk-chip"
    head = f"<i>{literal(name)}</i>" if name else ""
    tail = f"<i>{literal(more)}</i>" if more else ""
    return (
        f'<span class="{kind}" title="{literal(title)}">{head}<b>{literal(value)}</b>{tail}</span>'
    )
