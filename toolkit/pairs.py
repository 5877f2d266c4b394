"""Pairs, images and votes: the records, and how a pair gets its id.

A pair keeps image_0 and image_1 in the order its source gave them, for ever; `chosen` and
`rejected` follow from a label. A label is 1 (image_0 preferred), 0 (image_1), .5 (tie) or null
(nobody said).
"""

import hashlib
from collections.abc import Iterable, Mapping

import pyarrow as pa

from toolkit.schema import column

SOURCE_PREFIX = "src_"
"""A source's own column NAME is kept in the pairs table as src_NAME."""


EXPORTED = frozenset(("original_label_0", "pair_id"))
"""Who has these columns is a set that was exported from a store."""

OURS = EXPORTED | {
    *("sample_weight", "minority", "confidence", "stability", "verdict"),
    *("prompt", "chosen", "rejected", "label_0", "created_at", "ranking_id", "user_id"),
    *("chosen_uid", "rejected_uid", "chosen_model", "rejected_model"),
}
"""Columns of exported sets for which a source's own column of that name makes way, as src_NAME."""


SAFE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "imagereward": ("rank_0", "rank_1", "prompt_id", "classification", "image_amount_in_total"),
    "mos": ("score_column", "score_0", "score_1", "sd_0", "sd_1"),
    "hpd": ("rank_0", "rank_1"),
}
"""Source (the pairs' column `source`) -> its own columns that are known to name nobody. All others
stay behind at an export unless they are named there."""


def source_names(names: Iterable[str]) -> dict[str, str]:
    """What a source's columns are called in the pairs table: NAME -> src_NAME.

    An exported set has src_NAME where NAME is one of OURS: it is taken for the source's NAME, and
    the set's is left out.
    """
    there = set(names)
    ours = OURS if there >= EXPORTED else frozenset()
    return {
        name: name if name.removeprefix(SOURCE_PREFIX) in ours - {name} else SOURCE_PREFIX + name
        for name in names
        if name not in ours or SOURCE_PREFIX + name not in there
    }


PAIRS = pa.schema(
    [
        column("pair_id", pa.string(), "stable name of the pair, 12 characters", nullable=False),
        column(
            "comparison_id",
            pa.string(),
            "same for every pair of the same prompt and the same two images, in either order",
            nullable=False,
        ),
        column("prompt", pa.string(), "the text both images were made from", nullable=False),
        column("image_0", pa.string(), "image_id of the first image, as the source ordered them"),
        column("image_1", pa.string(), "image_id of the second image"),
        column("label", pa.float32(), "1: image_0 preferred, 0: image_1, .5: tie, null: none"),
        column("split", pa.string(), "train, validation or test, as the source says"),
        column("source", pa.string(), "what the label comes from: a data set's name, or mos"),
    ]
)

IMAGES = pa.schema(
    [
        column("image_id", pa.string(), "the source's uid, else the sha256", nullable=False),
        column("content_hash", pa.string(), "sha256 of the bytes; null until they were read"),
        column("format", pa.string(), "PNG, JPEG, WEBP ... as decoded; null until read"),
        column("width", pa.int32(), "pixels"),
        column("height", pa.int32(), "pixels"),
        column("bytes", pa.binary(), "the encoded image, or null where it is a reference"),
        column("ref_file", pa.string(), "absolute path of the file that holds the image"),
        column("ref_row", pa.int64(), "row in that file; null where the file is the image"),
        column("ref_column", pa.string(), "column of that row which holds the encoded image"),
    ]
)

THUMBNAILS = pa.schema(
    [
        column("image_id", pa.string(), "the image it shows", nullable=False),
        column("bytes", pa.binary(), "an encoded JPEG", nullable=False),
        column("width", pa.int32(), "pixels"),
        column("height", pa.int32(), "pixels"),
    ]
)

VOTES = pa.schema(
    [
        column("pair_id", pa.string(), "the pair that was judged", nullable=False),
        column("annotator", pa.string(), "who voted, as the source names them"),
        column("choice", pa.float32(), "1: image_0, 0: image_1, .5: tie"),
        column("time", pa.timestamp("us", tz="UTC"), "when, if the source says"),
    ]
)

QUARANTINE = pa.schema(
    [
        column("pair_id", pa.string(), "the pair that was left out", nullable=False),
        column("source_file", pa.string(), "where it was read"),
        column("source_row", pa.int64(), "row in that file"),
        column("reason", pa.string(), "why it could not be taken in", nullable=False),
    ]
)


def short_hash(*parts: str) -> str:
    """12 lower-case base32 characters (60 bits) of a keyed hash over `parts`.

    Twelve bytes are what DuckDB keeps inside a string value, so joins on ids stay cheap; a
    million ids collide with a probability of 4e-7.
    """
    digest = hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=8)
    bits = int.from_bytes(digest.digest(), "big")
    return "".join([_TWO[bits >> shift & 1023] for shift in (54, 44, 34, 24, 14, 4)])


_SIGNS = "abcdefghijklmnopqrstuvwxyz234567"
_TWO = tuple(one + two for one in _SIGNS for two in _SIGNS)
"""Ten bits as two characters: base64.b32encode takes six times as long."""


def make_pair_id(source: str, prompt: str, image_0: str, image_1: str, *distinguishing: str) -> str:
    """Id from what a source always repeats: never from image bytes, never from the label.

    `distinguishing` separates votes on the same two images (ranking id, annotator, time).
    """
    return short_hash("pair", source, prompt, image_0, image_1, *distinguishing)


def make_comparison_id(prompt: str, image_0: str, image_1: str) -> str:
    """Id of an unordered comparison: two images under one prompt, whoever judged them."""
    return short_hash("comparison", prompt, *sorted((image_0, image_1)))


def empty(schema: pa.Schema) -> pa.Table:
    """A table of the schema without rows."""
    return schema.empty_table()


def missing_columns(found: Iterable[str], needed: Iterable[str]) -> list[str]:
    """The needed names that were not found, in the order they are needed."""
    have = set(found)
    return [name for name in needed if name not in have]
