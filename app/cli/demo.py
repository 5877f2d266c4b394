"""`outvoted demo`: the whole road on the mini world, step by step, resumable between steps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from analysis.run_analysis import Analysis
    from toolkit.store import Store

RUN = "adaptive"
LABELS = "flip20"
RATE = 0.2


def demo(
    folder: Annotated[str, typer.Option(help="Where everything goes.")] = "demo",
    pairs: Annotated[int, typer.Option(min=50, help="Pairs to draw.")] = 2000,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the world, the flips and the run.")] = 0,
    no_app: Annotated[bool, typer.Option("--no-app", help="End after the report.")] = False,
    port: Annotated[int, typer.Option(help="Port of the desk; 0: the next free one.")] = 0,
) -> None:
    """Draw a world, flip a fifth of its labels, train, find them again, export; open the desk.

    A step whose result is there already is not done again: an interrupted demo goes on.
    """
    from rich.console import Console

    from app.cli.desk import desk
    from app.cli.optional import needs

    with needs("train"):
        import training.trainer  # noqa: F401
    with needs("analyze"):
        import analysis.report.page  # noqa: F401

    console = Console(soft_wrap=True, highlight=False)
    place = Path(folder)
    store = _draw(place, pairs, seed, console)
    _train(store, steps, seed, console)
    found = _report(place, store, console)
    _export(place, store, console)
    _say(place, found, console)
    if not no_app:
        desk(str(store.root), run=RUN, port=port)


def _draw(place: Path, pairs: int, seed: int, console: Any) -> "Store":
    from rich.progress import Progress

    from toolkit.labels.flips import plant_flips
    from toolkit.miniworld.dataset import ingest_world
    from toolkit.store import open_or_create

    store = open_or_create(place / "store")
    with Progress(console=console) as progress:
        task = progress.add_task(f"drawing {pairs} pairs", total=pairs)
        ingest_world(
            store,
            place / "truth.parquet",
            pairs=pairs,
            seed=seed,
            progress=lambda done: progress.advance(task, done),
        )
    made = plant_flips(store, LABELS, rate=RATE, seed=seed)
    console.print(
        f"{made.pairs} labelled pairs in {store.root}; {made.changed} labels flipped on purpose"
    )
    return store


def _train(store: "Store", steps: int | None, seed: int, console: Any) -> None:
    from toolkit.store.runs import run_about
    from training import recipe as recipes
    from training.trainer import resume, train

    if (store.run(RUN) / "run.json").exists():
        if run_about(store, RUN).get("finished"):
            console.print(f"run {RUN} is there already")
            return
        resume(store, RUN, steps=steps, console=console)
        return
    recipe = recipes.load_recipe(
        Path(recipes.__file__).parent / "recipes" / "miniworld.yaml",
        store=str(store.root),
        run=RUN,
        steps=steps,
        seed=seed,
    )
    train(recipe, console=console)


def _report(place: Path, store: "Store", console: Any) -> "Analysis":
    from analysis.report.page import analyze_run, write_report
    from toolkit.miniworld.dataset import oracle_scores

    oracle = oracle_scores(store, place / "truth.parquet", LABELS)
    with console.status("analysing") as status:
        found = analyze_run(store, RUN, extra_detectors={"oracle": oracle}, progress=status.update)
        status.update("writing the report")
        write_report(found, place / "report.html")
    return found


def _export(place: Path, store: "Store", console: Any) -> None:
    from rich.progress import Progress

    from toolkit.export import Policy, export_pickapic

    out = place / "export"
    if out.exists():
        return
    policy = Policy(labels=LABELS, run=RUN, reweight=True, drop_top=0.05)
    command = f"outvoted export {store.root} --labels {LABELS} --run {RUN} --reweight"
    with Progress(console=console) as progress:
        task = progress.add_task("exporting", total=None)
        export_pickapic(
            store,
            out,
            policy,
            command=f"{command} --drop-top {policy.drop_top} --out {out}",
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _say(place: Path, found: "Analysis", console: Any) -> None:
    from app.cli.analyze import detection_table

    console.print(detection_table(found))
    console.print(f"Report:  {(place / 'report.html').resolve()}")
    console.print(f"Dataset: {(place / 'export').resolve()}")
    console.print(f"Store:   {(place / 'store').resolve()}")
