"""`outvoted check`: is the store complete? `outvoted thumbnails`: small images for the desk."""

from typing import Annotated

import typer


def check(
    store: Annotated[str, typer.Argument(help="The store's folder or URL.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Move damaged parts to STORE/aside; delete nothing.")
    ] = False,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Bring an older store to this version's format.")
    ] = False,
    images: Annotated[bool, typer.Option(help="Also hash every image in the store.")] = True,
) -> None:
    """Verify every file, hash and key of a store.

    Exit status 1 if something is wrong and was not repaired.
    """
    from app.cli.console import ConsoleProgress
    from toolkit.store import open_store
    from toolkit.store.integrity import check_store
    from toolkit.store.integrity import repair as move_aside
    from toolkit.store.migrations import migrate as migrate_store

    if migrate:
        for number in migrate_store(store):
            typer.echo(f"migrated to format {number}")
    opened = open_store(store)
    with ConsoleProgress() as progress:
        report = check_store(opened, bytes_too=images, progress=progress)
    typer.echo(", ".join(f"{name} {count:,}" for name, count in report.counts.items()))
    for note in report.notes:
        typer.echo(f"note: {note}")
    for fault in report.faults:
        typer.echo(f"wrong: {fault.line()}")
    moved = move_aside(opened, report) if repair else []
    for path in moved:
        typer.echo(f"moved to {path}")
    if not report.faults:
        typer.echo("the store is whole")
    elif not moved or any(not fault.files for fault in report.faults):
        raise typer.Exit(1)


def thumbnails(
    store: Annotated[str, typer.Argument(help="The store's folder or URL.")],
    shard: Annotated[
        str | None, typer.Option(help="i/n: only shard i of n of the images, from i = 0.")
    ] = None,
) -> None:
    """Make the thumbnails of images kept by reference.

    Ingest makes those of copied images itself. Can be stopped and run again, and several processes
    can work at the same time.
    """
    from app.cli.console import ConsoleProgress
    from toolkit.ingest.new_images import make_thumbnails
    from toolkit.sharding import read_shard
    from toolkit.store import open_store

    only = read_shard(shard)
    opened = open_store(store)
    with ConsoleProgress() as progress:
        made = make_thumbnails(opened, shard=only, progress=progress)
    if only:
        typer.echo(f"shard {only} of the images:")
    for line in made.lines():
        typer.echo(line)
