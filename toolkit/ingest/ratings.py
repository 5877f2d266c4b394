"""A table of per-image scores: two images of a prompt whose scores differ enough become a pair.

Such a label is not a vote: the pairs say `source: mos`. An image with several rows, one a rater,
has the mean of their scores (or the median), and its pairs the number of ratings as label_weight;
with `--rater-column` the raters who rated both images can be votes. Which of the two images is
image_0 follows from a hash of their names, so that position says nothing about the label, and is
the same for every score column of the same table.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from functools import partial
from itertools import combinations, islice
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any, Literal, TypeAlias

import pyarrow as pa

from toolkit.errors import InputError
from toolkit.ids import short_hash
from toolkit.ingest.source import (
    ENCODING,
    OUTSIDE,
    Opened,
    PairOptions,
    Source,
    SourceRow,
    Vote,
    as_batches,
)
from toolkit.ingest.tabular import (
    Table,
    find_tables,
    need_columns,
    path_image,
    records,
    rejected_rows,
)
from toolkit.ingest.writer import open_pairs
from toolkit.preference import label_of
from toolkit.store.images import real_path

ByPrompt: TypeAlias = dict[str, list[dict[str, Any]]]
"""The usable rows of each prompt, in the table's order."""


@dataclass(frozen=True)
class RatingsOptions(PairOptions):
    """Options of `outvoted ingest ratings`."""

    table: Annotated[str | Path, "A table of one image a row, or of one rating a row."]
    _: KW_ONLY
    images_dir: Annotated[str | Path, "Folder of the image files."]
    image_column: Annotated[str, "Column of the image's file name."] = "name"
    prompt_column: Annotated[str, "Column of the prompt."] = "prompt"
    score_column: Annotated[str, "Column of the score."] = "mos_align"
    sd_column: Annotated[str | None, "Column of the score's standard deviation."] = None
    min_gap: Annotated[
        float, "Smallest difference of the scores in a pair, in the scores' unit.", (0, 1e9)
    ] = 0.5
    aggregate: Annotated[
        Literal["mean", "median", "count"],
        "Of several rows of an image: pairs by their mean or median; count: the share of raters "
        "who rate image_0 higher is the label (needs --rater-column).",
    ] = "mean"
    rater_column: Annotated[str | None, "Column of who gave the score."] = None
    as_votes: Annotated[
        bool, "Each rater's two scores in a pair are a vote (needs --rater-column)."
    ] = False
    model_pattern: Annotated[
        str | None, "Regular expression; its group 1 is the model in an image's name."
    ] = None
    split: Annotated[str | None, "train, validation or test."] = "train"
    limit: Annotated[int | None, "Only the first N pairs.", (1, 10**9)] = None
    allow_outside: Annotated[bool, OUTSIDE] = False
    encoding: Annotated[str | None, ENCODING] = None


def open_ratings(options: RatingsOptions) -> Opened:
    """Read and check the table (scores only: no image is read). InputError says why not."""
    [table] = find_tables([options.table], what="a table of ratings", encoding=options.encoding)
    _check(options, table)
    with rejected_rows() as rejected:
        by_prompt, left_out = _grouped(options, table)
    shard = options.part
    if shard is not None:  # prompts are distributed
        by_prompt = dict(item for k, item in enumerate(by_prompt.items()) if shard.has(k))
    kinds = {f.name: f.type for f in table.schema if not pa.types.is_null(f.type)}
    types = {f"{name}_{slot}": kind for name, kind in kinds.items() for slot in (0, 1)}
    note = f"left out {left_out:,} images without a name, a prompt or a finite score"

    def rows() -> Iterator[SourceRow]:
        yield from rejected
        yield from islice(rating_rows(by_prompt, options), options.limit)

    return open_pairs(
        SOURCE,
        options,
        lambda: as_batches(rows(), options, types=types),
        rows=sum(1 for _ in _chosen(by_prompt, options)),
        notes=[note] if left_out else [],
    )


SOURCE = "mos"

RATINGS = Source(
    "ratings",
    "A table of per-image scores",
    RatingsOptions,
    open_ratings,
    stored_as=SOURCE,
    safe_columns=(
        *("score_column", "score_0", "score_1", "sd_0", "sd_1", "ratings_0", "ratings_1"),
    ),
    details="two images of a prompt whose scores differ become a pair",
    cards=("agiqa3k",),
)


def _check(options: RatingsOptions, table: Table) -> None:
    if options.rater_column is None and (options.as_votes or options.aggregate == "count"):
        raise InputError(
            "--as-votes and --aggregate count compare the scores of each rater; name the column of "
            "who gave a score with --rater-column."
        )
    named = (
        *(options.image_column, options.prompt_column, options.score_column, options.sd_column),
        options.rater_column,
    )
    options_text = "--image-column, --prompt-column, --score-column, --sd-column and --rater-column"
    need_columns(table, [name for name in named if name], f"name them with {options_text}")
    kind = table.schema.field(options.score_column).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise InputError(
            f"{options.table} holds {kind} in column {options.score_column}, where a number is "
            "needed; name another --score-column."
        )
    if not Path(options.images_dir).is_dir():
        raise InputError(f"{options.images_dir} is no folder; name the images' with --images-dir.")


