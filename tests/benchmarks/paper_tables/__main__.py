"""Make a table of the paper on the mini world: `python -m tests.benchmarks.paper_tables TABLE`."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import plain_console
from tests.benchmarks.paper_tables.cells import Scale
from tests.benchmarks.paper_tables.run import run_table
from training.devices import device_of


def main(
    table: Annotated[str, typer.Argument(help="1, 2, 3, 8, 5, 6, 7 or G, as in the paper.")],
    out: Annotated[str, typer.Option(help="Folder of the world, the cells and pages.")] = "tables",
    cells: Annotated[
        int | None, typer.Option(min=0, help="Run this many at most; 0 only writes the page.")
    ] = None,
    rates: Annotated[
        list[float] | None,
        typer.Option("--rate", min=0, max=1, help="Only these shares of flips; may be repeated."),
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", min=0, help="Only these seeds; may be repeated.")
    ] = None,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="Only these rows; may be repeated.")
    ] = None,
    rival: Annotated[
        str | None, typer.Option(help="Compare with this row instead, on a page of its own.")
    ] = None,
    backbone: Annotated[str, typer.Option(help="The model that is aligned.")] = "miniature:sd",
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps a cell.")] = 1000,
    pairs: Annotated[int, typer.Option(min=10, help="Drawn pairs to train on.")] = 2000,
    device: Annotated[str, typer.Option(help="For samples: cpu, cuda or auto.")] = "auto",
) -> None:
    """Run the missing cells of a table, then write the table as Markdown.

    It can be stopped at any time: run it again to resume.
    """
    scale = Scale(
        backbone=backbone,
        steps=steps,
        every=max(1, steps // 10),
        pairs=pairs,
        held_out=max(20, pairs * 3 // 10),
        device=device_of(device),
    )
    page = run_table(
        table,
        Path(out),
        scale,
        limit=cells,
        rates=rates or (),
        seeds=seeds or (),
        methods=methods or (),
        rival=rival,
        console=plain_console(),
    )
    typer.echo(f"Table: {page.resolve()}")


if __name__ == "__main__":
    typer.run(main)
