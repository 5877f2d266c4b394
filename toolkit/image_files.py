"""Decode untrusted images: size limits, every mode, one sentence when it fails."""

import hashlib
import io
import warnings
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from toolkit.errors import InputError

MAX_PIXELS = 50_000_000
"""More than this is refused before decoding: a small file can unpack to gigabytes."""

THUMBNAIL_SIDE = 320
"""Longest side of a thumbnail in pixels; a smaller original serves as its own."""


@dataclass(frozen=True)
class Decoded:
    """An image that decoded completely, as RGB."""

    image: Image.Image
    format: str
    content_hash: str


def content_hash(data: bytes) -> str:
    """sha256 of the encoded bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes | None) -> Decoded:
    """Decode the first frame to RGB (transparency on white). InputError says what is wrong."""
    if not data:
        raise InputError("the image has no bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, lower pixel limit; ours is checked next
            with Image.open(io.BytesIO(data)) as opened:
                width, height = opened.size
                if width * height > MAX_PIXELS:
                    raise InputError(
                        f"the image has {width} x {height} pixels, more than {MAX_PIXELS:,}"
                    )
                kind = opened.format or "?"
                image = _rgb(opened)
    except InputError:
        raise
    except UnidentifiedImageError as problem:  # its own words name a memory address
        raise InputError("the image cannot be decoded (not a known image format)") from problem
    except Exception as problem:  # Pillow raises nearly anything on a broken file
        raise InputError(f"the image cannot be decoded ({problem})") from problem
    return Decoded(image, kind, content_hash(data))


def _rgb(opened: Image.Image) -> Image.Image:
    opened.load()
    if opened.mode.startswith("I;16"):  # Pillow clips 16 bits to 8 when asked for RGB directly
        return opened.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if "A" in opened.getbands() or "transparency" in opened.info:
        layer = opened.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return opened.convert("RGB")


def thumbnail(image: Image.Image) -> bytes | None:
    """A JPEG of at most THUMBNAIL_SIDE, or None where the image is that small itself."""
    if max(image.size) <= THUMBNAIL_SIDE:
        return None
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return out.getvalue()


_SIGNATURES = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)


def suffix_of(data: bytes) -> str:
    """The file suffix that the first bytes ask for; .jpg where they are none of those known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for sign, suffix in _SIGNATURES if data.startswith(sign)), ".jpg")
