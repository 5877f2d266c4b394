"""Two folders of equally named images, the first preferred, and a caption for each name.

A caption is the text of NAME.txt or NAME.caption, looked for in the captions' folder, else beside
either image: what `outvoted export --format kohya` writes and scripts of that family read.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

from toolkit.errors import InputError
from toolkit.files.text import read_text
from toolkit.ingest.source import (
    ENCODING,
    OUTSIDE,
    Opened,
    PairOptions,
    Source,
    SourceImage,
    SourceRow,
    as_batches,
)
from toolkit.ingest.tabular import file_image, path_problem
from toolkit.ingest.writer import open_pairs
from toolkit.store.images import real_path

SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".jxl", ".jp2"),
)
CAPTIONS = (".txt", ".caption")


@dataclass(frozen=True)
class FoldersOptions(PairOptions):
    """Options of `outvoted ingest folders`."""

    chosen: Annotated[str | Path, "Folder of the preferred images."]
    rejected: Annotated[str | Path, "Folder of the other images, under the same names."]
    _: KW_ONLY
    captions: Annotated[str | Path | None, "Folder of NAME.txt; default: beside the images."] = None
    allow_outside: Annotated[bool, OUTSIDE] = False
    encoding: Annotated[str | None, ENCODING] = None


def open_folders(options: FoldersOptions) -> Opened:
    """Match the two folders by name (without suffix). InputError where nothing matches."""
    folders = [Path(options.chosen), Path(options.rejected)]
    for folder in (*folders, *([Path(options.captions)] if options.captions else [])):
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; name the folder of the images.")
    (chosen, others), (rejected, more) = (_images(folder) for folder in folders)
    matched = _partners(chosen, rejected)
    if not matched:
        raise InputError(
            f"No image of {folders[0]} has a partner of the same name in {folders[1]} "
            f"({len(chosen)} and {len(rejected)} images); give partners equal names."
        )
    shard = options.part
    pairs = [pair for place, pair in enumerate(matched) if shard is None or shard.has(place)]
    notes = []
    if alone := len(chosen) + len(rejected) - 2 * len(matched):
        notes.append(f"left out {alone:,} images without a partner of their name")
    others += more
    if others:
        kinds = ", ".join(sorted({file.suffix or file.name for file in others}))
        notes.append(f"left out {len(others):,} files that are neither image nor caption ({kinds})")
    return open_pairs(
        FOLDERS.name,
        options,
        lambda: as_batches(islice(folder_rows(pairs, options), options.limit), options),
        rows=len(pairs),
        notes=notes,
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
        caption, problem = _caption(options, chosen, rejected)
        yield SourceRow(
            prompt=caption,
            image_0=_image(chosen, options),
            image_1=_image(rejected, options),
            label=1.0,
            split=options.split,
            source_file=real_path(chosen),
            source_row=number,
            problem=problem,
        )


def _image(file: Path, options: FoldersOptions) -> SourceImage:
    if problem := path_problem(file.name, file.parent, options.allow_outside):
        return SourceImage(file.name, None, problem)
    return file_image(file, options.images)


def _images(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images of a folder, and the files that are neither images nor captions."""
    files = sorted(f for f in folder.iterdir() if not (f.is_dir() or f.name.startswith(".")))
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    return images, [f for f in files if f.suffix.lower() not in (*SUFFIXES, *CAPTIONS)]


def _partners(chosen: Sequence[Path], rejected: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Files of the same name; then those of the same stem, where it names one file on each side."""
    whole = {file.name: file for file in rejected}
    pairs = [(file, whole[file.name]) for file in chosen if file.name in whole]
    done = {file for pair in pairs for file in pair}
    sides: list[dict[str, Path]] = []
    for files in (chosen, rejected):
        stems = Counter(file.stem for file in files)
        sides.append({f.stem: f for f in files if stems[f.stem] == 1 and f not in done})
    pairs += [(sides[0][stem], sides[1][stem]) for stem in sides[0].keys() & sides[1].keys()]
    return sorted(pairs, key=lambda pair: (pair[0].stem, pair[0].name))


def _caption(options: FoldersOptions, *beside: Path) -> tuple[str | None, str | None]:
    """The caption, or what is wrong with it."""
    folders = [Path(options.captions)] if options.captions else [file.parent for file in beside]
    for folder in folders:
        for suffix in CAPTIONS:
            file = folder / (beside[0].stem + suffix)
            if not file.is_file():
                continue
            if problem := path_problem(file.name, folder, options.allow_outside):
                return None, f"the caption: {problem}"
            try:
                return read_text(file, options.encoding).rstrip("\r\n"), None
            except InputError as wrong:
                return None, f"the caption cannot be read ({wrong})"
    return None, "the image has no caption (NAME.txt or NAME.caption)"
