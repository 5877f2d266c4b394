"""The verbs of training.

`outvoted train` runs a recipe, `outvoted resume` continues a run that was stopped, `outvoted cache`
encodes a recipe's images and prompts ahead of its run, `outvoted probe` measures pairs under a
checkpoint, and `outvoted plan` estimates what a recipe will take.
"""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.estimate import Estimate


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe in YAML.")],
    store: Annotated[str | None, typer.Option(help="Overrides the recipe's store.")] = None,
    run: Annotated[str | None, typer.Option(help="Overrides the recipe's run name.")] = None,
    labels: Annotated[str | None, typer.Option(help="Overrides the recipe's label set.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=10**9, help="Overrides the recipe's steps.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Overrides the recipe's seed.")
    ] = None,
) -> None:
    """Run a training recipe on the pairs of a store.

    Every pair's errors are logged into the store, visit by visit.
    """
    from app.cli.console import ConsoleProgress, needs

    with needs("train"):
        from training.devices import is_main_process
        from training.recipe import load_recipe
        from training.trainer import train as run_recipe

    settings = load_recipe(recipe, store=store, run=run, labels=labels, steps=steps, seed=seed)
    with ConsoleProgress() as progress:
        name = run_recipe(settings, progress=progress)
    if is_main_process():
        typer.echo(
            f"Run {name} is in {settings.store}; `outvoted analyze {settings.store} --run {name}`"
        )


def resume(
    store: Annotated[str, typer.Argument(help="The run's store.")],
    run: Annotated[str, typer.Option(help="The run to resume.")],
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=10**9, help="Train up to this step instead of the recipe's."),
    ] = None,
    checkpoint: Annotated[
        int | None,
        typer.Option(min=0, max=10**9, help="Step of the checkpoint; the newest by default."),
    ] = None,
) -> None:
    """Resume a stopped run from its newest checkpoint.

    Where that is damaged, name the one before it. What the run recorded after the checkpoint is
    set aside, and recorded again.
    """
    from app.cli.console import ConsoleProgress, needs
    from toolkit.store import open_store

    with needs("train"):
        from training.devices import is_main_process
        from training.trainer import resume as resume_run

    with ConsoleProgress() as progress:
        opened = open_store(store)
        name = resume_run(opened, run, steps=steps, at=checkpoint, progress=progress)
    if is_main_process():
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
    from app.cli.console import ConsoleProgress, needs
    from toolkit.sharding import read_shard

    with needs("train"):
        from training.precompute import precompute
        from training.recipe import load_recipe

    share = read_shard(shard)
    with ConsoleProgress() as progress:
        images, prompts = precompute(
            load_recipe(recipe, store=store), shard=share, progress=progress
        )
    suffix = f" (shard {share})" if share else ""
    typer.echo(f"{images} images and {prompts} prompts encoded by this process{suffix}")


def probe(
    store: Annotated[str, typer.Argument(help="The run's store.")],
    run: Annotated[str, typer.Option(help="The run whose checkpoint is used.")],
    draws: Annotated[int, typer.Option(min=1, max=10_000, help="Noise draws a pair.")] = 4,
    checkpoint: Annotated[
        int | None,
        typer.Option(min=0, max=10**9, help="Step of the checkpoint; the newest by default."),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(help="Only pairs with this condition, such as 'minority > 0.5'."),
    ] = None,
    finding: Annotated[
        str, typer.Option(help="The run's finding whose columns --pairs may name.")
    ] = "minority",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the noise draws.")] = 0,
) -> None:
    """Measure pairs under a checkpoint, without training.

    Every pair, or those that pass --pairs, is measured under fixed noise draws. The rows are added
    to the run's trajectory with kind `probe`. Can be stopped and run again; `accelerate launch`
    shares the pairs among processes.
    """
    from app.cli.console import ConsoleProgress, needs
    from toolkit.store import open_store
    from toolkit.store.pair_table import passing
    from toolkit.store.runs import run_about

    with needs("train"):
        from training.devices import is_main_process
        from training.probe import probe_run

    opened = open_store(store)
    labels = run_about(opened, run)["labels"]
    wanted = None
    if pairs is not None:
        conditions = [("--pairs", pairs)]
        wanted = passing(opened, conditions, run=run, finding=finding, labels=labels)[0]
    with ConsoleProgress() as progress:
        done = probe_run(
            opened,
            run,
            draws=draws,
            step=checkpoint,
            pair_ids=wanted,
            seed=seed,
            progress=progress,
        )
    if is_main_process():
        typer.echo(f"{done} pairs measured under {draws} draws each")


