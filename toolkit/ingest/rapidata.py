"""Rapidata: its sets on Hugging Face, newer and older, and the JSON of a compare job.

Every answer is a vote with its annotator's trust. The label is the source's own share for image_0:
by trust in the newer sets and the JSON, by count in the older ones. In the newer sets coherence and
alignment are axes.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from toolkit.errors import InputError
from toolkit.ingest.choices import Choice, by_counts, number_of, share_of, word_of
from toolkit.ingest.source import (
    AxisLabel,
    ListOptions,
    Opened,
    Source,
    SourceImage,
    SourceRow,
    Vote,
    as_batches,
)
from toolkit.ingest.tabular import (
    ADDRESS,
    Table,
    cell_image,
    checked_folder,
    count_rows,
    file_image,
    find_tables,
    records,
)
from toolkit.ingest.writer import open_pairs
from toolkit.store.images import real_path

PREFERENCE = "preference"
NEEDED = ("prompt", "image1", "image2")
COUNTS = ("votes_image1", "votes_image2")
RESULTS = "results"
_WEIGHTED = re.compile(r"weighted_results_image1_(\w+)")
_NEAR = 0.02
"""Rounding that the sets' shares are given with."""


@dataclass(frozen=True, kw_only=True)
class RapidataOptions(ListOptions):
    """Options of `outvoted ingest rapidata`."""

    axis: Annotated[
        str | None, "What was judged, such as coherence, where the files do not say."
    ] = None


@dataclass(frozen=True)
class _Judged:
    """One axis of one pair, as the source states it."""

    share: Choice
    votes: tuple[Vote, ...]
    unread: bool = False
    """Whether there are answers that name neither image."""

    @property
    def label(self) -> AxisLabel:
        """The source's share; without one, the votes' own by trust."""
        if self.share.label is None:
            return share_of(self.votes, by_weight=True)
        return AxisLabel(self.share.label, float(len(self.votes)) or self.share.weight)


def open_rapidata(options: RapidataOptions) -> Opened:
    """Find the files and their form. InputError on one that has none of the three."""
    tables = find_tables(
        options.paths, what="a set of Rapidata's", shard=options.part, encoding=options.encoding
    )
    for table in tables:
        _check(table)
    checked_folder(options.images_dir)
    jobs = any(_is_job(table) for table in tables)
    unread: list[str] = []
    return open_pairs(
        RAPIDATA.name,
        options,
        lambda: as_batches(islice(_rows(tables, options, unread), options.limit), options),
        rows=None if jobs else count_rows(tables),
        notes=unread,
    )


RAPIDATA = Source(
    "rapidata",
    "Rapidata's sets and the JSON of its compare jobs",
    RapidataOptions,
    open_rapidata,
    stored_as="rapidata",
    safe_columns=("model_0", "model_1"),
    details="every answer is a vote with its annotator's trust; coherence and alignment are axes",
    cards=("rapidata",),
)


def _is_job(table: Table) -> bool:
    return RESULTS in table.schema.names and "image1" not in table.schema.names


def _axes(table: Table) -> list[str]:
    return [match[1] for name in table.schema.names if (match := _WEIGHTED.fullmatch(name))]


def _check(table: Table) -> None:
    names = table.schema.names
    is_set = {*NEEDED} <= {*names} and (_axes(table) or {*COUNTS} <= {*names})
    if not (is_set or _is_job(table)):
        raise InputError(
            f"{table.path} has the columns {', '.join(names)}; Rapidata's sets have "
            f"{', '.join(NEEDED)} and {' and '.join(COUNTS)} or weighted_results_image1_AXIS, its "
            f"compare jobs {RESULTS}. Name such a file."
        )


def _rows(
    tables: Sequence[Table], options: RapidataOptions, unread: list[str]
) -> Iterator[SourceRow]:
    lost = 0
    for table in tables:
        for row in _job_rows(table, options) if _is_job(table) else _set_rows(table, options):
            lost += bool(row.extra.get("unread_results"))
            yield row
    if lost:
        unread.append(
            f"{lost:,} pairs have answers that name neither image; their labels were read, their "
            "answers were not (kept as src_unread_results)"
        )


def _set_rows(table: Table, options: RapidataOptions) -> Iterator[SourceRow]:
    axes = _axes(table)
    details = [name for name in table.schema.names if name.startswith("detailed_results")]
    own = {*NEEDED, *COUNTS, *details, "model1", "model2"}
    own |= {f"weighted_results_image{k}_{axis}" for k in (1, 2) for axis in axes}
    folder = Path(options.images_dir or table.path.parent)
    for number, row in records(table):
        names = [_names(row, k) for k in (1, 2)]
        if axes:
            judged = {
                axis: _judged(
                    _weighted(row, axis), row.get(f"detailed_results_{axis}"), names, axis
                )
                for axis in axes
            }
        else:
            axis = options.axis or PREFERENCE
            counts = by_counts(row[COUNTS[0]], row[COUNTS[1]], COUNTS)
            judged = {axis: _judged(counts, row.get("detailed_results"), names, axis)}
        sides = [
            cell_image(
                *(table, number, name, row[name], folder, options.images),
                outside=options.allow_outside,
            )
            for name in ("image1", "image2")
        ]
        extra = {name: value for name, value in row.items() if name not in own}
        extra |= {f"model_{k - 1}": row.get(f"model{k}") for k in (1, 2)}
        yield _pair(table, options, number, word_of(row["prompt"]), sides, judged, extra, row)


