"""`outvoted ingest`: ways in for tables and folders of anybody's making."""

from enum import StrEnum
from typing import Annotated

import typer

from app.cli.ingest_options import (
    FolderOption,
    Images,
    ImagesOption,
    LimitOption,
    NewOption,
    PathsArgument,
    PseudonymsOption,
    ShardOption,
    SplitOption,
    StoreOption,
    take_in,
)


class By(StrEnum):
    """What the entries of an index are."""

    row = "row"
    source_row = "source-row"
    pair_id = "pair_id"


def chosen_rejected(
    paths: PathsArgument,
    store: StoreOption,
    prompt_column: Annotated[str, typer.Option(help="Column of the prompt.")] = "prompt",
    chosen_column: Annotated[str, typer.Option(help="Column of the chosen image.")] = "chosen",
    rejected_column: Annotated[
        str, typer.Option(help="Column of the rejected image.")
    ] = "rejected",
    label_column: Annotated[
        str, typer.Option(help="Column that says 0 where the chosen image came second, .5: tie.")
    ] = "label_0",
    annotator_column: Annotated[str, typer.Option(help="Column of the annotator.")] = "user_id",
    images_dir: FolderOption = None,
    images: ImagesOption = Images.copy,
    limit: LimitOption = None,
    split: SplitOption = None,
    pseudonyms: PseudonymsOption = False,
    shard: ShardOption = None,
    new: NewOption = False,
) -> None:
    """A table of prompt, chosen and rejected image.

    Parquet, JSON, CSV, or a folder saved by `datasets`.
    """
    from toolkit.ingest.chosen_rejected import Columns, ingest_chosen_rejected, open_chosen_rejected
    from toolkit.ingest.records import check_split
    from toolkit.sharding import read_shard

    check_split(split)
    columns = Columns(
        prompt_column,
        chosen_column,
        rejected_column,
        label_column,
        annotator=annotator_column,
    )
    source = open_chosen_rejected(paths, columns, images_dir=images_dir, shard=read_shard(shard))
    take_in(
        store,
        new,
        source.rows,
        ingest_chosen_rejected,
        source,
        images=images.value,
        split=split,
        limit=limit,
        shard=shard,
        pseudonyms=pseudonyms,
    )


def folders(
    chosen: Annotated[str, typer.Argument(help="Folder of the preferred images.")],
    rejected: Annotated[str, typer.Argument(help="Folder of the others, by the same names.")],
    store: StoreOption,
    captions: Annotated[
        str | None, typer.Option(help="Folder of NAME.txt; else beside the images.")
    ] = None,
    images: ImagesOption = Images.copy,
    limit: LimitOption = None,
    split: SplitOption = None,
    shard: ShardOption = None,
    new: NewOption = False,
) -> None:
    """Two folders of equally named images, and captions."""
    from toolkit.ingest.folders import ingest_folders, open_folders
    from toolkit.ingest.records import check_split
    from toolkit.sharding import read_shard

    check_split(split)
    source = open_folders(chosen, rejected, captions, shard=read_shard(shard))
    take_in(
        store,
        new,
        source.rows,
        ingest_folders,
        source,
        images=images.value,
        split=split,
        limit=limit,
        shard=shard,
    )


def votes(
    paths: PathsArgument,
    store: Annotated[str, typer.Option("--store", help="The store that has the pairs.")],
    pair_column: Annotated[str, typer.Option(help="Column of the pair_id.")] = "pair_id",
    annotator_column: Annotated[str, typer.Option(help="Column of the annotator.")] = "annotator",
    choice_column: Annotated[
        str, typer.Option(help="Column of 1, 0, .5, or image_0, image_1, tie.")
    ] = "choice",
    time_column: Annotated[str, typer.Option(help="Column of the time, if any.")] = "time",
    limit: LimitOption = None,
    pseudonyms: PseudonymsOption = False,
) -> None:
    """More votes on pairs that are in the store already."""
    from toolkit.ingest.votes import VoteColumns, ingest_votes, open_votes
    from toolkit.store import open_store

    source = open_votes(
        paths, VoteColumns(pair_column, annotator_column, choice_column, time_column)
    )
    open_store(store)
    take_in(store, False, source.rows, ingest_votes, source, limit=limit, pseudonyms=pseudonyms)


def released_npy(
    paths: PathsArgument,
    store: Annotated[str, typer.Option("--store", help="The store that has the pairs.")],
    run: Annotated[str, typer.Option(help="Name of the run that is made of them.")],
    column: Annotated[
        str, typer.Option(help="What the values are: minority, confidence, stability, ell, loss.")
    ] = "minority",
    index: Annotated[
        list[str] | None, typer.Option(help=".npy files that say which pair each value is of.")
    ] = None,
    by: Annotated[
        By, typer.Option(help="What the index holds: the store's rows, the source's, or pair_ids.")
    ] = By.row,
    labels: Annotated[str, typer.Option(help="Label set that the trainer saw.")] = "original",
) -> None:
    """Another trainer's score arrays, as a run.

    Reads the .npy arrays that its processes wrote, into a run with a finding.
    """
    from toolkit.ingest.score_arrays import ingest_released_npy, open_released_npy
    from toolkit.store import open_store

    source = open_released_npy(paths, column, index or ())
    opened = open_store(store)
    joined = ingest_released_npy(opened, source, run=run, by=by.value, labels=labels)
    for line in joined.lines():
        typer.echo(line)
