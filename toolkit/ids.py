"""Short names of pairs and comparisons, made from what a source always repeats; and random numbers
that belong to such a name."""

import hashlib

import numpy as np


def short_hash(*parts: str, key: bytes = b"") -> str:
    """12 lower-case base32 characters: 60 bits of BLAKE2b over `parts`, under `key` if any.

    Without a key anybody who can guess the parts can confirm the guess. Twelve bytes are what
    DuckDB keeps inside a string value, so joins on ids stay cheap; a million ids collide with a
    probability of 4e-7.
    """
    text = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8, key=key)
    bits = int.from_bytes(digest.digest(), "big")
    return "".join([_TWO[bits >> shift & 1023] for shift in (54, 44, 34, 24, 14, 4)])


_SIGNS = "abcdefghijklmnopqrstuvwxyz234567"
_TWO = tuple(first + second for first in _SIGNS for second in _SIGNS)
"""Ten bits as two characters: base64.b32encode takes six times as long."""


def make_pair_id(source: str, prompt: str, image_0: str, image_1: str, *distinguishing: str) -> str:
    """Id from what a source always repeats: never from image bytes, never from the label.

    `distinguishing` separates votes on the same two images (ranking id, annotator, time). The hash
    has no key, and an annotator can be guessed from it; so ids leave a store only as
    `toolkit.store.pseudonyms.exported_ids` names them.
    """
    return short_hash("pair", source, prompt, image_0, image_1, *distinguishing)


def make_comparison_id(prompt: str, image_0: str, image_1: str) -> str:
    """Id of an unordered comparison: two images under one prompt, whoever voted on them."""
    return short_hash("comparison", prompt, *sorted((image_0, image_1)))


def make_repeat_id(pair_id: str, label: str, nth: int) -> str:
    """Id of the nth row that would have this pair_id and says this label.

    The first row has the pair_id itself; one that says otherwise, and one that repeats a vote of
    nobody in particular, is a pair too. Made from content only: the same file gives the same ids.
    """
    return short_hash("repeat", pair_id, label, str(nth))


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """A counter-based generator for one (seed, key)."""
    text = "\x1f".join(map(str, (seed, *key))).encode()
    digest = hashlib.blake2b(text, digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, np.uint64)))


def is_captioned(seed: int, pair_id: str, draw: int, dropout: float) -> bool:
    """Whether a training visit keeps its prompt: one decision a pair and draw, for both images."""
    return bool(generator(seed, "caption", pair_id, draw).random() >= dropout)
