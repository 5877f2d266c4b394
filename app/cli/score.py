"""`outvoted score` fills a store's scores; `outvoted scorers` lists scorers and sets them up."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from toolkit.scoring import Judge, Scorer
    from toolkit.scoring.run import Filled
    from toolkit.store import Store

scorers_app = typer.Typer(help="List scorers, or set one up.", no_args_is_help=False)


def score(
    store: Annotated[str, typer.Argument(help="The store's folder or URL.")],
    scorer: Annotated[
        list[str], typer.Option("--scorer", help="Name of a scorer; may be repeated.")
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(help="Model weights, PATH or ROLE=PATH. Not needed once registered."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Images a batch.")] = 32,
    shard: Annotated[
        str, typer.Option(help="Shard i/n, from i = 0. Set automatically by `accelerate launch`.")
    ] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, fp32, fp16 or bf16.")] = "auto",
    retry: Annotated[
        bool, typer.Option("--retry", help="Also retry images that could not be scored.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Move scores of other weights aside and start over."),
    ] = False,
) -> None:
    """Score every image and prompt that has no score yet.

    Scores are saved as they are computed; run the same command again to resume. Nothing is
    downloaded: register weights with `outvoted scorers weights`.
    """
    from app.cli.console import needs
    from toolkit.errors import InputError
    from toolkit.scoring import load, named
    from toolkit.store import open_store

    opened = open_store(store)
    chosen = [named(name) for name in dict.fromkeys(scorer)]
    if weights and len(chosen) > 1:
        raise InputError(
            "--weights belongs to one scorer, and several are named; register each one's with "
            "`outvoted scorers weights`."
        )
    part = shard_from(shard)
    for entry in chosen:
        typer.echo(f"loading {entry.name}")
        with needs("score"):
            loaded = load(entry, weights=weights or (), device=_own(device, part), dtype=dtype)
        options = {"batch": batch, "shard": part, "retry": retry, "replace": replace}
        try:
            typer.echo(summary(entry, _fill(opened, entry, loaded, options)))
        finally:
            loaded.close()


def _fill(store: "Store", entry: "Scorer", loaded: "Judge", options: dict[str, Any]) -> "Filled":
    from app.cli.console import ConsoleProgress
    from toolkit.scoring.run import fill

    with ConsoleProgress() as progress:
        return fill(store, entry, loaded, progress=progress, **options)


def shard_from(given: str) -> tuple[int, int]:
    """(i, n) of `i/n`, i from 0, or of the process that accelerate started."""
    from toolkit.sharding import read_shard

    shard = read_shard(given or None)
    if shard is None:
        return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    return shard.index, shard.count


def _own(device: str, part: tuple[int, int]) -> str:
    """The device of this process: accelerate's processes each have a GPU of their own."""
    local = os.environ.get("LOCAL_RANK")
    if local is None or device not in ("auto", "cuda") or part[1] == 1:
        return device
    from toolkit.scoring.scorer import device_of

    return f"cuda:{local}" if device_of(device) == "cuda" else "cpu"


def summary(scorer: "Scorer", filled: "Filled") -> str:
    """What was done, in a sentence or two."""
    text = f"{scorer.name}: {filled.rows:,} scored" if filled.rows else f"{scorer.name}: all there"
    if filled.elsewhere:
        text += f"; {filled.elsewhere:,} by another process meanwhile"
    if filled.truncated:
        text += f"; {filled.truncated:,} prompts were longer than the limit and cut"
    if filled.failed:
        why = max(filled.reasons, key=lambda reason: filled.reasons[reason])
        text += f"; {filled.failed:,} without a score, most often: {why}"
    return text + "."


@scorers_app.callback(invoke_without_command=True)
def scorers(context: typer.Context) -> None:
    """List scorers, or set one up.

    Without a verb: every scorer, whether it is ready, and what to type if it is not.
    """
    if context.invoked_subcommand:
        return
    from toolkit.scoring import SCORERS

    for entry in SCORERS.values():
        problems = problems_of(entry)
        typer.echo(f"{entry.name:16} {'not ready' if problems else 'ready':10} {entry.about}")
        for problem in problems:
            typer.echo(f"{'':16} {problem}")


def problems_of(entry: "Scorer") -> list[str]:
    """Why a scorer is not ready, each with the command that fixes it; empty if it is ready."""
    from toolkit.scoring.checkpoints import known_weights, remedy
    from toolkit.scoring.environments import environment

    problems = []
    if entry.environment and (fault := environment(entry.environment).fault()):
        problems.append(f"its environment {fault}: `outvoted scorers install {entry.environment}`")
    known = known_weights(entry)
    for need in entry.needs:
        path = known.get(need.role)
        if path is None:
            problems.append(f"no {need.role} ({need.about}): {remedy(entry, need)}")
        elif not path.exists():
            problems.append(f"its {need.role} is not at {path}: {remedy(entry, need)}")
    return problems


@scorers_app.command("install")
def install(
    environment: Annotated[str, typer.Argument(help="Its name, as in `outvoted scorers`.")],
) -> None:
    """Make a scorer's environment (with uv, about 6 GB)."""
    from toolkit.scoring.environments import install as make

    typer.echo(f"making the environment of {environment}")
    typer.echo(f"Ready: {make(environment).folder}")


@scorers_app.command("weights")
def weights(
    scorer: Annotated[str, typer.Argument(help="The scorer's name.")],
    paths: Annotated[list[str] | None, typer.Argument(help="PATH or ROLE=PATH.")] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download missing weights from the hub.")
    ] = False,
) -> None:
    """Register a scorer's model weights, or download them."""
    from app.cli.console import needs
    from toolkit.scoring import named
    from toolkit.scoring.checkpoints import known_weights, note_weights

    entry = named(scorer)
    note_weights(entry, paths or [])
    if download:
        with needs("score"):
            from toolkit.scoring.checkpoints import fetch

        for role, path in fetch(entry).items():
            note_weights(entry, [f"{role}={path}"])
    for role, path in known_weights(entry).items():
        typer.echo(f"{role}: {path}")
    for problem in problems_of(entry):
        typer.echo(problem)
