"""The prompt and the two images side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app.desk.components.html_text import literal
from app.desk.image_cache import Picture

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


def images(
    pictures: tuple[Picture, Picture],
    sides: tuple[str, str],
    pair: Mapping[str, Any],
    *,
    blind: bool = False,
    blurred: bool = False,
) -> None:
    """Both images on equal mounts, `sides` from left to right.

    The label's choice has a frame and the word `chosen`; blind, neither has, nor a name.
    """
    marked = dict(zip(("image_0", "image_1"), marks(pair["label"]), strict=True))
    body = ""
    for place, side, picture in zip(("left", "right"), sides, pictures, strict=True):
        if blind:
            body += _card(place, "", "", picture, blurred=blurred)
        else:
            maker = str(pair.get(side.replace("image", "model")) or "")
            body += _card(side, maker, marked[side], picture, blurred=blurred)
    st.html(f'<div class="desk-pair">{body}</div>')


def _card(slot: str, maker: str, word: str, picture: Picture, *, blurred: bool) -> str:
    kind = word if word in ("chosen", "tie") else "plain"
    hidden = " blurred" if blurred else ""
    return (
        f'<figure class="desk-card {kind}{hidden}"><figcaption><span class="slot">{slot}</span>'
        f'<span class="maker">{literal(maker)}</span><span class="word">{word}</span></figcaption>'
        f'<div class="desk-mount">{_shown(slot, picture)}{_CURTAIN if blurred else ""}</div>'
        "</figure>"
    )


_CURTAIN = '<span class="desk-curtain">The source marks this pair as unsafe; X uncovers it.</span>'


def _shown(slot: str, picture: Picture) -> str:
    if picture.problem:
        return (
            f'<div class="desk-missing"><b>{slot} cannot be shown</b>{literal(picture.problem)}; '
            "a verdict can be given all the same.</div>"
        )
    small = max(picture.width, picture.height) <= _SMALL_SIDE
    how = f' class="pixel" style="--tall: {picture.height}px"' if small else ""
    return f'<img src="{picture.source}" alt="{slot} of the pair"{how}>'


def zoomed(pictures: Sequence[tuple[str, Picture]]) -> None:
    """Images in their own size, names and all; a click goes from the whole to its pixels."""
    body = "".join(
        f"<figure><figcaption>{name} · {picture.width} x {picture.height}</figcaption>"
        f'<div class="desk-own">{_shown(name, picture)}</div></figure>'
        for name, picture in pictures
    )
    st.html(f'<div class="desk-zoom">{body}</div>')
