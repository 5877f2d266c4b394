"""Rankings to pairs: several images of one prompt, each with a rank, smaller is better.

Every two of them become a pair in the order of the list; equal ranks are a tie, and are kept.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from toolkit.ingest.source import SourceImage, SourceRow, Vote

Ranks = Sequence[float | None]


@dataclass(frozen=True)
class Ranking:
    """One prompt, its images and their ranks; `voters` are (name, ranks) of single annotators."""

    prompt: str | None
    images: Sequence[SourceImage]
    ranks: Ranks
    voters: Sequence[tuple[str | None, Ranks]] = ()
    split: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """The source's columns about the whole ranking."""
    each: Sequence[Mapping[str, Any]] = ()
    """The source's columns about every image; they become NAME_0 and NAME_1."""
    distinguishing: tuple[str, ...] = ()
    source_file: str | None = None
    source_row: int | None = None


def ranked_pairs(ranking: Ranking) -> Iterator[SourceRow]:
    """Every two images as a pair; a ranking that does not fit its images is one faulty row."""
    if problem := _problem(ranking):
        nothing = SourceImage("?")
        sides = [*ranking.images[:2], nothing, nothing]
        yield _row(ranking, sides[0], sides[1], None, problem=problem)
        return
    for i, j in combinations(range(len(ranking.images)), 2):
        votes = tuple(
            Vote(choice, name)
            for name, ranks in ranking.voters
            if (choice := preference(ranks, i, j)) is not None
        )
        extra = dict(ranking.extra) | {"rank_0": ranking.ranks[i], "rank_1": ranking.ranks[j]}
        for slot, place in enumerate((i, j)):
            if ranking.each:
                extra |= {f"{name}_{slot}": value for name, value in ranking.each[place].items()}
        label = preference(ranking.ranks, i, j)
        yield _row(ranking, ranking.images[i], ranking.images[j], label, votes=votes, extra=extra)


def preference(ranks: Ranks, first: int, second: int) -> float | None:
    """1 where the first has the smaller rank, 0 where the second, .5 where equal, or null."""
    if max(first, second) >= len(ranks):
        return None
    rank_0, rank_1 = ranks[first], ranks[second]
    if rank_0 is None or rank_1 is None or not (_is_number(rank_0) and _is_number(rank_1)):
        return None
    return 0.5 if rank_0 == rank_1 else float(rank_0 < rank_1)


def _problem(ranking: Ranking) -> str | None:
    if len(ranking.images) < 2:
        return f"the ranking has fewer than two images (it has {len(ranking.images)})"
    if len(ranking.ranks) != len(ranking.images):
        return (
            "the ranking has another number of ranks than of images "
            f"({len(ranking.ranks)} ranks, {len(ranking.images)} images)"
        )
    odd = [rank for rank in ranking.ranks if not (rank is None or isinstance(rank, int | float))]
    return f"a rank is no number (it is {odd[0]!r})" if odd else None


def _is_number(rank: Any) -> bool:
    return isinstance(rank, int | float) and not math.isnan(rank)


def _row(
    ranking: Ranking,
    image_0: SourceImage,
    image_1: SourceImage,
    label: float | None,
    **more: Any,
) -> SourceRow:
    return SourceRow(
        prompt=ranking.prompt,
        image_0=image_0,
        image_1=image_1,
        label=label,
        split=ranking.split,
        distinguishing=ranking.distinguishing,
        source_file=ranking.source_file,
        source_row=ranking.source_row,
        **more,
    )
