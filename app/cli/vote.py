"""`outvoted vote`: the majority of label and further voices as a label set."""

from typing import Annotated

import typer


def vote(
    store: Annotated[str, typer.Argument(help="The store's folder.")],
    ballots: Annotated[
        str, typer.Option(help="Further voices: a Parquet or CSV file with pair_id, voice, choice.")
    ],
    name: Annotated[str, typer.Option(help="Name of the new label set.")] = "majority",
    base: Annotated[str, typer.Option(help="The label set that votes along.")] = "original",
) -> None:
    """Let further voices (scorers, votes) outvote labels: the majority as a label set."""
    from app.cli.extras import needs

    with needs("analyze"):
        from analysis.voting import vote_in_store
    from analysis.known import read_ballots
    from toolkit.store import open_store

    changed, heard = vote_in_store(
        open_store(store), read_ballots(ballots), name=name, base=base, source=ballots
    )
    typer.echo(f"Label set {name}: {changed} labels outvoted of {heard} pairs with further voices.")
