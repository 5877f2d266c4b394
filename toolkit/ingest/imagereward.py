"""ImageReward: rankings (id, prompt, generations, ranking), or ImageRewardDB's rows, one an image.

Every two images of a ranking become a pair, ties among them; ranks stay beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.ingest.rankings import Ranking, ranked_pairs
from toolkit.ingest.records import SourceImage, SourceRow, Summary, check_split
from toolkit.ingest.tabular import (
    Table,
    cell_image,
    checked_folder,
    find_tables,
    path_image,
    records,
)
from toolkit.ingest.writer import ImageMode, ingest_rows
from toolkit.sharding import Shard
from toolkit.store import Store

SOURCE = "imagereward"
RANKINGS = ("prompt", "generations", "ranking")
PER_IMAGE = ("prompt_id", "prompt", "rank")
IMAGE = ("image", "image_path")
WHOLE = ("classification", "image_amount_in_total")
"""Columns of the per-image rows that say the same for every image of a prompt."""


@dataclass(frozen=True)
class ImageRewardFiles:
    """Files whose form is known; nothing was read from them yet."""

    tables: tuple[Table, ...]
    images_dir: Path | None
    rows: int
    """Rankings, or images."""


def open_imagereward(
    paths: Sequence[str | Path],
    images_dir: str | Path | None = None,
    *,
    shard: Shard | None = None,
) -> ImageRewardFiles:
    """Find the files and tell their form. InputError on one that has neither."""
    tables = find_tables(paths, what="ImageReward's list of rankings or images", shard=shard)
    for table in tables:
        names = table.schema.names
        per_image = all(n in names for n in PER_IMAGE) and any(n in names for n in IMAGE)
        if not per_image and not _is_rankings(table):
            raise InputError(
                f"{table.path} has the columns {', '.join(names)}; rankings need "
                f"{', '.join(RANKINGS)}, rows of images {', '.join(PER_IMAGE)} and image or "
                "image_path. Name a file that has them."
            )
    rows = sum(table.rows for table in tables)
    return ImageRewardFiles(tables, checked_folder(images_dir), rows)


def ingest_imagereward(
    store: Store,
    source: ImageRewardFiles,
    *,
    images: ImageMode = "copy",
    split: str | None = None,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    pseudonyms: Callable[[str], int] | None = None,
) -> Summary:
    """Add the pairs (of the first `limit` rankings) to the store."""
    check_split(split)
    rows = imagereward_rows(source, split=split, limit=limit)
    return ingest_rows(store, SOURCE, rows, images=images, progress=progress, pseudonyms=pseudonyms)


def imagereward_rows(
    source: ImageRewardFiles, *, split: str | None = None, limit: int | None = None
) -> Iterator[SourceRow]:
    """The rankings' pairs in order."""
    every = (ranking for table in source.tables for ranking in _rankings(source, table, split))
    for ranking in islice(every, limit):
        yield from ranked_pairs(ranking)


def _is_rankings(table: Table) -> bool:
    return all(name in table.schema.names for name in RANKINGS)


def _rankings(source: ImageRewardFiles, table: Table, split: str | None) -> Iterator[Ranking]:
    folder = source.images_dir or table.path.parent
    told = split or table.split or _split_of(table)
    file = str(table.path.resolve())
    if not _is_rankings(table):
        yield from _of_images(table, folder, told, file)
        return
    for number, row in records(table):
        paths = row["generations"] or []
        own = {*RANKINGS, "id"}
        yield Ranking(
            prompt=row["prompt"],
            images=[path_image(str(path), folder) for path in paths],
            ranks=row["ranking"] or (),
            split=told,
            extra={n: v for n, v in row.items() if n not in own} | {"prompt_id": row.get("id")},
            distinguishing=(str(row.get("id", "")),),
            source_file=file,
            source_row=number,
        )


def _of_images(table: Table, folder: Path, split: str | None, file: str) -> Iterator[Ranking]:
    """Rankings from rows of images. Images that lie in cells stay there until they are written."""
    by_prompt: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    blobs = "image" in table.schema.names
    names = [name for name in table.schema.names if name != "image" or table.kind == "json"]
    # A ranking may lie across units, so the rankings are dealt out, and every row is looked at.
    for number, row in records(replace(table, shard=None), names):
        by_prompt.setdefault(str(row["prompt_id"]), []).append((number, row))
    own = {*PER_IMAGE, *IMAGE, *WHOLE}
    for place, (prompt_id, rows) in enumerate(by_prompt.items()):
        if not table.deals(place):
            continue
        first = rows[0][1]
        yield Ranking(
            prompt=first["prompt"],
            images=[_image(table, number, row, folder, blobs) for number, row in rows],
            ranks=[row["rank"] for _, row in rows],
            split=split,
            extra={name: first.get(name) for name in ("prompt_id", *WHOLE)},
            each=[{n: v for n, v in row.items() if n not in own} for _, row in rows],
            distinguishing=(prompt_id,),
            source_file=file,
            source_row=rows[0][0],
        )


def _image(
    table: Table, number: int, row: dict[str, Any], folder: Path, blobs: bool
) -> SourceImage:
    path = row.get("image_path")
    if blobs:
        uid = str(path) if path else f"{table.path.name}:{number}:image"
        return cell_image(table, number, "image", row.get("image"), folder, "reference", uid)
    return path_image(str(path or ""), folder)


def _split_of(table: Table) -> str | None:
    words = (*table.path.stem.replace("_", "-").split("-"), table.path.parent.name)
    return next((name for name in ("train", "validation", "test") if name in words), None)
