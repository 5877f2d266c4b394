"""ImageReward: rankings (id, prompt, generations, ranking), or ImageRewardDB's rows, one an image
or one a group of images (its lists of generations, ranks and ratings).

Every two images of a ranking become a pair, ties among them; their ranks are kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.ingest.rankings import Ranking, ranked_pairs
from toolkit.ingest.source import (
    ListOptions,
    Opened,
    Source,
    SourceImage,
    SourceRow,
    as_batches,
)
from toolkit.ingest.tabular import (
    Table,
    cell_image,
    checked_folder,
    find_tables,
    path_image,
    records,
)
from toolkit.ingest.writer import open_pairs
from toolkit.store.images import real_path

RANKINGS = ("prompt", "generations", "ranking")
GROUP = ("prompt", "generations", "rank")
PER_IMAGE = ("prompt_id", "prompt", "rank")
IMAGE = ("image", "image_path")
WHOLE = ("classification", "image_amount_in_total")
"""Columns of the per-image rows that say the same for every image of a prompt."""


def open_imagereward(options: ListOptions) -> Opened:
    """Find the files and their forms. InputError on one that has neither."""
    what = "ImageReward's list of rankings or images"
    tables = find_tables(options.paths, what=what, shard=options.part, encoding=options.encoding)
    for table in tables:
        names = table.schema.names
        per_image = all(n in names for n in PER_IMAGE) and any(n in names for n in IMAGE)
        if not per_image and not _ranks(table):
            raise InputError(
                f"{table.path} has the columns {', '.join(names)}; rankings need "
                f"{', '.join(RANKINGS)}, groups {', '.join(GROUP)}, rows of images "
                f"{', '.join(PER_IMAGE)} and image or image_path. Name a file that has them."
            )
    checked_folder(options.images_dir)
    return open_pairs(
        IMAGEREWARD.name, options, lambda: as_batches(imagereward_rows(tables, options), options)
    )


IMAGEREWARD = Source(
    "imagereward",
    "ImageReward's rankings, ImageRewardDB's images or groups",
    ListOptions,
    open_imagereward,
    stored_as="imagereward",
    safe_columns=("rank_0", "rank_1", "prompt_id", "classification", "image_amount_in_total"),
    cards=("imagereward",),
)


def imagereward_rows(tables: Sequence[Table], options: ListOptions) -> Iterator[SourceRow]:
    """The pairs of the rankings in order, of `options.limit` rankings at most."""
    every = (ranking for table in tables for ranking in _rankings(table, options))
    for ranking in islice(every, options.limit):
        yield from ranked_pairs(ranking)


def _ranks(table: Table) -> str | None:
    """The column of a row's ranks; None where a row is one image."""
    forms = (needed for needed in (RANKINGS, GROUP) if {*needed} <= {*table.schema.names})
    return next((needed[-1] for needed in forms), None)


def _rankings(table: Table, options: ListOptions) -> Iterator[Ranking]:
    split, file = options.split or table.split, real_path(table.path)
    folder = Path(options.images_dir or table.path.parent)
    where: dict[str, Any] = {"folder": folder, "outside": options.allow_outside}
    column = _ranks(table)
    if column is None:
        yield from _of_images(table, where, split, file)
        return
    for number, row in records(table):
        shown, ranks = row["generations"], row[column]
        shown = shown if isinstance(shown, list) else []
        key = row.get("id", row.get("prompt_id"))
        each = [
            name
            for name, value in row.items()
            if isinstance(value, list) and len(value) == len(shown)
            if name not in ("generations", column)
        ]
        own = {*RANKINGS, *GROUP, "id", *each}
        yield Ranking(
            prompt=row["prompt"],
            images=[
                cell_image(table, number, "generations", image, mode=options.images, **where)
                if isinstance(image, dict)
                else path_image(str(image), **where)
                for image in shown
            ],
            ranks=ranks if isinstance(ranks, list) else (),
            split=split,
            extra={n: v for n, v in row.items() if n not in own} | {"prompt_id": key},
            each=[{name: row[name][place] for name in each} for place in range(len(shown))],
            distinguishing=("" if key is None else str(key),),
            source_file=file,
            source_row=number,
        )


def _of_images(
    table: Table, where: dict[str, Any], split: str | None, file: str
) -> Iterator[Ranking]:
    """Rankings from rows of images. Images in cells are not read until they are written."""
    by_prompt: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    blobs = "image" in table.schema.names
    names = [name for name in table.schema.names if name != "image" or table.kind == "json"]
    # A ranking may extend over units, so rankings are distributed, and every row is read.
    for number, row in records(replace(table, shard=None), names):
        by_prompt.setdefault(str(row["prompt_id"]), []).append((number, row))
    own = {*PER_IMAGE, *IMAGE, *WHOLE}
    for place, (prompt_id, rows) in enumerate(by_prompt.items()):
        if not table.deals(place):
            continue
        first = rows[0][1]
        yield Ranking(
            prompt=first["prompt"],
            images=[_image(table, number, row, where, blobs) for number, row in rows],
            ranks=[row["rank"] for _, row in rows],
            split=split,
            extra={name: first.get(name) for name in ("prompt_id", *WHOLE)},
            each=[{n: v for n, v in row.items() if n not in own} for _, row in rows],
            distinguishing=(prompt_id,),
            source_file=file,
            source_row=rows[0][0],
        )


def _image(
    table: Table, number: int, row: dict[str, Any], where: dict[str, Any], blobs: bool
) -> SourceImage:
    path, value = row.get("image_path"), row.get("image")
    if blobs:
        uid = str(path) if path else f"{table.path.name}:{number}:image"
        return cell_image(table, number, "image", value, mode="reference", uid=uid, **where)
    return path_image(str(path or ""), **where)
