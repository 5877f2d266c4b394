"""Decode untrusted images: upright, size limits, every mode, one sentence when it fails."""

import hashlib
import io
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError

from toolkit.errors import InputError

MAX_PIXELS = 50_000_000
"""More than this is refused before decoding: a small file can unpack to gigabytes."""

THUMBNAIL_SIDE = 320
"""Longest side of a thumbnail in pixels; a smaller original serves as its own."""


@dataclass(frozen=True)
class Decoded:
    """An image that decoded completely, as RGB and upright."""

    image: Image.Image
    format: str
    content_hash: str


def content_hash(data: bytes) -> str:
    """sha256 of the encoded bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes | None) -> Decoded:
    """Decode the first frame to RGB (transparency on white), turned as its EXIF orientation says.

    InputError says what is wrong.
    """
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
        if what := mistaken(data):
            raise InputError(f"the image is {what}") from problem
        raise InputError("the image cannot be decoded (not a known image format)") from problem
    except Exception as problem:  # Pillow raises nearly anything on a broken file
        raise InputError(f"the image cannot be decoded ({problem})") from problem
    return Decoded(image, kind, content_hash(data))


def _rgb(opened: Image.Image) -> Image.Image:
    opened.load()
    if opened.mode in ("F", "I"):  # Pillow clips to 0 .. 255: 0 .. 1 would turn black
        least, most = (float(value) for value in opened.getextrema())  # type: ignore[arg-type]
        if not (least >= 0 and 1 < most <= 255):
            raise InputError(
                f"the image has pixels of 32 bits outside the range 0 to 255 (they are {least:g} "
                f"to {most:g}; save it with 8 bits)"
            )
    with suppress(Exception):  # an unreadable EXIF block leaves the image as it is
        opened = ImageOps.exif_transpose(opened)
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
    (b"\0\0\0\x0cjP  ", ".jp2"),
    (b"\0\0\0\x0cJXL ", ".jxl"),
    (b"\xff\x0a", ".jxl"),
)
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), ".avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), ".heic"),
}


def suffix_of(data: bytes) -> str:
    """The file suffix that the first bytes ask for; .jpg where they are none of those known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], ".jpg")
    return next((suffix for sign, suffix in _SIGNATURES if data.startswith(sign)), ".jpg")


_BASE64 = (b"/9j/", b"iVBORw0KGgo", b"R0lGOD", b"UklGR", b"UEFSMQ", b"data:")


def mistaken(data: bytes) -> str | None:
    """What the first bytes of a file or cell are, where that is no data; None where unknown."""
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"version https://git-lfs"):
        return "a Git-LFS pointer, not the file itself (`git lfs pull` fetches it)"
    if head[:1] == b"<" and re.match(rb"<(!doctype|html|head|\?xml|error)", head, re.IGNORECASE):
        return "a web page, not the file itself (the download failed or needs a login)"
    if head.startswith(_BASE64):
        return "base64 text, not the bytes that it encodes (decode it first)"
    if (suffix := suffix_of(data)) in (".heic", ".jxl", ".avif"):
        name = suffix[1:].upper()
        return f"in the format {name}, which the installed Pillow cannot read (save it as PNG)"
    return None
