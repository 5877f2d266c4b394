"""`outvoted score` fills the store's scores; `outvoted scorers` lists scorers, makes them ready."""

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from toolkit.scoring import Scorer
    from toolkit.scoring.run import Filled

scorers_app = typer.Typer(help="List scorers, or make one ready.", no_args_is_help=False)

WEIGHTS = "Where weights lie: PATH or ROLE=PATH, for one scorer; noted ones need no telling."


def score(
    store: Annotated[str, typer.Argument(help="The store's folder.")],
    scorer: Annotated[
        list[str], typer.Option("--scorer", help="Name of a scorer; may be repeated.")
    ],
    weights: Annotated[list[str] | None, typer.Option(help=WEIGHTS)] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images judged at a time.")] = 32,
    shard: Annotated[
        str, typer.Option(help="i/n: only this part of the images; accelerate's processes know.")
    ] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, fp32, fp16 or bf16.")] = "auto",
    retry: Annotated[bool, typer.Option("--retry", help="Also images that had no score.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Move scores made otherwise aside, and begin anew.")
    ] = False,
) -> None:
    """Score every image and prompt that has no score yet; the same command goes on.

    Nothing is fetched: weights lie where `outvoted scorers weights` was told.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from app.cli.optional import needs
    from toolkit.errors import InputError
    from toolkit.scoring import load, named
    from toolkit.scoring.run import fill
    from toolkit.store import open_store

    opened, console = open_store(store), Console(soft_wrap=True, highlight=False)
    chosen = [named(name) for name in dict.fromkeys(scorer)]
    if weights and len(chosen) > 1:
        raise InputError(
            "--weights speaks of one scorer; note each one's with `outvoted scorers weights`."
        )
    part = shard_from(shard)
    for entry in chosen:
        console.print(f"loading {entry.name}", markup=False, style="dim")
        with needs("score"):
            judge = load(entry, weights=weights or (), device=_own(device, part), dtype=dtype)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        try:
            with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
                shown = partial(_show, progress, progress.add_task(entry.name, total=None))
                filled = fill(
                    opened,
                    entry,
                    judge,
                    batch=batch,
                    shard=part,
                    retry=retry,
                    replace=replace,
                    progress=shown,
                )
        finally:
            judge.close()
        console.print(said(entry, filled), markup=False)


def _show(progress: "Progress", task: "TaskID", done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)


def shard_from(given: str) -> tuple[int, int]:
    """(i, n) of `i/n`, i from 0, or of the process that accelerate started."""
    from toolkit.sharding import read_shard

    if not given:
        return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    shard = read_shard(given)
    assert shard is not None
    return shard.index, shard.count


def _own(device: str, part: tuple[int, int]) -> str:
    """Each of accelerate's processes has a GPU of its own."""
    local = os.environ.get("LOCAL_RANK")
    if local is None or device not in ("auto", "cuda") or part[1] == 1:
        return device
    from toolkit.scoring.devices import device_of

    return f"cuda:{local}" if device_of(device) == "cuda" else "cpu"


def said(scorer: "Scorer", filled: "Filled") -> str:
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
    """Every scorer, whether it is ready, and what to type where it is not."""
    if context.invoked_subcommand:
        return
    from rich.console import Console

    from toolkit.scoring import SCORERS

    console = Console(soft_wrap=True, highlight=False)
    for entry in SCORERS.values():
        faults = faults_of(entry)
        console.print(
            f"{entry.name:16} {'ready' if not faults else 'not ready':10} {entry.about}",
            markup=False,
        )
        for fault in faults:
            console.print(f"{'':16} {fault}", markup=False, style="dim")


def faults_of(entry: "Scorer") -> list[str]:
    """Why a scorer is not ready, with the command that mends it; nothing where it is."""
    from toolkit.scoring.checkpoints import known_weights, remedy
    from toolkit.scoring.environments import environment

    found = []
    if entry.environment and (fault := environment(entry.environment).fault()):
        found.append(f"its environment {fault}: `outvoted scorers install {entry.environment}`")
    known = known_weights(entry)
    for need in entry.needs:
        path = known.get(need.role)
        if path is None:
            found.append(f"no {need.role} ({need.about}): {remedy(entry, need)}")
        elif not path.exists():
            found.append(f"its {need.role} is not at {path}: {remedy(entry, need)}")
    return found


@scorers_app.command("install")
def install(
    environment: Annotated[str, typer.Argument(help="Its name, as `outvoted scorers` says it.")],
) -> None:
    """Make the environment that a scorer's own package lives in (with uv, about 6 GB)."""
    from rich.console import Console

    from toolkit.scoring.environments import install as make

    console = Console(soft_wrap=True, highlight=False)
    with console.status(f"making the environment of {environment}"):
        made = make(environment)
    console.print(f"Ready: {made.folder}", markup=False)


@scorers_app.command("weights")
def weights(
    scorer: Annotated[str, typer.Argument(help="The scorer's name.")],
    paths: Annotated[list[str] | None, typer.Argument(help="PATH or ROLE=PATH.")] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch what is missing from the hub.")
    ] = False,
) -> None:
    """Say where a scorer's weights lie, or agree that they are fetched."""
    from rich.console import Console

    from toolkit.scoring import named
    from toolkit.scoring.checkpoints import known_weights, note_weights

    entry, console = named(scorer), Console(soft_wrap=True, highlight=False)
    note_weights(entry, paths or [])
    if download:
        from app.cli.optional import needs

        with needs("score"):
            from toolkit.scoring.checkpoints import fetch

        for role, path in fetch(entry).items():
            note_weights(entry, [f"{role}={path}"])
    for role, path in known_weights(entry).items():
        console.print(f"{role}: {path}", markup=False)
    for fault in faults_of(entry):
        console.print(fault, markup=False, style="dim")