def rating_rows(by_prompt: ByPrompt, options: RatingsOptions) -> Iterator[SourceRow]:
    """The pairs, prompts in the table's order."""
    image = partial(path_image, folder=Path(options.images_dir), outside=options.allow_outside)
    file = real_path(Path(options.table))
    for prompt, first, second in _chosen(by_prompt, options):
        names = [str(rated[options.image_column]) for rated in (first, second)]
        votes = _votes(first, second)
        counts = [len(rated["scores"]) for rated in (first, second)]
        weight: float | None
        if options.aggregate == "count":
            label, weight = sum(vote.choice for vote in votes) / len(votes), float(len(votes))
        else:
            label = _choice(first[options.score_column], second[options.score_column])
            weight = float(min(counts)) if max(counts) > 1 else None
        yield SourceRow(
            prompt=prompt,
            image_0=image(names[0]),
            image_1=image(names[1]),
            label=label,
            label_weight=weight,
            split=options.split,
            votes=votes if options.as_votes else (),
            extra=_extra(options, first, second),
            distinguishing=(options.score_column,),
            source_file=file,
            source_row=first["row"],
        )


def _chosen(
    by_prompt: ByPrompt, options: RatingsOptions
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for prompt, rated in by_prompt.items():
        for sides in combinations(rated, 2):
            gap = abs(sides[0][options.score_column] - sides[1][options.score_column])
            names = {str(side[options.image_column]): side for side in sides}
            if gap < options.min_gap if options.aggregate != "count" else not _votes(*sides):
                continue
            ordered = sorted(names)
            if ord(short_hash("order", prompt, *ordered)[0]) % 2:
                ordered.reverse()
            yield prompt, names[ordered[0]], names[ordered[1]]


def _extra(options: RatingsOptions, *sides: dict[str, Any]) -> dict[str, Any]:
    """score, sd, model and number of ratings of both sides, the score's column, and the table's
    other columns."""
    extra: dict[str, Any] = {"score_column": options.score_column}
    own = {options.image_column, options.prompt_column, options.score_column, options.rater_column}
    own |= {"row", "scores"}
    for slot, side in enumerate(sides):
        extra[f"score_{slot}"] = float(side[options.score_column])
        if any(len(side["scores"]) > 1 for side in sides):
            extra[f"ratings_{slot}"] = len(side["scores"])
        if options.sd_column:
            extra[f"sd_{slot}"] = side[options.sd_column]
        others = {f"{k}_{slot}": v for k, v in side.items() if k not in own | {options.sd_column}}
        extra |= others
        if options.model_pattern:
            model = re.search(options.model_pattern, str(side[options.image_column]))
            extra[f"model_{slot}"] = model[1] if model else None
    return extra


def _grouped(options: RatingsOptions, table: Table) -> tuple[ByPrompt, int]:
    """The rows by prompt, and how many lack a prompt, an image name or a finite score."""
    by_prompt: dict[str, dict[str, list[dict[str, Any]]]] = {}
    left_out = 0
    for number, row in records(table):
        score, name = row[options.score_column], row[options.image_column]
        prompt = row[options.prompt_column]
        if score is None or not math.isfinite(score) or name in (None, "") or prompt is None:
            left_out += 1
            continue
        images = by_prompt.setdefault(str(prompt), {})
        images.setdefault(str(name), []).append({**row, "row": number})
    if not by_prompt:
        raise InputError(f"{options.table} holds no row with a name, a prompt and a score.")
    merged = {
        prompt: [_merged(rows, options) for rows in images.values()]
        for prompt, images in by_prompt.items()
    }
    return merged, left_out


def _merged(rows: list[dict[str, Any]], options: RatingsOptions) -> dict[str, Any]:
    """The rows of one image as one: the score of them all, and other columns where all agree.

    `scores`: (rater, score) of each.
    """
    first = dict(rows[0])
    for name, value in rows[0].items():
        if name != "row" and any(row[name] != value for row in rows[1:]):
            first[name] = None
    scores = [float(row[options.score_column]) for row in rows]
    first[options.score_column] = median(scores) if options.aggregate == "median" else fmean(scores)
    raters = [row[options.rater_column] if options.rater_column else None for row in rows]
    return first | {"scores": list(zip(raters, scores, strict=True))}


def _votes(first: dict[str, Any], second: dict[str, Any]) -> tuple[Vote, ...]:
    """A vote for each time that a known rater rated both images."""
    others: dict[Any, list[float]] = {}
    for rater, score in second["scores"]:
        others.setdefault(rater, []).append(score)
    return tuple(
        Vote(_choice(score, other), str(rater), grade=f"{score:g} and {other:g}")
        for rater, score in first["scores"]
        if rater is not None and others.get(rater)
        for other in [others[rater].pop(0)]
    )


def _choice(score_0: float, score_1: float) -> float:
    return float(label_of(score_0 - score_1))
