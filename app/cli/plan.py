"""`outvoted plan`: what a recipe will take, before it is run."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.plan import Plan


def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe in YAML.")],
    store: Annotated[str | None, typer.Option(help="Overrides the recipe's store.")] = None,
    labels: Annotated[str | None, typer.Option(help="Overrides the recipe's label set.")] = None,
    steps: Annotated[int | None, typer.Option(help="Overrides the recipe's steps.")] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="As many devices like this one, under accelerate launch.")
    ] = 1,
) -> None:
    """Say memory, speed, hours and disk of a run, from two trial steps that write nothing."""
    from rich.console import Console

    from app.cli.extras import needs

    with needs("train"):
        from training.conventions import said
        from training.plan import plan as foresee
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
