"""Images at the size at which a page shows them, or the reason why there is none.

Each is decoded once, within the limits of `toolkit.image_files`.
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

from app.desk.queries.connection import PATH_HASH, Stamp, stamp
from toolkit.errors import InputError, OutvotedError
from toolkit.image_files import THUMBNAIL_SIDE, decode
from toolkit.store import Store
from toolkit.store.images import ImageReader

CARD_SIDE = 896
"""Longest side on a pair's card, in pixels: 450 on a screen of double density."""
_BROWSER_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_KEPT_BYTES = 96_000_000


@dataclass(frozen=True)
class ShownImage:
    """An image for the page, or the reason why there is none."""

    data: bytes = b""
    mime: str = ""
    width: int = 0
    """Of the original, in pixels."""
    height: int = 0
    problem: str = ""

    @property
    def source(self) -> str:
        """A data URL for an <img>."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode()}"


class _Cache:
    """Image readers and their results, behind a lock: sessions share them, and they are not
    thread-safe."""

    def __init__(self, store: Store) -> None:
        self._lock = threading.Lock()
        self._small = ImageReader(store, "thumbnails")
        self._full = ImageReader(store)
        self._images: OrderedDict[tuple[str, int], ShownImage] = OrderedDict()
        self._bytes = 0

    def get(self, image_id: str, side: int) -> ShownImage:
        key = (image_id, side)
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
        image = self._make(image_id, side)
        with self._lock:
            if key not in self._images:
                self._images[key] = image
                self._bytes += len(image.data)
            while self._bytes > _KEPT_BYTES:
                self._bytes -= len(self._images.popitem(last=False)[1].data)
        return image

    def _make(self, image_id: str, side: int) -> ShownImage:
        try:
            with self._lock:
                small = side <= THUMBNAIL_SIDE and image_id in self._small
                data = (self._small if small else self._full).read(image_id)
            return resized(data, side)
        except InputError as problem:
            return ShownImage(problem=str(problem))
        except (OutvotedError, OSError, ValueError) as problem:
            return ShownImage(problem=f"the image cannot be read ({problem})")


def resized(data: bytes, side: int) -> ShownImage:
    """The image, at most `side` pixels long; unchanged if it already fits and a browser shows it.

    InputError (one clause) if it cannot be decoded or is too large.
    """
    decoded = decode(data)
    width, height = decoded.image.size
    if max(width, height) <= side and decoded.format in _BROWSER_FORMATS:
        return ShownImage(data, _BROWSER_FORMATS[decoded.format], width, height)
    if max(width, height) <= side:
        return ShownImage(_encoded(decoded.image, "PNG"), "image/png", width, height)
    decoded.image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return ShownImage(_encoded(decoded.image, "JPEG", quality=88), "image/jpeg", width, height)


def _encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


@st.cache_resource(show_spinner=False, max_entries=2, hash_funcs=PATH_HASH)
def _cache(root: Path, stamp: Stamp) -> _Cache:  # noqa: ARG001
    return _Cache(Store(root))


def _cache_of(store: Store) -> _Cache:
    return _cache(store.root, stamp(store, ("images", "thumbnails")))


def thumbnails(
    store: Store, image_ids: Sequence[str | None], side: int = THUMBNAIL_SIDE
) -> dict[str | None, ShownImage]:
    """Images by id, each at most `side` pixels long. Never raises for a bad one."""
    try:
        cache = _cache_of(store)
    except (OutvotedError, OSError, ValueError) as problem:
        reason = ShownImage(problem=f"the store's images cannot be read ({problem})")
        return dict.fromkeys(image_ids, reason)
    missing = ShownImage(problem="the pair names no image here")
    return {
        image_id: cache.get(image_id, side) if image_id else missing
        for image_id in dict.fromkeys(image_ids)
    }
