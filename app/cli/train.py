"""`outvoted train`: run a recipe."""

from typing import Annotated

import typer


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe in YAML.")],
    store: Annotated[str | None, typer.Option(help="Overrides the recipe's store.")] = None,
    run: Annotated[str | None, typer.Option(help="Overrides the recipe's run name.")] = None,
    labels: Annotated[str | None, typer.Option(help="Overrides the recipe's label set.")] = None,
    steps: Annotated[int | None, typer.Option(help="Overrides the recipe's steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides the recipe's seed.")] = None,
) -> None:
    """Train a backbone on the pairs of a store, logging every pair's errors into it."""
    from rich.console import Console

    from app.cli.extras import needs

    with needs("train"):
        from training.loop import train as run_recipe
        from training.precision import speaks
        from training.recipe import load_recipe

    settings = load_recipe(recipe, store=store, run=run, labels=labels, steps=steps, seed=seed)
    name = run_recipe(settings, console=Console())
    if speaks():
        typer.echo(
            f"Run {name} is in {settings.store}; `outvoted analyze {settings.store} --run {name}`"
        )
