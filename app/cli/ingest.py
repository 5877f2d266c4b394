"""`outvoted ingest`: take a source into a store. Data sets with a name of their own stand here."""

from typing import Annotated

import typer

from app.cli import ingest_tables
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

app = typer.Typer(help="Read pairs into a store.", no_args_is_help=True)
app.command("chosen-rejected")(ingest_tables.chosen_rejected)
app.command("folders")(ingest_tables.folders)
app.command("votes")(ingest_tables.votes)
app.command("released-npy")(ingest_tables.released_npy)


@app.command("pickapic")
def pickapic(
    paths: Annotated[
        list[str], typer.Argument(help="Parquet files, folders of them, or saved `datasets`.")
    ],
    store: StoreOption,
    images: ImagesOption = Images.copy,
    limit: LimitOption = None,
    split: SplitOption = None,
    pseudonyms: PseudonymsOption = False,
    shard: ShardOption = None,
    new: NewOption = False,
) -> None:
    """Pick-a-Pic v1 or v2, with or without images."""
    from toolkit.ingest.pickapic import ingest_pickapic, open_pickapic
    from toolkit.ingest.records import check_split
    from toolkit.sharding import read_shard

    check_split(split)
    source = open_pickapic(paths, shard=read_shard(shard))
    take_in(
        store,
        new,
        source.rows,
        ingest_pickapic,
        source,
        images=images.value,
        split=split,
        limit=limit,
        shard=shard,
        pseudonyms=pseudonyms,
    )


@app.command("hpd")
def hpd(
    paths: PathsArgument,
    store: StoreOption,
    images_dir: FolderOption = None,
    images: ImagesOption = Images.copy,
    limit: LimitOption = None,
    split: SplitOption = None,
    pseudonyms: PseudonymsOption = False,
    shard: ShardOption = None,
    new: NewOption = False,
) -> None:
    """HPDv2's train.json and test.json, or HPDv3's lists."""
    from toolkit.ingest.hpd import ingest_hpd, open_hpd
    from toolkit.ingest.records import check_split
    from toolkit.sharding import read_shard

    check_split(split)
    source = open_hpd(paths, images_dir, shard=read_shard(shard))
    take_in(
        store,
        new,
        None if source.rankings else source.rows,
        ingest_hpd,
        source,
        images=images.value,
        split=split,
        limit=limit,
        shard=shard,
        pseudonyms=pseudonyms,
    )


@app.command("imagereward")
def imagereward(
    paths: PathsArgument,
    store: StoreOption,
    images_dir: FolderOption = None,
    images: ImagesOption = Images.copy,
    limit: LimitOption = None,
    split: SplitOption = None,
    shard: ShardOption = None,
    new: NewOption = False,
) -> None:
    """ImageReward's rankings, or ImageRewardDB's rows."""
    from toolkit.ingest.imagereward import ingest_imagereward, open_imagereward
    from toolkit.ingest.records import check_split
    from toolkit.sharding import read_shard

    check_split(split)
    source = open_imagereward(paths, images_dir, shard=read_shard(shard))
    take_in(
        store,
        new,
        None,  # a ranking gives as many pairs as its images allow
        ingest_imagereward,
        source,
        images=images.value,
        split=split,
        limit=limit,
        shard=shard,
    )


@app.command("image-preferences")
def image_preferences(
    paths: PathsArgument,
    store: StoreOption,
    images_dir: FolderOption = None,
    images: ImagesOption = Images.copy,
    limit: LimitOption = None,
    split: SplitOption = None,
    pseudonyms: PseudonymsOption = False,
    shard: ShardOption = None,
    new: NewOption = False,
) -> None:
    """open-image-preferences: answers, or binarised."""
    from toolkit.ingest.image_preferences import ingest_image_preferences, open_image_preferences
    from toolkit.ingest.records import check_split
    from toolkit.sharding import read_shard

    check_split(split)
    source = open_image_preferences(paths, images_dir, shard=read_shard(shard))
    take_in(
        store,
        new,
        source.rows,
        ingest_image_preferences,
        source,
        images=images.value,
        split=split,
        limit=limit,
        shard=shard,
        pseudonyms=pseudonyms,
    )


@app.command("ratings")
def ratings(
    table: Annotated[str, typer.Argument(help="CSV or Parquet table, one image a row.")],
    store: StoreOption,
    images_dir: Annotated[str, typer.Option(help="Folder of the image files.")],
    image_column: Annotated[str, typer.Option(help="Column of the image's file name.")] = "name",
    prompt_column: Annotated[str, typer.Option(help="Column of the prompt.")] = "prompt",
    score_column: Annotated[str, typer.Option(help="Column of the score.")] = "mos_align",
    sd_column: Annotated[
        str | None, typer.Option(help="Column of the score's standard deviation.")
    ] = None,
    min_gap: Annotated[
        float, typer.Option(min=0, help="Smallest gap of two scores in a pair.")
    ] = 0.5,
    model_pattern: Annotated[
        str | None, typer.Option(help="Regular expression; its group 1 is the model in a name.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    images: ImagesOption = Images.copy,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N pairs.")] = None,
    shard: ShardOption = None,
    new: NewOption = False,
) -> None:
    """A table of per-image scores.

    Images of one prompt become pairs where their scores differ enough (source: mos).
    """
    from toolkit.ingest.ratings import Ratings, count_pairs, ingest_ratings, open_ratings
    from toolkit.sharding import read_shard

    source = open_ratings(
        Ratings(
            table,
            images_dir,
            image_column,
            prompt_column,
            score_column,
            sd_column,
            min_gap,
            split,
            model_pattern,
        ),
        shard=read_shard(shard),
    )
    take_in(
        store,
        new,
        count_pairs(source),
        ingest_ratings,
        source,
        images=images.value,
        limit=limit,
        shard=shard,
    )
