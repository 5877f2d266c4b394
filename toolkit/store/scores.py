"""Scores in a store: scores/SCORER/part-*.parquet, one row an image and prompt.

A scorer's folder has rows of one identity only (version, weights, preprocessing), so that two
scores in it can always be compared; rows of another are refused until the old ones are moved away.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import StoreError
from toolkit.files.atomic import move, parts, write_part
from toolkit.files.remote import readable
from toolkit.ids import short_hash
from toolkit.schema import column
from toolkit.store.connection import add_view, connect, fetch
from toolkit.store.layout import Store, check_name

Key = tuple[str, str | None]
"""image_id and prompt; None for a scorer that sees none."""

SCORES = pa.schema(
    [
        column("image_id", pa.string(), "the image that was scored", nullable=False),
        column("prompt_hash", pa.string(), "of the prompt; null where the scorer sees none"),
        column("prompt", pa.string(), "the prompt; null where the scorer sees none"),
        column("scorer", pa.string(), "name of the scorer", nullable=False),
        column("version", pa.string(), "of the scorer's model and package", nullable=False),
        column("weights_sha256", pa.string(), "of the weights' files; null for a formula"),
        column("preprocessing", pa.string(), "from decoded pixels to the model", nullable=False),
        column("dtype", pa.string(), "number format the model ran in", nullable=False),
        column("score", pa.float64(), "the scorer's own unit, larger is better; null if none"),
        column("truncated", pa.bool_(), "the prompt was longer than the tokenizer's limit"),
        column("reason", pa.string(), "why there is no score"),
    ]
)


@dataclass(frozen=True)
class Identity:
    """What makes two scores comparable, and their number format."""

    version: str
    weights_sha256: str | None
    preprocessing: str
    dtype: str

    def same(self, row: dict[str, Any]) -> bool:
        """Whether a row was made the same way. The number format may differ: devices choose it."""
        names = ("version", "weights_sha256", "preprocessing")
        return all(row.get(name) == getattr(self, name) for name in names)


def prompt_hash(prompt: str) -> str:
    """The short name of a prompt in a scores table."""
    return short_hash("prompt", prompt)


def scorers_in(store: Store) -> list[str]:
    """Scorers with rows in the store, by name."""
    return sorted({file.parent.name for file in store.folder("scores").glob("*/part-*.parquet")})


def claim_scores(store: Store, scorer: str, identity: Identity, *, replace: bool = False) -> None:
    """Make sure that the scorer's folder has rows of this identity only.

    With `replace` older rows of another identity are moved to STORE/aside/; without it they are
    a StoreError.
    """
    folder = store.folder("scores", check_name(scorer, "scorer"))
    other = _other_identity(folder, identity)
    if other is None:
        return
    if not replace:
        raise StoreError(
            f"The scores of {scorer} in {store.root} were made with {_words(other)}, and these "
            f"would be made with {_words(identity.__dict__)}; they cannot be mixed. Type the same "
            "command with --replace to move the old ones to aside/ and score again."
        )
    target = store.folder("aside", time.strftime("%Y%m%d-%H%M%S"), "scores", scorer)
    for file in parts(folder):
        move(file, target / file.name)


def _other_identity(folder: Path, identity: Identity) -> dict[str, Any] | None:
    names = ["version", "weights_sha256", "preprocessing"]
    for file in parts(folder):
        kept = pq.read_table(readable(file), columns=names).slice(0, 1).to_pylist()
        if kept and not identity.same(kept[0]):
            return dict(kept[0])
    return None


def _words(about: dict[str, Any]) -> str:
    sha = about["weights_sha256"]
    weights = f"weights {sha[:12]}" if sha else "no weights"
    return f"{about['version']}, {weights}, {about['preprocessing']}"


def unscored(
    store: Store, scorer: str, *, sees_prompt: bool, retry: bool = False
) -> list[tuple[str, str | None]]:
    """(image_id, prompt) of every pair's image that has no row yet, in the order of the pairs.

    Where the scorer sees no prompt an image counts once, its prompt None. With `retry` rows
    without a score count as absent.
    """
    prompt = "prompt" if sees_prompt else "NULL"
    with connect(store) as con:
        _add_scores(con, store, scorer)
        rows = fetch(
            con,
            f"""
            WITH numbered AS (
                SELECT row_number() OVER () AS place, image_0, image_1, {prompt} AS prompt
                FROM pairs
            ), shown AS (
                SELECT place, image_0 AS image_id, prompt FROM numbered
                UNION ALL SELECT place, image_1 AS image_id, prompt FROM numbered
            ), wanted AS (
                SELECT image_id, CAST(prompt AS VARCHAR) AS prompt, min(place) AS place FROM shown
                WHERE image_id IN (SELECT image_id FROM images) GROUP BY ALL
            )
            SELECT w.image_id, w.prompt FROM wanted w
            WHERE NOT EXISTS (
                SELECT 1 FROM scores s WHERE s.image_id = w.image_id
                AND s.prompt IS NOT DISTINCT FROM w.prompt AND (s.score IS NOT NULL OR NOT ?)
            ) ORDER BY w.place, w.image_id
            """,
            retry,
        )
    return list(zip(rows["image_id"].to_pylist(), rows["prompt"].to_pylist(), strict=True))


def write_scores(store: Store, scorer: str, rows: list[dict[str, Any]]) -> Path | None:
    """Add one part of rows of SCORES; its path, None where there are none."""
    if not rows:
        return None
    table = pa.Table.from_pylist(rows, schema=SCORES)
    return write_part(store.folder("scores", scorer), table)


def score_parts(store: Store, scorer: str) -> list[Path]:
    """The parts of a scorer's rows, oldest first."""
    return parts(store.folder("scores", check_name(scorer, "scorer")))


