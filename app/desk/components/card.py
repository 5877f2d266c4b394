"""The prompt, the two images side by side, and the chips below them."""

from typing import Any

import streamlit as st

from app.desk.components.spark import sparkline
from app.desk.components.text import literal, number, share
from app.desk.pictures import Picture
from toolkit.store.desk import Visit

_LONG_PROMPT = 150
_SMALL_SIDE = 128
"""Images up to this many pixels are scaled up with hard edges: each pixel is a drawn thing."""


def prompt(text: str) -> None:
    """The prompt in large type, character by character as it is."""
    size = "desk-prompt long" if len(text) > _LONG_PROMPT else "desk-prompt"
    shown = literal(text) if text.strip() else "<i>(the prompt is empty)</i>"
    st.html(f'<div class="{size}" dir="auto"><span>{shown}</span></div>')


def marks(label: float | None) -> tuple[str, str]:
    """The word for image_0 and image_1 under a label; it is also the frame's kind."""
    if label == 1.0:
        return "chosen", "rejected"
    if label == 0.0:
        return "rejected", "chosen"
    return ("tie", "tie") if label == 0.5 else ("no label", "no label")


def images(pictures: tuple[Picture, Picture], label: float | None) -> None:
    """Both images on equal mounts; the label's choice has a frame and the word `chosen`."""
    cards = zip(("image_0", "image_1"), pictures, marks(label), strict=True)
    body = "".join(_card(slot, picture, word) for slot, picture, word in cards)
    st.html(f'<div class="desk-pair">{body}</div>')


def _card(slot: str, picture: Picture, word: str) -> str:
    kind = word if word in ("chosen", "tie") else "plain"
    return (
        f'<figure class="desk-card {kind}"><figcaption><span class="slot">{slot}</span>'
        f'<span class="word">{word}</span></figcaption>'
        f'<div class="desk-mount">{_shown(slot, picture)}</div></figure>'
    )


def _shown(slot: str, picture: Picture) -> str:
    if picture.problem:
        return (
            f'<div class="desk-missing"><b>{slot} cannot be shown</b>{literal(picture.problem)}; '
            "a verdict can be given all the same.</div>"
        )
    small = max(picture.width, picture.height) <= _SMALL_SIDE
    how = f' class="pixel" style="--tall: {picture.height}px"' if small else ""
    return f'<img src="{picture.source}" alt="{slot} of the pair"{how}>'


def chips(pair: dict[str, Any], ells: list[Visit], ground: str, accent: str) -> None:
    """Scores, visits, annotators and the standing verdict of a pair; `pair` as of `desk.card`."""
    lower = pair["lower"]["minority"]
    rank = f"higher than {share(lower)} of pairs" if lower is not None else "not known"
    shown = [
        _chip("u", number(pair["minority"]), rank, "minority: s times c"),
        _chip("c", number(pair["confidence"]), "", "confidence: large where the model doubts it"),
        _chip("s", number(pair["stability"]), "", "stability: large where the models disagree"),
        _chip("visits", str(pair["visits"] if pair["visits"] is not None else "–")),
    ]
    names = [vote["annotator"] for vote in pair["votes"] if vote["annotator"]]
    if names:
        word = "annotator" if len(names) == 1 else "annotators"
        shown.append(_chip(word, ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")))
    if pair["verdict"]:
        shown.append(_chip("verdict", pair["verdict"], given=True))
    spark = sparkline(ells, ground, accent)
    if spark:
        about = f"{len(ells)} visits" if len(ells) != 1 else "1 visit"
        title = "above the line the model agrees with the label"
        shown.append(
            f'<span class="desk-spark" title="{title}"><span class="desk-quiet">ell over {about}'
            f'</span><img src="{spark}" alt="ell by visit; {title}"></span>'
        )
    st.html(f'<div class="desk-chips">{"".join(shown)}</div>')


def _chip(name: str, value: str, more: str = "", title: str = "", *, given: bool = False) -> str:
    kind = "desk-chip given" if given else "desk-chip"
    tail = f"<i>{literal(more)}</i>" if more else ""
    return (
        f'<span class="{kind}" title="{literal(title)}"><i>{name}</i>'
        f"<b>{literal(value)}</b>{tail}</span>"
    )
