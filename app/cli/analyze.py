"""`outvoted analyze`: score a run's pairs, and write findings and a report. `outvoted detect`:
evaluate detectors on known flips. `outvoted cartography`: metrics of any trainer's dynamics.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from analysis.ranking_metrics import Detection, Interval
    from analysis.run_analysis import Analysis
    from toolkit.store import Store

_WINDOW = "Part of the run: all, early, late (last 70 %), last (30 %), probe, both."


def analyze(
    store: Annotated[str, typer.Argument(help="The store's folder.")],
    run: Annotated[str, typer.Option(help="The run; without it, labels and votes.")] = "",
    out: Annotated[str, typer.Option(help="File of the report.")] = "report.html",
    top: Annotated[
        int, typer.Option(min=0, max=10_000, help="Number of pairs in the report.")
    ] = 24,
    labels: Annotated[
        str, typer.Option(help="Label set to compare with; the run's own by default.")
    ] = "",
    figures: Annotated[
        str,
        typer.Option(
            help="Also save every figure in this folder, as PNG and SVG (needs Chromium)."
        ),
    ] = "",
    dynamics: Annotated[
        str, typer.Option(help="Also write dataset cartography's jsonl files into this folder.")
    ] = "",
    image_defects: Annotated[
        bool, typer.Option("--image-defects", help="Look for defects even among many images.")
    ] = False,
    window: Annotated[str, typer.Option(help=_WINDOW)] = "late",
) -> None:
    """Score every pair of a run, and write a report.

    Without --run: what votes, labels, scores and images say, with no training. With planted flips
    the report also says how well each score finds them.
    """
    from app.cli.console import ConsoleProgress, check_choice, needs

    with needs("analyze"):
        from analysis.figures.theme import save_figures
        from analysis.report.page import write_report
        from analysis.report.plots import all_figures
        from analysis.run_analysis import analyze_run, write_cartography
    from analysis.trajectory import WINDOWS
    from toolkit.errors import InputError
    from toolkit.store import open_store

    check_choice("window", window, WINDOWS)
    if dynamics and not run:
        raise InputError("--dynamics writes the visits of a run; name it with --run.")
    with ConsoleProgress() as progress:
        result = analyze_run(
            open_store(store),
            run,
            labels=labels or None,
            window=window,
            open_images=image_defects or None,
            progress=progress,
        )
        page = write_report(result, out, top=top)
        if figures:
            progress.update("figures", 0, 1)
            save_figures(all_figures(result), figures)
            progress.update("figures", 1, 1)
        if dynamics:
            write_cartography(result, dynamics)
    _summarize(result, page)


def _summarize(result: "Analysis", page: Path) -> None:
    for note in result.notes:
        typer.echo(f"Note: {note}")
    if result.detections:
        print_headline(result)
    elif not result.run:
        _print_labels(result)
    else:
        typer.echo(
            f"Label set {result.labels} planted no flips, so detection cannot be measured; "
            f"`outvoted flip {result.store.root}` makes a set with flips."
        )
    typer.echo(f"Findings: {result.store.findings(result.run)}")
    typer.echo(f"Report:   {page.resolve()}")


def _print_labels(result: "Analysis") -> None:
    from analysis.report.text import facts_of_labels

    for fact in facts_of_labels(result):
        typer.echo(f"{fact.name}: {fact.value}" + (f" ({fact.interval})" if fact.interval else ""))


def print_headline(result: "Analysis") -> None:
    """The headline detectors with their intervals, for a terminal of 80 columns."""
    from analysis.report.text import detector_names, headline
    from app.cli.console import print_table

    names = detector_names(result)
    first = result.detections[0]
    by_name = {row.name: row for row in result.detections}
    print_table(
        f"{first.flipped:,} planted flips among {first.pairs:,} pairs "
        f"(base rate {first.base_rate or 0:.1%}); 95% intervals",
        ("detector", "AUROC", "AUPRC", "precision"),
        [
            (
                names.get(name, name),
                _interval(by_name[name].auroc),
                _interval(by_name[name].auprc),
                _interval(by_name[name].precision_at_planted),
            )
            for name in headline(result)
        ],
    )


def _interval(interval: "Interval", separator: str = " ") -> str:
    if interval.value is None:
        return "-"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f}{separator}({interval.low:.2f}-{interval.high:.2f})"


def detect(
    store: Annotated[str, typer.Argument(help="The store's folder.")],
    run: Annotated[
        str, typer.Option(help="The run to evaluate (with --recipe: its new name).")
    ] = "",
    labels: Annotated[str, typer.Option(help="Label set; the run's own by default.")] = "",
    flips: Annotated[str, typer.Option(help="Known flips: a file with a column pair_id.")] = "",
    votes: Annotated[
        bool, typer.Option("--votes", help="One vote as the label, others as the truth (no run).")
    ] = False,
    seen: Annotated[
        int, typer.Option(min=0, max=1000, help="With --votes: further votes that they see.")
    ] = 1,
    extra_votes: Annotated[
        str, typer.Option(help="Extra votes: a file with pair_id, annotator, choice.")
    ] = "",
    folds: Annotated[str, typer.Option(help="Runs with held-out pairs, separated by commas.")] = "",
    window: Annotated[str, typer.Option(help=_WINDOW)] = "late",
    windows: Annotated[bool, typer.Option("--windows", help="Evaluate every window.")] = False,
    recipe: Annotated[
        str, typer.Option(help="Self-check: plant flips, train this recipe, and evaluate that run.")
    ] = "",
    rate: Annotated[
        float, typer.Option(min=0, max=1, help="Self-check: share of labels to flip.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Self-check: seed.")] = 0,
) -> None:
    """Evaluate every detector on known flips.

    Figures have 95 % intervals. The flips are those planted in the label set, those of --flips, or
    with --recipe a few that are planted first. With --votes they are natural: of each pair's votes
    one is taken as its label, and the majority of others says whether it is a minority's.
    """
    from app.cli.console import check_choice, needs

    with needs("analyze"):
        from analysis.evaluate_detectors import read_flips
    from analysis.trajectory import WINDOWS
    from toolkit.errors import InputError
    from toolkit.labels.majority import read_votes
    from toolkit.store import open_store

    check_choice("window", window, WINDOWS)
    opened = open_store(store)
    if votes:
        _detect_natural(opened, labels, seen)
        return
    if recipe:
        run = _plant_and_train(opened, recipe, run, rate, seed)
    elif not run and not labels:
        raise InputError(
            f"Name a run with --run ({', '.join(opened.runs()) or 'there is none yet'}), or train "
            "one on planted flips with --recipe RECIPE.yaml."
        )
    _detect(
        opened, run, labels=labels or None, window=window, windows=windows,
        flips=read_flips(flips, opened) if flips else None,
        extra_votes=read_votes(extra_votes, opened) if extra_votes else None,
        folds=[name.strip() for name in folds.split(",") if name.strip()],
    )  # fmt: skip


def _detect(store: "Store", run: str, **options: Any) -> None:
    from analysis.run_analysis import analyze_run
    from app.cli.console import ConsoleProgress

    with ConsoleProgress() as progress:
        result = analyze_run(store, run, progress=progress, **options)
    _print_detection(result)


def _detect_natural(store: "Store", labels: str, seen: int) -> None:
    import json
    from dataclasses import asdict

    from analysis.evaluate_detectors import natural_minority
    from analysis.run_analysis import judges_of
    from app.cli.console import ConsoleProgress
    from toolkit.files.atomic import write_text_whole
    from toolkit.store.label_sets import ORIGINAL
    from toolkit.store.pair_table import pair_facts
    from toolkit.store.trajectory import read_votes

    labels = labels or ORIGINAL
    with ConsoleProgress() as progress:
        progress.update("votes", 0, 1, "evaluating the detectors")
        facts, votes = pair_facts(store, labels), read_votes(store, labels)
        result = natural_minority(facts, votes, judges_of(store, labels), seen=seen)
        progress.update("votes", 1, 1)
    first = max(result.detections, key=lambda row: row.pairs)
    _print_table(
        result.detections,
        f"{first.flipped:,} labels of {first.pairs:,} are a minority's (base rate "
        f"{first.base_rate or 0:.1%}): one vote as the label, {seen} more seen, the majority of "
        f"the others as the truth, {result.draws} draws; 95% intervals, prompts resampled",
    )
    path = store.findings("") / "natural_minority.json"
    write_text_whole(path, json.dumps(asdict(result), indent=2) + "\n")
    typer.echo(f"Every figure: {path}")


def _plant_and_train(store: "Store", recipe: str, run: str, rate: float, seed: int) -> str:
    """The name of the self-check's run: planted and trained here unless it is there already."""
    from app.cli.console import ConsoleProgress, needs
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
        about = run_about(store, name)
        if about.get("labels") != name or not about.get("finished"):
            raise StoreError(
                f"The store has a run {name!r} that is no finished self-check; choose another "
                "--run."
            )
        typer.echo(f"Run {name} is there already; it is evaluated as it is.")
        return name
    typer.echo(
        f"{made.changed} of {made.pairs} labels flipped on purpose in label set {name}; your own "
        "labels are unchanged."
    )
    settings = load_recipe(recipe, store=str(store.root), run=name, labels=name)
    with ConsoleProgress() as progress:
        train(settings, progress=progress)
    return name


