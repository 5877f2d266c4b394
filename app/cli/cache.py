"""`outvoted cache`: encode a recipe's images and prompts ahead of its run."""

from typing import Annotated

import typer


def cache(
    recipe: Annotated[str, typer.Argument(help="A recipe in YAML.")],
    store: Annotated[str | None, typer.Option(help="Overrides the recipe's store.")] = None,
    shard: Annotated[
        str | None, typer.Option(help="i/n: only every n-th image and prompt, from i = 0.")
    ] = None,
) -> None:
    """Fill the store's caches for a recipe: images through the VAE, prompts through the text
    encoders. May be stopped and started again; under `accelerate launch` the work is shared, and by
    --shard among jobs that know nothing of each other."""
    from rich.console import Console

    from app.cli.extras import needs
    from toolkit.dealing import read_shard

    with needs("train"):
        from training.fill import fill
        from training.recipe import load_recipe

    share = read_shard(shard)
    images, prompts = fill(load_recipe(recipe, store=store), shard=share, console=Console())
    told = f" (shard {share})" if share else ""
    typer.echo(f"{images} images and {prompts} prompts encoded by this process{told}")
