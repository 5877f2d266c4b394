"""Images for the page at the size it shows them, or the reason why there is none.

Decoded once, under the limits of `toolkit.image_files`; the next pair is made ready while the
curator looks at this one.
"""

import base64
import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from PIL import Image

from app.desk.queries.connection import BY_ADDRESS
from toolkit.errors import InputError, OutvotedError
from toolkit.files.atomic import parts
from toolkit.image_files import THUMBNAIL_SIDE, decode
from toolkit.store import Store
from toolkit.store.images import ImageReader

CARD_SIDE = 896
"""Longest side on a pair's card, in pixels: a mount of 450 on a screen of double density."""
_WEB = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_KEPT_BYTES = 96_000_000


@dataclass(frozen=True)
class Picture:
    """An image ready for the page, or the reason why there is none."""

    data: bytes = b""
    mime: str = ""
    width: int = 0
    """Pixels of the original."""
    height: int = 0
    problem: str = ""

    @property
    def source(self) -> str:
        """A data address for an <img>."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode()}"


class _Pictures:
    """Readers and what they made, behind a lock: shared by sessions, and not thread-safe."""

    def __init__(self, store: Store) -> None:
        self._lock = threading.Lock()
        self._small = ImageReader(store, "thumbnails")
        self._full = ImageReader(store)
        self._made: OrderedDict[tuple[str, int], Picture] = OrderedDict()
        self._bytes = 0

    def get(self, image_id: str, side: int) -> Picture:
        key = (image_id, side)
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = self._make(image_id, side)
        with self._lock:
            if key not in self._made:
                self._made[key] = made
                self._bytes += len(made.data)
            while self._bytes > _KEPT_BYTES:
                self._bytes -= len(self._made.popitem(last=False)[1].data)
        return made

    def _make(self, image_id: str, side: int) -> Picture:
        try:
            with self._lock:
                small = side <= THUMBNAIL_SIDE and image_id in self._small
                data = (self._small if small else self._full).read(image_id)
            return shrunk(data, side)
        except InputError as problem:
            return Picture(problem=str(problem))
        except (OutvotedError, OSError, ValueError) as problem:
            return Picture(problem=f"the image cannot be read ({problem})")


def shrunk(data: bytes, side: int) -> Picture:
    """The image at `side` pixels at most; as it is where it is that small and a browser shows it.

    InputError (one clause) where it cannot be decoded or is too large.
    """
    decoded = decode(data)
    width, height = decoded.picture.size
    if max(width, height) <= side and decoded.format in _WEB:
        return Picture(data, _WEB[decoded.format], width, height)
    if max(width, height) <= side:
        return Picture(_encoded(decoded.picture, "PNG"), "image/png", width, height)
    decoded.picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return Picture(_encoded(decoded.picture, "JPEG", quality=88), "image/jpeg", width, height)


def _encoded(picture: Image.Image, kind: str, **how: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **how)
    return out.getvalue()


@st.cache_resource(show_spinner=False, max_entries=2, hash_funcs=BY_ADDRESS)
def _pictures(root: Path, stamp: tuple[str, ...]) -> _Pictures:  # noqa: ARG001
    return _Pictures(Store(root))


def _of(store: Store) -> _Pictures:
    names = [f.name for table in ("images", "thumbnails") for f in parts(store.folder(table))]
    return _pictures(store.root, tuple(names))


def picture(store: Store, image_id: str | None, side: int = CARD_SIDE) -> Picture:
    """One image at most `side` pixels long; never raises for a bad one."""
    return thumbnails(store, [image_id], side)[image_id]


def thumbnails(
    store: Store, image_ids: Sequence[str | None], side: int = THUMBNAIL_SIDE
) -> dict[str | None, Picture]:
    """Many images at once, by id: for a grid. Never raises for a bad one."""
    try:
        shelf = _of(store)
    except (OutvotedError, OSError, ValueError) as problem:
        reason = Picture(problem=f"the store's images cannot be read ({problem})")
        return dict.fromkeys(image_ids, reason)
    found: dict[str | None, Picture] = {}
    for image_id in dict.fromkeys(image_ids):
        found[image_id] = (
            shelf.get(image_id, side)
            if image_id
            else Picture(problem="the pair names no image here")
        )
    return found


def original(store: Store, image_id: str) -> Picture:
    """The image in its own size, whatever its format. Never raises for a bad one."""
    return picture(store, image_id, side=1 << 30)


def prefetch(store: Store, image_ids: Sequence[str | None]) -> None:
    """Make the cards of the next pair ready in the background."""
    wanted = [image_id for image_id in image_ids if image_id]
    try:
        shelf = _of(store)
    except (OutvotedError, OSError, ValueError):  # whoever shows the image says why
        return

    def work() -> None:
        for image_id in wanted:
            shelf.get(image_id, CARD_SIDE)

    threading.Thread(target=work, daemon=True).start()
