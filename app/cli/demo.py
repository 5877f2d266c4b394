"""`outvoted demo`: the whole workflow on the mini world, step by step."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from analysis.run_analysis import Analysis
    from toolkit.store import Store

RUN = "adaptive"
LABELS = "flip20"
RATE = 0.2


def demo(
    folder: Annotated[str, typer.Option(help="Folder of everything the demo makes.")] = "demo",
    pairs: Annotated[int, typer.Option(min=50, max=1_000_000, help="Pairs to draw.")] = 2000,
    steps: Annotated[
        int | None, typer.Option(min=1, max=10**9, help="Optimiser steps; the recipe's by default.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of world, flips and run.")
    ] = 0,
    no_app: Annotated[bool, typer.Option("--no-app", help="End after the report.")] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the desk; 0: the next free one.")
    ] = 0,
) -> None:
    """Try the whole workflow on 2,000 drawn pairs, on a CPU.

    Draw a world, flip a fifth of its labels, train, find the flips again, export, and open the
    desk. A finished step is not repeated: run the command again to resume.
    """
    from app.cli.console import needs
    from app.cli.desk import desk

    with needs("train"):
        import training.trainer  # noqa: F401
    with needs("analyze"):
        import analysis.report.page  # noqa: F401

    root = Path(folder)
    store = _draw(root, pairs, seed)
    _train(store, steps, seed)
    result = _report(root, store)
    _export(root, store)
    _summarize(root, result)
    if not no_app:
        desk(str(store.root), run=RUN, port=port)


def _draw(root: Path, pairs: int, seed: int) -> "Store":
    from app.cli.console import ConsoleProgress
    from toolkit.labels.flips import plant_flips
    from toolkit.miniworld.dataset import ingest_world
    from toolkit.store import open_or_create

    store = open_or_create(root / "store")
    with ConsoleProgress() as progress:
        ingest_world(store, root / "truth.parquet", pairs=pairs, seed=seed, progress=progress)
    made = plant_flips(store, LABELS, rate=RATE, seed=seed)
    typer.echo(
        f"{made.pairs} labelled pairs in {store.root}; {made.changed} labels flipped on purpose"
    )
    return store


def _train(store: "Store", steps: int | None, seed: int) -> None:
    from app.cli.console import ConsoleProgress
    from toolkit.store.runs import run_about
    from training import recipe as recipes
    from training.trainer import resume, train

    if (store.run(RUN) / "run.json").exists():
        if run_about(store, RUN).get("finished"):
            typer.echo(f"run {RUN} is there already")
            return
        with ConsoleProgress() as progress:
            resume(store, RUN, steps=steps, progress=progress)
        return
    recipe = recipes.load_recipe(
        Path(recipes.__file__).parent / "recipes" / "miniworld.yaml",
        store=str(store.root),
        run=RUN,
        steps=steps,
        seed=seed,
    )
    with ConsoleProgress() as progress:
        train(recipe, progress=progress)


def _report(root: Path, store: "Store") -> "Analysis":
    from analysis.report.page import write_report
    from analysis.run_analysis import analyze_run
    from app.cli.console import ConsoleProgress
    from toolkit.miniworld.dataset import oracle_scores

    oracle = oracle_scores(store, root / "truth.parquet", LABELS)
    with ConsoleProgress() as progress:
        made = analyze_run(store, RUN, extra_detectors={"oracle": oracle}, progress=progress)
        write_report(made, root / "report.html")
    return made


def _export(root: Path, store: "Store") -> None:
    from app.cli.console import ConsoleProgress
    from toolkit.export import Policy, export_set

    out = root / "export"
    if out.exists():
        return
    policy = Policy(labels=LABELS, run=RUN, reweight=True, drop_top=0.05)
    command = f"outvoted export {store.root} --labels {LABELS} --run {RUN} --reweight"
    command += f" --drop-top {policy.drop_top} --out {out}"
    with ConsoleProgress() as progress:
        export_set(store, out, policy, command=command, progress=progress)


def _summarize(root: Path, made: "Analysis") -> None:
    from app.cli.analyze import print_headline

    print_headline(made)
    typer.echo(f"Report:  {(root / 'report.html').resolve()}")
    typer.echo(f"Dataset: {(root / 'export').resolve()}")
    typer.echo(f"Store:   {(root / 'store').resolve()}")
