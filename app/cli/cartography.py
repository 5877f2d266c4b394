"""`outvoted cartography`: the metrics of training dynamics that any trainer wrote."""

from typing import Annotated

import typer

_SHOWN = 5
_NAMES = ("pair_id", "cartography_confidence")


def cartography(
    folder: Annotated[str, typer.Argument(help="Holds dynamics_epoch_0.jsonl and so on.")],
    out: Annotated[str, typer.Option(help="Where the metrics go.")] = "td_metrics.jsonl",
) -> None:
    """Read dataset cartography's training dynamics of two classes, and write its metrics.

    `outvoted analyze --dynamics FOLDER` writes such files for a run of this project.
    """
    from app.cli.extras import needs

    with needs("analyze"):
        from analysis.cartography_files import dynamics_metrics, read_dynamics, write_metrics
    from toolkit.errors import InputError

    read = read_dynamics(folder)
    table = dynamics_metrics(read)
    try:
        path = write_metrics(table, out)
    except OSError as problem:
        raise InputError(
            f"{out} cannot be written ({problem.strerror}); name a file in a folder you may write."
        ) from problem
    lowest = table.sort_by("cartography_confidence").slice(0, _SHOWN)
    typer.echo(f"{table.num_rows:,} examples over {read.visit.max() + 1:,} epochs")
    for guid, p in zip(*(lowest[n].to_pylist() for n in _NAMES), strict=True):
        typer.echo(f"hardest to learn: {guid}, mean probability of its label {p:.3f}")
    typer.echo(f"Metrics: {path}")
