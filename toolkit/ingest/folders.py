"""Two folders of equally named images, the first preferred, and a caption for each name.

A caption is the text of NAME.txt or NAME.caption, looked for in the captions' folder, else beside
either image: what `outvoted export --format kohya` writes and scripts of that family read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

from toolkit.errors import InputError
from toolkit.ingest.source import Opened, PairOptions, Source, SourceRow, as_batches
from toolkit.ingest.tabular import file_image
from toolkit.ingest.writer import open_pairs

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
CAPTIONS = (".txt", ".caption")


@dataclass(frozen=True)
class FoldersOptions(PairOptions):
    """Options of `outvoted ingest folders`."""

    chosen: Annotated[str | Path, "Folder of the preferred images."]
    rejected: Annotated[str | Path, "Folder of the other images, under the same names."]
    _: KW_ONLY
    captions: Annotated[str | Path | None, "Folder of NAME.txt; default: beside the images."] = None


def open_folders(options: FoldersOptions) -> Opened:
    """Match the two folders by name (without suffix). InputError where nothing matches."""
    folders = [Path(options.chosen), Path(options.rejected)]
    for folder in (*folders, *([Path(options.captions)] if options.captions else [])):
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; name the folder of the images.")
    chosen, rejected = (_images(folder) for folder in folders)
    names = sorted(chosen.keys() & rejected.keys())
    if not names:
        raise InputError(
            f"No image of {folders[0]} has a partner of the same name in {folders[1]} "
            f"({len(chosen)} and {len(rejected)} images); give partners equal names."
        )
    shard = options.part
    pairs = [
        (chosen[name], rejected[name])
        for place, name in enumerate(names)
        if shard is None or shard.has(place)
    ]
    alone = len(chosen.keys() ^ rejected.keys())
    return open_pairs(
        FOLDERS.name,
        options,
        lambda: as_batches(islice(folder_rows(pairs, options), options.limit), options),
        rows=len(pairs),
        notes=[f"left out {alone:,} images without a partner of their name"] if alone else [],
    )


FOLDERS = Source(
    "folders",
    "Two folders of equally named images, with captions",
    FoldersOptions,
    open_folders,
    stored_as="folders",
)


def folder_rows(pairs: Sequence[tuple[Path, Path]], options: FoldersOptions) -> Iterator[SourceRow]:
    """The pairs by name; image_0 is the preferred one."""
    for number, (chosen, rejected) in enumerate(pairs):
        caption = _caption(options.captions, chosen, rejected)
        missing = "the image has no caption (NAME.txt or NAME.caption)"
        yield SourceRow(
            prompt=caption,
            image_0=file_image(chosen, options.images),
            image_1=file_image(rejected, options.images),
            label=1.0,
            split=options.split,
            source_file=str(chosen.resolve()),
            source_row=number,
            problem=None if caption is not None else missing,
        )


def _images(folder: Path) -> dict[str, Path]:
    files = (f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and f.name[0] != ".")
    return {file.stem: file for file in sorted(files)}


def _caption(captions: str | Path | None, *beside: Path) -> str | None:
    folders = [Path(captions)] if captions else [file.parent for file in beside]
    for folder in folders:
        for suffix in CAPTIONS:
            file = folder / (beside[0].stem + suffix)
            if file.is_file():
                return file.read_bytes().decode("utf-8", "replace").rstrip("\r\n")
    return None
