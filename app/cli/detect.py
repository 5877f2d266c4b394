"""`outvoted detect`: hold every detector against known flips, or plant some and train first."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from analysis.run_analysis import Analysis
    from toolkit.store import Store


def detect(
    store: Annotated[str, typer.Argument(help="The store's folder.")],
    run: Annotated[
        str, typer.Option(help="The run to evaluate (with --recipe: its new name).")
    ] = "",
    labels: Annotated[str, typer.Option(help="Label set; the run's own by default.")] = "",
    flips: Annotated[
        str, typer.Option(help="Known flips: a Parquet or CSV file with a column pair_id.")
    ] = "",
    votes: Annotated[
        str, typer.Option(help="Extra votes: a file with pair_id, annotator, choice.")
    ] = "",
    folds: Annotated[str, typer.Option(help="Runs with held-out pairs, separated by commas.")] = "",
    window: Annotated[str, typer.Option(help="all, early, late, last, probe or both.")] = "late",
    windows: Annotated[bool, typer.Option("--windows", help="Evaluate every window.")] = False,
    recipe: Annotated[
        str, typer.Option(help="Self-check: plant flips, train this recipe, and evaluate that run.")
    ] = "",
    rate: Annotated[
        float, typer.Option(min=0, max=1, help="Self-check: share of labels to flip.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Self-check: seed of the flips.")] = 0,
) -> None:
    """Evaluate every detector on known flips.

    Figures have 95 % intervals. The flips are those planted in the label set, those of --flips, or
    with --recipe a few that are planted first.
    """
    from rich.console import Console

    from app.cli.console import needs

    with needs("analyze"):
        from analysis.run_analysis import analyze_run
    from analysis.evaluate_detectors import read_flips
    from analysis.trajectory import WINDOWS
    from toolkit.errors import InputError
    from toolkit.labels.extra_votes import read_votes
    from toolkit.store import open_store
    from toolkit.store.connection import read_pairs

    if window not in WINDOWS:
        raise InputError(f"{window!r} is no part of a run; choose {', '.join(WINDOWS)}.")
    opened, console = open_store(store), Console(soft_wrap=True, highlight=False)
    if recipe:
        run = _plant_and_train(opened, recipe, run, rate, seed, console)
    elif not run:
        raise InputError(
            f"Name a run with --run ({', '.join(opened.runs()) or 'there is none yet'}), or let "
            "one be trained on planted flips with --recipe RECIPE.yaml."
        )
    known = None
    if flips:
        known = read_flips(flips, set(read_pairs(opened, ["pair_id"])["pair_id"].to_pylist()))
    with console.status("reading") as status:
        found = analyze_run(
            opened,
            run,
            labels=labels or None,
            window=window,
            flips=known,
            extra_votes=read_votes(votes) if votes else None,
            folds=[name.strip() for name in folds.split(",") if name.strip()],
            windows=windows,
            progress=status.update,
        )
    _say(found, console)


def _plant_and_train(
    store: "Store", recipe: str, run: str, rate: float, seed: int, console: Any
) -> str:
    """The self-check's run: named, planted and trained here unless it is there already."""
    from app.cli.console import needs
    from toolkit.errors import StoreError
    from toolkit.labels.flips import plant_flips
    from toolkit.store.runs import run_about

    with needs("train"):
        from training.pairs import on_disk
        from training.recipe import load_recipe
        from training.trainer import train
    name = run or f"selfcheck-{rate:g}-{seed}"
    settings = load_recipe(recipe, store=str(on_disk(store).root), run=name)
    made = plant_flips(store, name, settings.labels, rate=rate, seed=seed)
    if name in store.runs():
        if run_about(store, name).get("labels") != name or not run_about(store, name).get(
            "finished"
        ):
            raise StoreError(
                f"The store has a run {name!r} that is no finished self-check; choose another "
                "--run."
            )
        console.print(f"Run {name} is there already; it is judged as it is.", markup=False)
        return name
    console.print(
        f"{made.changed} of {made.pairs} labels flipped on purpose in label set {name}; your own "
        "labels are unchanged.",
        markup=False,
    )
    train(load_recipe(recipe, store=str(store.root), run=name, labels=name), console=console)
    return name


def _say(found: "Analysis", console: Any) -> None:
    for note in found.notes:
        console.print(f"Note: {note}", markup=False)
    store, run = found.store.root, found.run
    if found.flipped is None:
        console.print(
            f"Nobody knows which labels of set {found.labels} are flipped, so no detector can be "
            f"judged. Name them (`outvoted detect {store} --run {run} --flips FILE`), or check "
            f"yourself: `outvoted detect {store} --recipe RECIPE.yaml` plants a few and trains.",
            markup=False,
        )
        return
    console.print(detectors_table(found))
    console.print(deciles_words(found), markup=False)
    if found.calibration is not None:
        curve = found.calibration
        console.print(
            f"Calibration of {curve.detector} (isotonic, prompts held out): Brier score "
            f"{curve.brier:.3f}, the base rate alone {curve.base_brier:.3f}; calibration error "
            f"{curve.error:.3f}.",
            markup=False,
        )
    console.print(f"Every figure: {found.store.findings(run) / 'detection.json'}", markup=False)


def detectors_table(found: "Analysis") -> "Table":
    """Every detector that has a score, the best AUROC first, for a terminal of 80 columns: a long
    name goes on in its row's second line, and no number is cut."""
    from rich import box
    from rich.table import Table

    known = [row for row in found.detections if row.auroc.value is not None]
    first = max(found.detections, key=lambda row: row.pairs)
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
        title_justify="left",
        title=f"{first.flipped:,} known flips among {first.pairs:,} pairs (base rate "
        f"{first.base_rate or 0:.1%}); 95% intervals, prompts resampled",
    )
    table.add_column("detector", overflow="fold")
    base = f"AUPRC\n(base {first.base_rate or 0:.2f})"
    for heading in ("pairs", "AUROC", base, "precision\nat count", "recall at\n5% FPR"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in sorted(known, key=lambda row: -(row.auroc.value or 0.0)):
        cells = (row.auroc, row.auprc, row.precision_at_planted, row.recall_at_fpr05)
        told = [_cell(cell).replace(" (", "\n(") for cell in cells]
        table.add_row(row.name.replace(".", ".\n"), f"{row.pairs:,}", *told)
    return table


def deciles_words(found: "Analysis") -> str:
    """Flipped share by tenths of the score that pairs are ranked by, with intervals."""
    from analysis.ranking_metrics import Interval

    own = next(row for row in found.detections if row.name == found.ranking)
    shares = [
        _cell(Interval(row["share"], row["share_low"], row["share_high"]))
        for row in own.deciles
        if row["count"]
    ]
    return f"Flipped share by tenths of {own.name}, lowest first: {', '.join(shares)}"


def _cell(found: Any) -> str:
    if found.value is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} ({found.low:.2f}-{found.high:.2f})"
