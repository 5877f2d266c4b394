"""`outvoted train`: run a recipe.

`outvoted resume`: go on with a run that was stopped.

`outvoted cache`: encode a recipe's images and prompts ahead of its run.

`outvoted probe`: measure pairs under a checkpoint, with fixed draws and no gradient.

`outvoted plan`: what a recipe will take, before it is run.
"""

from typing import TYPE_CHECKING, Annotated

import typer


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe in YAML.")],
    store: Annotated[str | None, typer.Option(help="Overrides the recipe's store.")] = None,
    run: Annotated[str | None, typer.Option(help="Overrides the recipe's run name.")] = None,
    labels: Annotated[str | None, typer.Option(help="Overrides the recipe's label set.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Overrides the recipe's steps.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Overrides the recipe's seed.")] = None,
) -> None:
    """Run a training recipe on the pairs of a store.

    Every pair's errors are logged into the store, visit by visit.
    """
    from rich.console import Console

    from app.cli.console import needs

    with needs("train"):
        from training.devices import speaks
        from training.recipe import load_recipe
        from training.trainer import train as run_recipe

    settings = load_recipe(recipe, store=store, run=run, labels=labels, steps=steps, seed=seed)
    name = run_recipe(settings, console=Console())
    if speaks():
        typer.echo(
            f"Run {name} is in {settings.store}; `outvoted analyze {settings.store} --run {name}`"
        )


def resume(
    store: Annotated[str, typer.Argument(help="The run's store.")],
    run: Annotated[str, typer.Option(help="The run to resume.")],
    steps: Annotated[
        int | None, typer.Option(min=1, help="Train up to this step instead of the recipe's.")
    ] = None,
) -> None:
    """Resume a stopped run from its newest checkpoint."""
    from rich.console import Console

    from app.cli.console import needs
    from toolkit.store import open_store

    with needs("train"):
        from training.devices import speaks
        from training.trainer import resume as go_on

    name = go_on(open_store(store), run, steps=steps, console=Console())
    if speaks():
        typer.echo(f"Run {name} is done; `outvoted analyze {store} --run {name}`")


def cache(
    recipe: Annotated[str, typer.Argument(help="A recipe in YAML.")],
    store: Annotated[str | None, typer.Option(help="Overrides the recipe's store.")] = None,
    shard: Annotated[
        str | None, typer.Option(help="i/n: only shard i of n of images and prompts, from i = 0.")
    ] = None,
) -> None:
    """Encode a recipe's images and prompts before training.

    Fills the store's caches: images through the VAE, prompts through the text encoders. Can be
    stopped and run again. The work is shared by `accelerate launch`, or among independent jobs by
    --shard.
    """
    from rich.console import Console

    from app.cli.console import needs
    from toolkit.sharding import read_shard

    with needs("train"):
        from training.precompute import fill
        from training.recipe import load_recipe

    share = read_shard(shard)
    images, prompts = fill(load_recipe(recipe, store=store), shard=share, console=Console())
    told = f" (shard {share})" if share else ""
    typer.echo(f"{images} images and {prompts} prompts encoded by this process{told}")


def probe(
    store: Annotated[str, typer.Argument(help="The run's store.")],
    run: Annotated[str, typer.Option(help="The run whose checkpoint is used.")],
    draws: Annotated[int, typer.Option(min=1, help="Noise draws a pair.")] = 4,
    checkpoint: Annotated[
        int | None, typer.Option(min=0, help="Step of the checkpoint; the newest by default.")
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(help="Only pairs with this condition, such as 'minority > 0.5'."),
    ] = None,
    finding: Annotated[
        str, typer.Option(help="The run's finding whose columns --pairs may name.")
    ] = "minority",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise draws.")] = 0,
) -> None:
    """Measure pairs under a checkpoint, without training.

    Every pair, or those that pass --pairs, is measured under fixed noise draws. The rows are added
    to the run's trajectory with kind `probe`. Can be stopped and run again; `accelerate launch`
    shares the pairs among processes.
    """
    from rich.console import Console

    from app.cli.console import needs
    from toolkit.store import open_store
    from toolkit.store.pair_table import passing
    from toolkit.store.runs import run_about

    with needs("train"):
        from training.devices import speaks
        from training.probe import probe_run

    opened = open_store(store)
    labels = run_about(opened, run)["labels"]
    wanted = None
    if pairs is not None:
        conditions = [("--pairs", pairs)]
        wanted = passing(opened, conditions, run=run, finding=finding, labels=labels)[0]
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


