"""Ways into a store: one source a file, and one line in `SOURCES`.

ingest(store, "pickapic", paths, images="reference")     # as `outvoted ingest pickapic` does

The command line, its help, the README's table and the desk read the same entries. How to add one:
`toolkit.ingest.source`.
"""

from typing import Any

from toolkit.errors import InputError
from toolkit.ingest.chosen_rejected import CHOSEN_REJECTED
from toolkit.ingest.folders import FOLDERS
from toolkit.ingest.hpd import HPD
from toolkit.ingest.image_preferences import IMAGE_PREFERENCES
from toolkit.ingest.imagereward import IMAGEREWARD
from toolkit.ingest.pairwise import PAIRWISE
from toolkit.ingest.pickapic import PICKAPIC
from toolkit.ingest.rapidata import RAPIDATA
from toolkit.ingest.ratings import RATINGS
from toolkit.ingest.relational import RELATIONAL
from toolkit.ingest.score_arrays import RELEASED_NPY
from toolkit.ingest.source import (
    Batch,
    Opened,
    Options,
    PairOptions,
    Reference,
    Source,
    SourceImage,
    SourceRow,
    Vote,
)
from toolkit.ingest.summary import Summary
from toolkit.ingest.votes import FURTHER_VOTES
from toolkit.ingest.webdataset import WEBDATASET
from toolkit.ingest.wide import WIDE
from toolkit.ingest.writer import ingest_batches, ingest_rows
from toolkit.progress import SILENT, Progress
from toolkit.store import Store

__all__ = [
    "SOURCES",
    "Batch",
    "Opened",
    "Options",
    "PairOptions",
    "Reference",
    "Source",
    "SourceImage",
    "SourceRow",
    "Summary",
    "Vote",
    "ingest",
    "ingest_batches",
    "ingest_rows",
    "open_source",
    "sources_table",
]

SOURCES: dict[str, Source[Any]] = {
    source.name: source
    for source in (
        PICKAPIC,
        HPD,
        IMAGEREWARD,
        IMAGE_PREFERENCES,
        CHOSEN_REJECTED,
        PAIRWISE,
        RAPIDATA,
        RELATIONAL,
        WIDE,
        WEBDATASET,
        FOLDERS,
        RATINGS,
        FURTHER_VOTES,
        RELEASED_NPY,
    )
}
"""Name -> source."""


def open_source(name: str, *arguments: Any, **options: Any) -> Opened:
    """Find and check a source's files. InputError (one sentence) where they cannot be used.

    Arguments and options are those of `outvoted ingest NAME`, with `_` for `-`.
    """
    if name not in SOURCES:
        raise InputError(f"There is no source {name!r}; choose {', '.join(SOURCES)}.")
    source = SOURCES[name]
    return source.open(source.read_options(*arguments, **options))


def ingest(
    store: Store, name: str, *arguments: Any, progress: Progress = SILENT, **options: Any
) -> Any:
    """Add a source to a store: a `Summary` of its rows, or what else the source reports.

    Adding the same source again changes nothing. InputError where its files or options cannot be
    used (nothing was written), or where a file is damaged further in (the rows before the damage
    are in the store); StoreError where the store cannot be written.
    """
    return open_source(name, *arguments, **options).add(store, progress)


def sources_table() -> str:
    """The sources as a Markdown table."""
    rows = (f"| `{source.name}` | {source.about} |" for source in SOURCES.values())
    return "\n".join(["| `outvoted ingest` | reads |", "|---|---|", *rows])
