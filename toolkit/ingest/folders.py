"""Two folders of equally named images, the first preferred, and a caption for each name.

A caption is the text of NAME.txt or NAME.caption, looked for in the captions' folder, else beside
either image: what `outvoted export --format kohya` writes and scripts of that family read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from toolkit.errors import InputError
from toolkit.ingest.records import SourceRow, Summary, check_split
from toolkit.ingest.tabular import file_image
from toolkit.ingest.writer import ImageMode, ingest_rows
from toolkit.sharding import Shard
from toolkit.store import Store

SOURCE = "folders"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
CAPTIONS = (".txt", ".caption")


@dataclass(frozen=True)
class ImageFolders:
    """Names that both folders hold, with their files."""

    chosen: Path
    rejected: Path
    captions: Path | None
    pairs: tuple[tuple[Path, Path], ...]
    alone: int
    """Images whose partner is absent."""

    @property
    def rows(self) -> int:
        """How many pairs there are."""
        return len(self.pairs)


def open_folders(
    chosen: str | Path,
    rejected: str | Path,
    captions: str | Path | None = None,
    *,
    shard: Shard | None = None,
) -> ImageFolders:
    """Match the two folders by name (without suffix). InputError where nothing matches."""
    folders = [Path(chosen), Path(rejected)]
    for folder in (*folders, *([Path(captions)] if captions else [])):
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; name the folder of the images.")
    found = [_images(folder) for folder in folders]
    names = sorted(found[0].keys() & found[1].keys())
    if not names:
        raise InputError(
            f"No image of {folders[0]} has a partner of the same name in {folders[1]} "
            f"({len(found[0])} and {len(found[1])} images); give partners equal names."
        )
    pairs = tuple(
        (found[0][name], found[1][name])
        for place, name in enumerate(names)
        if shard is None or shard.has(place)
    )
    alone = len(found[0].keys() ^ found[1].keys())
    return ImageFolders(folders[0], folders[1], Path(captions) if captions else None, pairs, alone)


def ingest_folders(
    store: Store,
    source: ImageFolders,
    *,
    images: ImageMode = "copy",
    split: str | None = None,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Add every matched pair to the store; one without a caption is quarantined."""
    check_split(split)
    rows = islice(folder_rows(source, images=images, split=split), limit)
    summary = ingest_rows(store, SOURCE, rows, images=images, progress=progress)
    if source.alone:
        summary.notes.append(f"left out {source.alone:,} images without a partner of their name")
    return summary


def folder_rows(
    source: ImageFolders, *, images: ImageMode = "copy", split: str | None = None
) -> Iterator[SourceRow]:
    """The pairs by name; image_0 is the preferred one."""
    for number, (chosen, rejected) in enumerate(source.pairs):
        sides = [file_image(file, images) for file in (chosen, rejected)]
        caption = _caption(source, chosen, rejected)
        unread = "the image has no caption (NAME.txt or NAME.caption)"
        yield SourceRow(
            prompt=caption,
            image_0=sides[0],
            image_1=sides[1],
            label=1.0,
            split=split,
            source_file=str(chosen.resolve()),
            source_row=number,
            problem=None if caption is not None else unread,
        )


def _images(folder: Path) -> dict[str, Path]:
    files = (f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and f.name[0] != ".")
    return {file.stem: file for file in sorted(files)}


def _caption(source: ImageFolders, *beside: Path) -> str | None:
    folders = [source.captions] if source.captions else [file.parent for file in beside]
    for folder in folders:
        for suffix in CAPTIONS:
            file = folder / (beside[0].stem + suffix)
            if file.is_file():
                return file.read_bytes().decode("utf-8", "replace").rstrip("\r\n")
    return None