def _print_detection(result: "Analysis") -> None:
    for note in result.notes:
        typer.echo(f"Note: {note}")
    store, run = result.store.root, result.run
    if result.flipped is None:
        typer.echo(
            f"It is not known which labels of set {result.labels} are flipped, so no detector can "
            f"be evaluated. Name them (`outvoted detect {store} --run {run} --flips FILE`), or run "
            f"a self-check: `outvoted detect {store} --recipe RECIPE.yaml` plants a few and trains."
        )
        return
    print_detectors(result)
    if any(row.name == result.ranking for row in result.detections):
        typer.echo(deciles(result))
    if result.calibration is not None:
        curve = result.calibration
        typer.echo(
            f"Calibration of {curve.detector} (isotonic, prompts held out): Brier score "
            f"{curve.brier:.3f}, the base rate alone {curve.base_brier:.3f}; calibration error "
            f"{curve.error:.3f}."
        )
    typer.echo(f"Every figure: {result.store.findings(run) / 'detection.json'}")


def print_detectors(result: "Analysis") -> None:
    """Every detector that has a score, the best AUROC first, for a terminal of 80 columns."""
    first = max(result.detections, key=lambda row: row.pairs)
    _print_table(
        result.detections,
        f"{first.flipped:,} known flips among {first.pairs:,} pairs (base rate "
        f"{first.base_rate or 0:.1%}); 95% intervals, prompts resampled",
    )


