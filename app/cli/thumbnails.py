"""`outvoted thumbnails`: small pictures for the desk, drawn ahead."""

from typing import Annotated

import typer


def thumbnails(
    store: Annotated[str, typer.Argument(help="The store's folder.")],
    shard: Annotated[
        str | None, typer.Option(help="i/n: only every n-th share of the images, from i = 0.")
    ] = None,
) -> None:
    """Draw the thumbnails of images by reference, which an ingest leaves unopened. May be stopped
    and started again, and several may work at once."""
    from rich.console import Console
    from rich.progress import Progress

    from toolkit.dealing import read_shard
    from toolkit.store import open_store
    from toolkit.store.thumbnails import make_thumbnails

    share = read_shard(shard)
    opened, console = open_store(store), Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("images", total=None)
        drawn = make_thumbnails(
            opened,
            shard=share,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if share:
        typer.echo(f"shard {share} of the images:")
    for line in drawn.lines():
        typer.echo(line)
