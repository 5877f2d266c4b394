"""`outvoted check`: is the store whole?

`outvoted thumbnails`: small pictures for the desk, drawn ahead.
"""

from typing import Annotated

import typer


def check(
    store: Annotated[str, typer.Argument(help="The store's folder.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Move bad parts to STORE/aside; delete nothing.")
    ] = False,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Bring an older store to this version's format.")
    ] = False,
    images: Annotated[bool, typer.Option(help="Hash every image that the store holds.")] = True,
) -> None:
    """Verify every part, hash, key and count; exit status 1 where something is wrong."""
    from rich.console import Console
    from rich.progress import Progress

    from toolkit.store import open_store
    from toolkit.store.integrity import check_store
    from toolkit.store.integrity import repair as put_aside
    from toolkit.store.migrations import migrate as bring_up

    if migrate:
        for number in bring_up(store):
            typer.echo(f"brought to format {number}")
    opened = open_store(store)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("parts", total=None)
        report = check_store(
            opened,
            bytes_too=images,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    typer.echo(", ".join(f"{name} {count:,}" for name, count in report.counts.items()))
    for note in report.notes:
        typer.echo(f"note: {note}")
    for fault in report.faults:
        typer.echo(f"wrong: {fault.line()}")
    moved = put_aside(opened, report) if repair else []
    for place in moved:
        typer.echo(f"moved to {place}")
    if not report.faults:
        typer.echo("the store is whole")
    elif not moved or any(not fault.files for fault in report.faults):
        raise typer.Exit(1)


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

    from toolkit.sharding import read_shard
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
