"""`outvoted resume`: go on with a run that was stopped."""

from typing import Annotated

import typer


def resume(
    store: Annotated[str, typer.Argument(help="The store that holds the run.")],
    run: Annotated[str, typer.Option(help="The run to go on with.")],
    steps: Annotated[
        int | None, typer.Option(min=1, help="Train up to this many steps instead.")
    ] = None,
) -> None:
    """Go on with a run from its newest checkpoint, under the recipe that began it."""
    from rich.console import Console

    from app.cli.extras import needs
    from toolkit.store import open_store

    with needs("train"):
        from training.loop import resume as go_on
        from training.precision import speaks

    name = go_on(open_store(store), run, steps=steps, console=Console())
    if speaks():
        typer.echo(f"Run {name} is done; `outvoted analyze {store} --run {name}`")
