"""Any image that strangers made either decodes to RGB or is refused in one sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from toolkit.errors import InputError
from toolkit.image_files import MAX_PIXELS, THUMBNAIL_SIDE, content_hash, decode, thumbnail


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def test_cmyk_jpeg_decodes_to_its_colours():
    data = encoded(Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK"), "JPEG", quality=95)
    decoded = decode(data)
    assert decoded.image.mode == "RGB"
    assert decoded.format == "JPEG"
    red, green, blue = decoded.image.getpixel((8, 8))
    assert red > 230
    assert green < 30
    assert blue < 30


def test_sixteen_bit_grey_keeps_its_brightness_instead_of_clipping():
    values = np.full((4, 4), 128 * 256, np.uint16)
    decoded = decode(encoded(Image.fromarray(values)))
    assert decoded.image.getpixel((0, 0)) == (128, 128, 128)


def test_sixteen_bit_tiff_of_either_byte_order_decodes():
    values = np.full((4, 4), 200 * 256, np.uint16)
    assert decode(encoded(Image.fromarray(values), "TIFF")).image.getpixel((1, 1)) == (200,) * 3
    big = Image.fromarray(values).tobytes("raw", "I;16B")
    picture = Image.frombytes("I;16B", (4, 4), big)
    assert decode(encoded(picture, "TIFF")).image.getpixel((1, 1)) == (200,) * 3


def test_palette_with_transparency_lies_on_white():
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([10, 20, 30] + [200, 0, 0] + [0, 0, 0] * 254)
    picture.putpixel((0, 0), 1)
    decoded = decode(encoded(picture, transparency=0))
    assert decoded.image.getpixel((1, 1)) == (255, 255, 255)
    assert decoded.image.getpixel((0, 0)) == (200, 0, 0)


def test_half_transparent_rgba_is_blended_with_white():
    decoded = decode(encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 128))))
    assert decoded.image.getpixel((0, 0))[0] == pytest.approx(127, abs=1)


def test_grey_with_alpha_decodes():
    decoded = decode(encoded(Image.new("LA", (2, 2), (40, 255))))
    assert decoded.image.getpixel((0, 0)) == (40, 40, 40)


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
        red, _, blue = decode(data).image.getpixel((4, 4))
        assert red > 200
        assert blue < 60


def test_one_bit_image_is_black_and_white():
    picture = Image.new("1", (2, 1), 1)
    picture.putpixel((0, 0), 0)
    decoded = decode(encoded(picture))
    assert [decoded.image.getpixel((x, 0))[0] for x in (0, 1)] == [0, 255]


@pytest.mark.parametrize("nothing", [b"", None])
def test_zero_bytes_are_refused(nothing):
    with pytest.raises(InputError, match="no bytes"):
        decode(nothing)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_image_is_refused(kind):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(InputError, match="cannot be decoded"):
        decode(data[: len(data) // 2])


UPRIGHT = np.arange(24, dtype=np.uint8).reshape(4, 2, 3) * 10
"""Four rows, two columns."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_an_image_is_decoded_upright_whatever_its_exif_orientation(kind, orientation):
    """Each stored form is undone by hand: rotations and mirrors of the EXIF standard, tag 274."""
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),  # stored a quarter turn to the left
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](UPRIGHT)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = decode(encoded(stored, kind, exif=exif, **options))
    np.testing.assert_array_equal(np.asarray(decoded.image), UPRIGHT)


def test_a_broken_exif_block_leaves_the_image_as_it_is():
    data = encoded(Image.new("RGB", (4, 2), "red"), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert decode(data).image.size == (4, 2)


@pytest.mark.parametrize(
    ("mode", "value"), [("F", 0.7), ("F", -1.0), ("F", float("nan")), ("I", 70_000)]
)
def test_pixels_without_a_known_range_are_refused_instead_of_turning_black(mode, value):
    with pytest.raises(InputError, match="pixels of 32 bits outside the range 0 to 255"):
        decode(encoded(Image.new(mode, (4, 4), value), "TIFF"))


MISTAKEN = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n": "is a Git-LFS pointer",
    b"<!DOCTYPE html><title>404</title>": "is a web page",
    b"\n<html>not found</html>" * 10: "is a web page",
    b"iVBORw0KGgoAAAANSUhEUgAAAAUA": "is base64 text",
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic": "is in the format HEIC, which",
    b"nothing of the kind": "cannot be decoded (not a known image format)",
}


@pytest.mark.parametrize("data", MISTAKEN)
def test_what_is_no_image_is_named_in_the_same_words_each_time(data):
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            decode(data)
        assert str(caught.value).startswith(f"the image {MISTAKEN[data]}")


def test_a_decompression_bomb_is_refused_before_it_unpacks():
    side = int(MAX_PIXELS**0.5) + 1
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bomb += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(InputError, match="pixels, more than"):
        decode(bomb)


def test_the_hash_is_that_of_the_encoded_bytes():
    data = encoded(Image.new("RGB", (2, 2)))
    assert decode(data).content_hash == content_hash(data)
    assert len(content_hash(data)) == 64


def test_a_small_picture_is_its_own_thumbnail():
    assert thumbnail(Image.new("RGB", (THUMBNAIL_SIDE, 10))) is None


def test_a_large_picture_gets_a_thumbnail_of_the_same_shape():
    data = thumbnail(Image.new("RGB", (4 * THUMBNAIL_SIDE, 2 * THUMBNAIL_SIDE), "green"))
    assert data is not None
    with Image.open(io.BytesIO(data)) as small:
        assert small.size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 2)


def test_an_extremely_long_picture_gets_a_thumbnail_too():
    data = thumbnail(Image.new("RGB", (20_000, 1)))
    assert data is not None
    with Image.open(io.BytesIO(data)) as small:
        assert small.size == (THUMBNAIL_SIDE, 1)
