"""A table of per-image scores: every same-prompt pair whose gap is wide enough becomes a pair.

Such a label is no vote: the pairs say `source: mos`. Which of the two images is image_0 follows
from a hash of their names, so that position says nothing about the label, and is the same for
every score column of the same table.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from toolkit.errors import InputError
from toolkit.ids import short_hash
from toolkit.ingest.records import Reference, SourceImage, SourceRow, Summary, check_split
from toolkit.ingest.writer import ImageMode, ingest_rows
from toolkit.schema import missing_columns
from toolkit.sharding import Shard
from toolkit.store import Store

SOURCE = "mos"


@dataclass(frozen=True)
class Ratings:
    """What the columns of a ratings table mean, and how pairs are made of its rows."""

    table: str
    images_dir: str
    image_column: str = "name"
    prompt_column: str = "prompt"
    score_column: str = "mos_align"
    sd_column: str | None = None
    min_gap: float = 0.5
    """Smallest difference of two scores that makes a pair, in the scores' own unit."""
    split: str = "train"
    model_pattern: str | None = None
    """A regular expression whose first group finds the model in an image's name."""


@dataclass(frozen=True)
class RatedImages:
    """The table's usable rows by prompt, in the table's order."""

    ratings: Ratings
    by_prompt: dict[str, list[dict[str, Any]]]
    left_out: int = 0
    """Rows without a prompt, an image name or a finite score."""
    types: dict[str, pa.DataType] = field(default_factory=dict)


def open_ratings(ratings: Ratings, *, shard: Shard | None = None) -> RatedImages:
    """Read and check the table (scores only: images are not touched). InputError says why not."""
    table = _table(Path(ratings.table))
    named = (ratings.image_column, ratings.prompt_column, ratings.score_column, ratings.sd_column)
    needed = [name for name in named if name]
    if missing := missing_columns(table.column_names, needed):
        raise InputError(
            f"{ratings.table} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} "
            f"(found: {', '.join(table.column_names)}); name them with --image-column, "
            "--prompt-column, --score-column and --sd-column."
        )
    kind = table[ratings.score_column].type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise InputError(
            f"{ratings.table} holds {kind} in column {ratings.score_column}, where a number is "
            "needed; name another --score-column."
        )
    if not Path(ratings.images_dir).is_dir():
        raise InputError(f"{ratings.images_dir} is no folder; name the images' with --images-dir.")
    if not ratings.min_gap >= 0:
        raise InputError(f"--min-gap is {ratings.min_gap}; it must be 0 or more.")
    check_split(ratings.split)
    rated = _grouped(ratings, table)
    if shard is not None:  # prompts are dealt out
        dealt = (item for k, item in enumerate(rated.by_prompt.items()) if shard.has(k))
        rated = replace(rated, by_prompt=dict(dealt))
    return rated


def ingest_ratings(
    store: Store,
    source: RatedImages,
    *,
    images: ImageMode = "copy",
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Add every pair whose gap passes to the store; a missing image file quarantines its pairs.

    `limit`: only the first so many pairs.
    """
    types = {f"{n}_{slot}": kind for n, kind in source.types.items() for slot in (0, 1)}
    rows = islice(rating_rows(source), limit)
    summary = ingest_rows(store, SOURCE, rows, images=images, progress=progress, extra_types=types)
    if source.left_out:
        summary.notes.append(
            f"left out {source.left_out:,} images without a name, a prompt or a finite score"
        )
    return summary


def count_pairs(source: RatedImages) -> int:
    """How many pairs `rating_rows` will make."""
    return sum(1 for _ in _chosen(source))


def rating_rows(source: RatedImages) -> Iterator[SourceRow]:
    """The pairs, prompts in the table's order."""
    ratings = source.ratings
    folder = Path(ratings.images_dir).resolve()
    for prompt, first, second in _chosen(source):
        names = [str(rated[ratings.image_column]) for rated in (first, second)]
        score_0, score_1 = (float(rated[ratings.score_column]) for rated in (first, second))
        label = 0.5 if score_0 == score_1 else float(score_0 > score_1)
        yield SourceRow(
            prompt=prompt,
            image_0=SourceImage(names[0], Reference(str(folder / names[0]))),
            image_1=SourceImage(names[1], Reference(str(folder / names[1]))),
            label=label,
            split=ratings.split,
            extra=_extra(ratings, first, second),
            distinguishing=(ratings.score_column,),
            source_file=str(Path(ratings.table).resolve()),
            source_row=first["row"],
        )


def _chosen(source: RatedImages) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    ratings = source.ratings
    for prompt, rated in source.by_prompt.items():
        for one, other in combinations(rated, 2):
            gap = abs(one[ratings.score_column] - other[ratings.score_column])
            names = {str(side[ratings.image_column]): side for side in (one, other)}
            if gap < ratings.min_gap or len(names) < 2:
                continue
            ordered = sorted(names)
            if ord(short_hash("order", prompt, *ordered)[0]) % 2:
                ordered.reverse()
            yield prompt, names[ordered[0]], names[ordered[1]]


def _extra(ratings: Ratings, *sides: dict[str, Any]) -> dict[str, Any]:
    """score, sd and model of both sides, the score's column, and the table's other columns."""
    extra: dict[str, Any] = {"score_column": ratings.score_column}
    own = {ratings.image_column, ratings.prompt_column, ratings.score_column, "row"}
    for slot, side in enumerate(sides):
        extra[f"score_{slot}"] = float(side[ratings.score_column])
        if ratings.sd_column:
            extra[f"sd_{slot}"] = side[ratings.sd_column]
        others = {f"{k}_{slot}": v for k, v in side.items() if k not in own | {ratings.sd_column}}
        extra |= others
        if ratings.model_pattern:
            found = re.search(ratings.model_pattern, str(side[ratings.image_column]))
            extra[f"model_{slot}"] = found[1] if found else None
    return extra


def _table(path: Path) -> pa.Table:
    if not path.is_file():
        raise InputError(f"{path} is no file; name a CSV or Parquet table of ratings.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); name a CSV or Parquet table of ratings.")
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        quoted = csv.ParseOptions(newlines_in_values=True)
        return csv.read_csv(path, parse_options=quoted)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:
        raise InputError(
            f"{path} cannot be read as a {'Parquet' if path.suffix == '.parquet' else 'CSV'} table "
            f"({str(problem).splitlines()[0]}); mend it or name another."
        ) from problem


def _grouped(ratings: Ratings, table: pa.Table) -> RatedImages:
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    left_out = 0
    for number, row in enumerate(table.to_pylist()):
        score, name = row[ratings.score_column], row[ratings.image_column]
        prompt = row[ratings.prompt_column]
        if score is None or not math.isfinite(score) or name in (None, "") or prompt is None:
            left_out += 1
            continue
        by_prompt.setdefault(str(prompt), []).append({**row, "row": number})
    if not by_prompt:
        raise InputError(f"{ratings.table} holds no row with a name, a prompt and a score.")
    types = {f.name: f.type for f in table.schema if not pa.types.is_null(f.type)}
    return RatedImages(ratings, by_prompt, left_out, types)