def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe in YAML.")],
    store: Annotated[str | None, typer.Option(help="Overrides the recipe's store.")] = None,
    labels: Annotated[str | None, typer.Option(help="Overrides the recipe's label set.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=10**9, help="Overrides the recipe's steps.")
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            min=1, max=100_000, help="Number of devices like this one, under `accelerate launch`."
        ),
    ] = 1,
) -> None:
    """Estimate a run's memory, time and disk from two trial steps.

    Nothing is written.
    """
    from app.cli.console import needs, plain_console

    with needs("train"):
        from training.beta_conventions import describe_betas
        from training.estimate import estimate
        from training.recipe import load_recipe

    settings = load_recipe(recipe, store=store, labels=labels, steps=steps)
    with plain_console().status("loading, then two steps"):
        result = estimate(settings, processes)
    for line in describe_betas(settings, result.pairs_per_step):
        typer.echo(line)
    for name, text in summary(result):
        typer.echo(f"{name:<12} {text}")


def summary(result: "Estimate") -> list[tuple[str, str]]:
    """What the command prints, name and sentence."""
    return [
        (
            "pairs",
            f"{result.pairs:,} with {result.images:,} images and {result.prompts:,} prompts to "
            f"encode; {result.visits:.1f} visits each over {result.steps:,} steps of "
            f"{result.pairs_per_step}",
        ),
        (
            "device",
            result.device if result.processes == 1 else f"{result.processes} x {result.device}",
        ),
        ("trains", f"{result.trainable:,} numbers, {result.models} models"),
        ("memory", _memory(result)),
        ("speed", f"{result.pairs_per_second:.3g} pairs a second, once they are encoded"),
        ("time", _time(result)),
        ("cache", f"{size(result.cache_bytes)} {_cache(result)}"),
        (
            "disk",
            f"{size(result.trajectory_bytes)} of trajectories ({result.rows:,} rows"
            f"{_measured(result)}, {result.row_bytes:.0f} bytes each), "
            f"{size(result.checkpoint_bytes)} of checkpoints ({result.checkpoints})",
        ),
    ]


def _time(result: "Estimate") -> str:
    text = f"{result.hours:.3g} hours, {result.encoding_seconds / 3600:.2g} of them encoding"
    if result.measured:
        text += f" and {result.measuring_seconds / 3600:.2g} measuring probes and held-out pairs"
    if result.samples:
        text += f"; drawing {result.samples:,} samples comes on top and was not timed"
    return text


def _measured(result: "Estimate") -> str:
    return f", {result.measured:,} of probes and held-out pairs" if result.measured else ""


def _memory(result: "Estimate") -> str:
    peak = size(result.peak_memory)
    if not result.divided:
        return f"{peak} at most in the timed steps, on each device"
    whole = f"{peak} at most in the timed steps, in one process with the whole network"
    if result.processes == 1:
        return f"{whole}; --processes N estimates each of N devices under network.shard"
    return (
        f"{whole}; divided over {result.processes} about {size(result.shared_memory)} on each "
        "device by counting, and the block that computes on top (not measured)"
    )


def _cache(result: "Estimate") -> str:
    if result.cache_limit is None:
        return "on the store's disk"
    text = f"of host memory, up to {size(result.cache_limit)} allowed"
    if result.cache_bytes <= result.cache_limit:
        return text
    return f"{text}: it does not fit, so pairs are encoded at each visit; set caches.disk: true"


def size(count: float) -> str:
    """Bytes as people read them, in powers of ten."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
