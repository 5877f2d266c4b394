"""`outvoted probe`: measure pairs under a checkpoint, with fixed draws and no gradient."""

from typing import Annotated

import typer


def probe(
    store: Annotated[str, typer.Argument(help="The store that holds the run.")],
    run: Annotated[str, typer.Option(help="The run whose checkpoint measures.")],
    draws: Annotated[int, typer.Option(min=1, help="Fixed draws a pair.")] = 4,
    checkpoint: Annotated[
        int | None, typer.Option(help="Step of the checkpoint; the newest by default.")
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(help="Only pairs that pass this, such as 'minority > 0.5'."),
    ] = None,
    finding: Annotated[
        str, typer.Option(help="The run's finding whose columns the filter names.")
    ] = "minority",
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
) -> None:
    """Measure every pair, or those that pass a filter, under a run's checkpoint.

    The rows join the run's trajectory with kind `probe`. Stopped and started again it goes on;
    under `accelerate launch` the pairs are shared out.
    """
    from rich.console import Console

    from app.cli.extras import needs
    from toolkit.store import open_store
    from toolkit.store.filters import passing
    from toolkit.store.runs import run_about

    with needs("train"):
        from training.precision import speaks
        from training.probing import probe_run

    opened = open_store(store)
    labels = run_about(opened, run)["labels"]
    wanted = None
    if pairs is not None:
        conditions = [("--pairs", pairs)]
        wanted = passing(opened, conditions, run=run, finding=finding, labels=labels, seen=labels)[
            0
        ]
    done = probe_run(
        opened,
        run,
        draws=draws,
        step=checkpoint,
        pair_ids=wanted,
        seed=seed,
        console=Console(),
    )
    if speaks():
        typer.echo(f"{done} pairs measured under {draws} draws each")