if TYPE_CHECKING:
    from training.estimate import Plan


def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe in YAML.")],
    store: Annotated[str | None, typer.Option(help="Overrides the recipe's store.")] = None,
    labels: Annotated[str | None, typer.Option(help="Overrides the recipe's label set.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Overrides the recipe's steps.")] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Number of devices like this one, under `accelerate launch`.")
    ] = 1,
) -> None:
    """Estimate a run's memory, time and disk from two trial steps.

    Nothing is written.
    """
    from rich.console import Console

    from app.cli.console import needs

    with needs("train"):
        from training.beta_conventions import said
        from training.estimate import plan as foresee
        from training.recipe import load_recipe

    settings = load_recipe(recipe, store=store, labels=labels, steps=steps)
    console = Console(soft_wrap=True, highlight=False)
    with console.status("loading, then two trial steps"):
        found = foresee(settings, processes)
    for line in said(settings, found.pairs_per_step):
        console.print(line, markup=False)
    for name, text in summary(found):
        console.print(f"{name:<12} {text}", markup=False)


def summary(found: "Plan") -> list[tuple[str, str]]:
    """What the command prints, name and sentence."""
    return [
        (
            "pairs",
            f"{found.pairs:,} with {found.images:,} images and {found.prompts:,} prompts; "
            f"{found.visits:.1f} visits each over {found.steps:,} steps of {found.pairs_per_step}",
        ),
        ("device", found.device if found.processes == 1 else f"{found.processes} x {found.device}"),
        ("trains", f"{found.numbers:,} numbers, {found.models} models"),
        ("memory", _memory(found)),
        ("speed", f"{found.pairs_per_second:.3g} pairs a second, once they are encoded"),
        ("time", _time(found)),
        (
            "cache",
            f"{size(found.cache_bytes)} {_room(found)}",
        ),
        (
            "disk",
            f"{size(found.trajectory_bytes)} of trajectories ({found.rows:,} rows"
            f"{_measured(found)}, {found.row_bytes:.0f} bytes each), "
            f"{size(found.checkpoint_bytes)} of checkpoints ({found.checkpoints})",
        ),
    ]


def _time(found: "Plan") -> str:
    said = f"{found.hours:.3g} hours, {found.encoding_seconds / 3600:.2g} of them encoding"
    if found.measured:
        said += f" and {found.measuring_seconds / 3600:.2g} measuring probes and held-out pairs"
    if found.samples:
        said += f"; drawing {found.samples:,} samples comes on top and was not tried"
    return said


def _measured(found: "Plan") -> str:
    return f", {found.measured:,} of probes and held-out pairs" if found.measured else ""


def _memory(found: "Plan") -> str:
    if not found.divided:
        return f"{size(found.peak_memory)} at most in the trial, on each device"
    trial = f"{size(found.peak_memory)} at most in the trial, of one process with the whole network"
    if found.processes == 1:
        return f"{trial}; --processes N says what network.shard leaves on each of N devices"
    return (
        f"{trial}; divided over {found.processes} about {size(found.shared_memory)} on each "
        "device by counting, and the block that computes on top (not tried)"
    )


def _room(found: "Plan") -> str:
    if found.cache_limit is None:
        return "on the store's disk"
    room = f"of host memory, up to {size(found.cache_limit)} allowed"
    if found.cache_bytes <= found.cache_limit:
        return room
    return f"{room}: what does not fit is encoded again at each visit; set caches.disk: true"


def size(count: float) -> str:
    """Bytes as people read them, in powers of ten."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