def _names(row: Mapping[str, Any], k: int) -> set[str]:
    """What answers may call the k-th image: its path, its file's name, or image1 and image2."""
    value = row.get(f"image{k}")
    paths = [row.get(f"image{k}_path"), value.get("path") if isinstance(value, dict) else value]
    texts = [path for path in paths if isinstance(path, str) and path]
    return {*texts, *(PurePosixPath(text).name for text in texts), f"image{k}", f"image_{k}"}


def _weighted(row: Mapping[str, Any], axis: str) -> Choice:
    names = [f"weighted_results_image{k}_{axis}" for k in (1, 2)]
    return by_counts(row.get(names[0]), row.get(names[1]), names)._replace(weight=None)


def _judged(share: Choice, results: Any, names: Sequence[set[str]], axis: str) -> _Judged:
    """The axis with a vote for each answer; with none where one names neither image."""
    answers = _answers(results)
    called = [word_of(answer.get("votedFor")) for answer in answers]
    sides = {name: float(name in names[0]) for name in called if name and _is_one(name, names)}
    if len(sides) < len({*called}):
        sides = _by_share(share, answers)
    if None in called or not {*called} <= {*sides}:
        return _Judged(share, (), bool(answers))
    overall = None if axis == PREFERENCE else axis
    votes = tuple(
        Vote(sides[name or ""], axis=overall, weight=_trust(answer))
        for name, answer in zip(called, answers, strict=True)
    )
    return _Judged(share, votes)


def _is_one(name: str, names: Sequence[set[str]]) -> bool:
    return (name in names[0]) != (name in names[1])


def _by_share(share: Choice, answers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Which name is image_0, where trust by name gives the stated share one way round only."""
    trust: dict[str, float] = {}
    for answer in answers:
        name = word_of(answer.get("votedFor")) or ""
        trust[name] = trust.get(name, 0.0) + (_trust(answer) or 0.0)
    total = sum(trust.values())
    if share.label is None or not total or len(trust) > 2 or abs(share.label - 0.5) <= _NEAR:
        return {}
    fits = {name: abs(value / total - share.label) <= _NEAR for name, value in trust.items()}
    other = {name: abs(1 - value / total - share.label) <= _NEAR for name, value in trust.items()}
    if not all(fits[name] != other[name] for name in trust):
        return {}
    return {name: float(fits[name]) for name in trust}


def _answers(results: Any) -> list[dict[str, Any]]:
    if isinstance(results, str):
        try:
            results = json.loads(results)
        except ValueError:
            return [{}]
    return [dict(answer) for answer in results or () if isinstance(answer, Mapping)]


def _trust(answer: Mapping[str, Any]) -> float | None:
    """The annotator's global score."""
    details = answer.get("userDetails") or answer.get("user_details") or {}
    scores = details.get("userScores", details.get("userScore"))
    if isinstance(scores, Mapping):
        scores = scores.get("global")
    return number_of(scores)


def _job_rows(table: Table, options: RapidataOptions) -> Iterator[SourceRow]:
    """A pair for each result of a compare job, images in the order of `aggregatedResults`."""
    axis = options.axis or PREFERENCE
    folder = Path(options.images_dir) if options.images_dir else None
    number = 0
    for _, job in records(table):
        for result in job.get(RESULTS) or ():
            counts = dict(result.get("aggregatedResults") or {})
            names = [*counts, "?", "?"][:2]
            shares = result.get("summedUserScores") or counts
            share = by_counts(shares.get(names[0]), shares.get(names[1]), ["summedUserScores"])
            judged = _judged(
                share._replace(weight=None),
                result.get("detailedResults"),
                [{name} for name in names],
                axis,
            )
            problem = None if len(counts) == 2 else "aggregatedResults does not name two images"
            urls = result.get("assetUrls") or {}
            sides = [_asset(name, slot, urls, folder, options) for slot, name in enumerate(names)]
            prompt = word_of(result.get("context"))
            extra = {"winner": result.get("winner")}
            yield _pair(table, options, number, prompt, sides, {axis: judged}, extra, {}, problem)
            number += 1


def _asset(
    name: str, slot: int, urls: Any, folder: Path | None, options: RapidataOptions
) -> SourceImage:
    """The file of that name; without --images-dir the address or the name alone."""
    if folder is not None:
        return file_image(folder / PurePosixPath(name).name, options.images)
    address = urls.get(name) if isinstance(urls, Mapping) else [*urls, None, None][slot]
    return SourceImage(address if str(address).startswith(ADDRESS) else name, None)


def _pair(
    table: Table,
    options: RapidataOptions,
    number: int,
    prompt: str | None,
    sides: Sequence[SourceImage],
    judged: Mapping[str, _Judged],
    extra: Mapping[str, Any],
    row: Mapping[str, Any],
    problem: str | None = None,
) -> SourceRow:
    label = judged[PREFERENCE].label if PREFERENCE in judged else AxisLabel(None)
    unread = [axis for axis, entry in judged.items() if entry.unread]
    kept = {
        axis: row.get(f"detailed_results_{axis}", row.get("detailed_results")) for axis in unread
    }
    faults = [entry.share.problem for entry in judged.values() if entry.share.problem]
    split = re.sub(r"_\d+$", "", word_of(row.get("split")) or table.split or "")
    return SourceRow(
        prompt=prompt,
        image_0=sides[0],
        image_1=sides[1],
        label=label.label,
        label_weight=label.weight,
        axes={axis: entry.label for axis, entry in judged.items() if axis != PREFERENCE},
        split=options.split or split or None,
        votes=tuple(vote for entry in judged.values() for vote in entry.votes),
        extra={**extra, **({"unread_results": json.dumps(kept)} if kept else {})},
        source_file=real_path(table.path),
        source_row=number,
        problem=problem or (faults[0] if faults else None),
    )
