"""`outvoted analyze`: recompute a run's scores, write findings and a report.

`outvoted cartography`: the metrics of training dynamics that any trainer wrote.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from analysis.ranking_metrics import Interval
    from analysis.run_analysis import Analysis


def analyze(
    store: Annotated[str, typer.Argument(help="The store's folder.")],
    run: Annotated[str, typer.Option(help="The run whose trajectory is read.")],
    out: Annotated[str, typer.Option(help="File of the report.")] = "report.html",
    top: Annotated[int, typer.Option(min=0, help="Number of pairs in the report.")] = 24,
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
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Look for image defects even in a large store.")
    ] = False,
    window: Annotated[
        str,
        typer.Option(
            help="Part of the run: all, early, late (last 70 %), last (30 %), probe, both."
        ),
    ] = "late",
) -> None:
    """Score every pair of a run, and write a report.

    With planted flips the report also says how well each score finds them.
    """
    from rich.console import Console

    from app.cli.console import needs

    with needs("analyze"):
        from analysis.report.page import analyze_run, write_report
    from analysis.trajectory import WINDOWS
    from toolkit.errors import InputError
    from toolkit.store import open_store

    if window not in WINDOWS:
        raise InputError(f"{window!r} is no part of a run; choose {', '.join(WINDOWS)}.")
    opened, console = open_store(store), Console(soft_wrap=True, highlight=False)
    with console.status("reading") as status:
        found = analyze_run(
            opened,
            run,
            labels=labels or None,
            window=window,
            look_at_pictures=pictures or None,
            progress=status.update,
        )
        status.update("writing the report")
        page = write_report(found, out, top=top)
        _write_beside(found, figures, dynamics, status.update)
    _say(found, page, console)


def _write_beside(
    found: "Analysis", figures: str, dynamics: str, tell: Callable[[str], None]
) -> None:
    """What is written only where a folder was named for it."""
    if figures:
        from analysis.figures import save_figures
        from analysis.report.page import all_figures

        tell("drawing the figures")
        save_figures(all_figures(found), figures)
    if dynamics:
        from analysis.run_analysis import write_cartography

        tell("writing the training dynamics")
        write_cartography(found, dynamics)


def _say(found: "Analysis", page: Path, console: Any) -> None:
    for note in found.notes:
        console.print(f"Note: {note}", markup=False)
    if found.detections:
        console.print(detection_table(found))
    else:
        console.print(
            f"Label set {found.labels} planted no flips, so there is nothing to measure detection "
            f"against; `outvoted flip {found.store.root}` makes a set that has some.",
            markup=False,
        )
    console.print(f"Findings: {found.store.findings(found.run)}", markup=False)
    console.print(f"Report:   {page.resolve()}", markup=False)


def detection_table(found: "Analysis") -> "Table":
    """The headline detectors with their intervals, for a terminal of 80 columns."""
    from rich import box
    from rich.table import Table

    from analysis.report.text import detector_names, headline

    names = detector_names(found)
    first = found.detections[0]
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title_justify="left",
        title=f"{first.flipped:,} planted flips among {first.pairs:,} pairs "
        f"(base rate {first.base_rate or 0:.1%}); 95% intervals",
    )
    table.add_column("detector", no_wrap=True)
    for heading in ("AUROC", "AUPRC", "precision"):
        table.add_column(heading, justify="right", no_wrap=True)
    by_name = {row.name: row for row in found.detections}
    for name in headline(found):
        row = by_name[name]
        cells = (row.auroc, row.auprc, row.precision_at_planted)
        table.add_row(names.get(name, name), *(_cell(cell) for cell in cells))
    return table


def _cell(found: "Interval") -> str:
    if found.value is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} ({found.low:.2f}-{found.high:.2f})"


_SHOWN = 5
_NAMES = ("pair_id", "cartography_confidence")


def cartography(
    folder: Annotated[str, typer.Argument(help="Folder of dynamics_epoch_0.jsonl and so on.")],
    out: Annotated[str, typer.Option(help="File of the metrics.")] = "td_metrics.jsonl",
) -> None:
    """Compute cartography metrics of any two-class training.

    Reads dataset cartography's training dynamics and writes its metrics.

    `outvoted analyze --dynamics FOLDER` writes such files for a run of this project.
    """
    from app.cli.console import needs

    with needs("analyze"):
        from analysis.cartography_files import dynamics_metrics, read_dynamics, write_metrics
    from toolkit.errors import InputError

    read = read_dynamics(folder)
    table = dynamics_metrics(read)
    try:
        path = write_metrics(table, out)
    except OSError as problem:
        raise InputError(
            f"{out} cannot be written ({problem.strerror}); name a file in a folder you may write."
        ) from problem
    lowest = table.sort_by("cartography_confidence").slice(0, _SHOWN)
    typer.echo(f"{table.num_rows:,} examples over {read.visit.max() + 1:,} epochs")
    for guid, p in zip(*(lowest[n].to_pylist() for n in _NAMES), strict=True):
        typer.echo(f"hardest to learn: {guid}, mean probability of its label {p:.3f}")
    typer.echo(f"Metrics: {path}")
