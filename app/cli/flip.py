"""`outvoted flip`: plant flips as a label set."""

from typing import Annotated

import typer


def flip(
    store: Annotated[str, typer.Argument(help="The store's folder.")],
    rate: Annotated[float, typer.Option(help="Share of the labelled pairs to flip, 0 to 1.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Which pairs: the same seed, the same pairs.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the new label set.")] = "flip20",
    base: Annotated[str, typer.Option(help="The label set that is flipped.")] = "original",
    by_gap: Annotated[
        str | None,
        typer.Option(help="Flip where this column's gap is small: NAME, or NAME for NAME_0, _1."),
    ] = None,
    gap_scale: Annotated[
        float | None, typer.Option(help="Gap at which a flip is e times rarer; else the median.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Look for the column in a finding of this run.")
    ] = None,
    finding: Annotated[str, typer.Option(help="That finding.")] = "minority",
) -> None:
    """Plant known flips: a label set in which a share of the labels is reversed."""
    from toolkit.store import open_store

    if by_gap is not None:
        from toolkit.store.relabel import plant_by_gap

        made = plant_by_gap(
            open_store(store),
            name,
            rate=rate,
            seed=seed,
            column=by_gap,
            scale=gap_scale,
            run=run,
            finding=finding,
            base=base,
        )
        typer.echo(
            f"Label set {name}: {made.changed} labels flipped, most where {by_gap} is small "
            f"(seed {seed})."
        )
        return
    from analysis.planted import plant_in_store

    flipped, labelled = plant_in_store(
        open_store(store), rate=rate, seed=seed, name=name, base=base
    )
    typer.echo(f"Label set {name}: {flipped} of {labelled} labels flipped (seed {seed}).")