def _print_table(detections: Sequence["Detection"], title: str) -> None:
    from app.cli.console import print_table

    known = [row for row in detections if row.auroc.value is not None]
    first = max(detections, key=lambda row: row.pairs)
    base = f"AUPRC\n(base {first.base_rate or 0:.2f})"
    rows = []
    for row in sorted(known, key=lambda row: -(row.auroc.value or 0.0)):
        cells = (row.auroc, row.auprc, row.precision_at_planted, row.recall_at_fpr05)
        intervals = [_interval(cell, "\n") for cell in cells]
        name = row.name.replace(".", ".\n")
        ends = [] if row.gain is None else [row.gain.value, row.gain.low, row.gain.high]
        gain = "\n".join(f"{end:+.3f}" for end in ends if end is not None) or "-"
        rows.append((f"{name}\n{row.pairs:,} pairs", *intervals, gain))
    print_table(
        f"{title}; AUROC gained: over {_baseline(detections)}, paired",
        (
            "detector",
            "AUROC",
            base,
            "precision\nat count",
            "recall at\n5% FPR",
            "AUROC\ngained",
        ),
        rows,
        fold=True,
    )


def _baseline(detections: Sequence["Detection"]) -> str:
    known = [row.name for row in detections if row.gain is None and row.auroc.value is not None]
    return known[0] if len(known) == 1 else "baseline"


def deciles(result: "Analysis") -> str:
    """Flipped share by tenths of the score that pairs are ranked by, with intervals."""
    from analysis.ranking_metrics import Interval

    own = next(row for row in result.detections if row.name == result.ranking)
    shares = [
        _interval(Interval(row["share"], row["share_low"], row["share_high"]))
        for row in own.deciles
        if row["count"]
    ]
    return f"Flipped share by tenths of {own.name}, lowest first: {', '.join(shares)}"


def cartography(
    folder: Annotated[str, typer.Argument(help="Folder of dynamics_epoch_0.jsonl and so on.")],
    out: Annotated[str, typer.Option(help="File of the metrics.")] = "td_metrics.jsonl",
) -> None:
    """Compute cartography metrics of any two-class training.

    Reads dataset cartography's training dynamics and writes its metrics. `outvoted analyze
    --dynamics FOLDER` writes such files for a run of this project.
    """
    from app.cli.console import needs

    with needs("analyze"):
        from analysis.detectors.cartography import dynamics_metrics, read_dynamics, write_metrics
    from toolkit.errors import InputError

    read = read_dynamics(folder)
    table = dynamics_metrics(read)
    try:
        path = write_metrics(table, out)
    except OSError as problem:
        raise InputError(
            f"{out} cannot be written ({problem.strerror}); name another file."
        ) from problem
    lowest = table.sort_by("cartography_confidence").slice(0, 5)
    typer.echo(f"{table.num_rows:,} examples over {read.visit.max() + 1:,} epochs")
    for guid, p in zip(
        *(lowest[name].to_pylist() for name in ("pair_id", "cartography_confidence")), strict=True
    ):
        typer.echo(f"hardest to learn: {guid}, mean probability of its label {p:.3f}")
    typer.echo(f"Metrics: {path}")
