"""What every way in shares: its options, the progress bar, the summary."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from toolkit.ingest import Summary
    from toolkit.store import Store


class Images(StrEnum):
    """What becomes of the source's images."""

    copy = "copy"
    reference = "reference"


PathsArgument = Annotated[list[str], typer.Argument(help="Files, or folders of them.")]
StoreOption = Annotated[str, typer.Option("--store", help="The store's folder; made if absent.")]
NewOption = Annotated[bool, typer.Option("--new", help="Insist that there is no store yet.")]
ImagesOption = Annotated[
    Images,
    typer.Option(help="copy: into the store, verified; reference: leave them where they are."),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Read only the first N rows.")]
SplitOption = Annotated[
    str | None, typer.Option(help="train, validation or test; else as the source says.")
]
ShardOption = Annotated[
    str | None,
    typer.Option(help="i/n: only every n-th piece of the source, from i = 0; several at once."),
]
FolderOption = Annotated[
    str | None,
    typer.Option(help="Folder that paths in the file are relative to; its own by default."),
]
PseudonymsOption = Annotated[
    bool, typer.Option("--pseudonyms", help="Store annotators under keyed pseudonyms only.")
]


def take_in(
    store: str,
    new: bool,
    total: int | None,
    ingest: Callable[..., "Summary"],
    source: object,
    *,
    pseudonyms: bool | None = None,
    shard: str | None = None,
    **options: object,
) -> None:
    """Open or make the store, ingest with a bar, print the summary.

    The source was opened before: bad input leaves no store behind.
    """
    from toolkit.store import create_store, open_or_create
    from toolkit.store.pseudonyms import renamer

    opened = create_store(store) if new else open_or_create(store)
    if pseudonyms is not None:
        options["pseudonyms"] = renamer(opened) if pseudonyms else None
    limit = options.get("limit")
    if isinstance(limit, int) and total is not None:
        total = min(limit, total)
    with _progress(total) as progress:
        summary = ingest(opened, source, progress=progress, **options)
    if shard is not None:
        typer.echo(f"shard {shard} of the source:")
    _report(opened, summary)


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr with the time that is left; silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = ("rows", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("rows", total=total)
        yield lambda count: bar.advance(task, count)


def _report(store: "Store", summary: "Summary") -> None:
    for line in summary.lines():
        typer.echo(line)
    if left := store.unfinished():
        typer.echo(
            f"{len(left)} unfinished files of a killed command lie in {store.root}; nothing reads "
            f"them, and they may be deleted (the first: {left[0]})"
        )