def keys_in(files: Iterable[Path]) -> set[Key]:
    """What these parts have rows for."""
    keys: set[Key] = set()
    for file in files:
        table = pq.read_table(readable(file), columns=["image_id", "prompt"])
        pairs = zip(table["image_id"].to_pylist(), table["prompt"].to_pylist(), strict=True)
        keys.update(pairs)
    return keys


def read_scores(store: Store, scorer: str) -> pa.Table:
    """One row an image and prompt, schema SCORES, a score before a reason; by image and prompt.

    StoreError naming the scorers that exist where this one has no scores.
    """
    if scorer not in scorers_in(store):
        known = ", ".join(scorers_in(store)) or "none yet"
        raise StoreError(
            f"{store.root} has no scores of {scorer!r} (scorers with scores: {known}); "
            f"`outvoted score {store.root} --scorer {scorer}` makes them."
        )
    with connect(store) as con:
        _add_scores(con, store, scorer)
        table = fetch(
            con,
            "SELECT * EXCLUDE (nth) FROM (SELECT *, row_number() OVER (PARTITION BY image_id,"
            " prompt ORDER BY score IS NULL, score) AS nth FROM scores) WHERE nth = 1"
            " ORDER BY image_id, prompt",
        )
    return table.select(SCORES.names).cast(SCORES)


def pair_scores(store: Store, scorer: str) -> pa.Table:
    """A scorer's two scores on every pair, null if missing: pair_id, score_0, score_1, by pair_id.

    StoreError as of `read_scores`.
    """
    with connect(store) as con:
        con.register("scored", read_scores(store, scorer))
        sides = "".join(
            f" LEFT JOIN scored s{slot} ON s{slot}.image_id = p.image_{slot}"
            f" AND (s{slot}.prompt IS NULL OR s{slot}.prompt = p.prompt)"
            for slot in (0, 1)
        )
        return fetch(
            con,
            "SELECT p.pair_id, s0.score AS score_0, s1.score AS score_1"
            f" FROM pairs p{sides} ORDER BY p.pair_id",
        )


def _add_scores(con: Any, store: Store, scorer: str) -> None:
    folder = store.folder("scores", check_name(scorer, "scorer"))
    add_view(con, "scores", parts(folder), SCORES)
