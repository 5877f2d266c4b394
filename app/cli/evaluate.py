"""`outvoted evaluate`: draw samples from several models, score and compare them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from training.evaluate import Evaluation
    from training.sampling import Policy

_MODELS = (
    "NAME=MODEL, the first is compared with: miniature:sd, a diffusers folder, a run, or "
    "RUN/checkpoints/step-N."
)


def evaluate(
    models: Annotated[list[str], typer.Argument(help=_MODELS)],
    prompts: Annotated[
        str,
        typer.Option(help="A .txt, .tsv, .csv, .json, .jsonl or .parquet file, or miniworld:N."),
    ] = "miniworld:100",
    column: Annotated[
        str, typer.Option(help="The file's column or key; prompt, caption or text are known.")
    ] = "",
    out: Annotated[str, typer.Option(help="Folder of samples, scores and page.")] = "evaluation",
    seeds: Annotated[int, typer.Option(min=1, help="Images a prompt.")] = 1,
    sampler: Annotated[str, typer.Option(help="ddim, ddpm, dpm, euler, or own.")] = "ddim",
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 30,
    guidance: Annotated[float, typer.Option(min=0, help="Classifier-free guidance.")] = 7.5,
    scorer: Annotated[
        list[str] | None,
        typer.Option(help="Who scores the images; may be repeated. `outvoted scorers` lists them."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images drawn at a time.")] = 32,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    shown: Annotated[int, typer.Option(min=0, help="Rows of images on the page.")] = 24,
) -> None:
    """Draw the same prompts and noise from several models, score the images, compare the models.

    What is in --out already is not drawn again: an interrupted evaluation goes on.
    """
    from rich.console import Console

    from app.cli.optional import needs
    from training.prompts import read_prompts

    with needs("train"):
        from training.evaluate import Evaluation
        from training.sampling import SAMPLERS, Sampling

    _known("sampler", sampler, SAMPLERS)
    judges = ready_scorers(scorer or ["miniworld"])
    chosen, words = named_models(models), read_prompts(prompts, column)
    asked = Evaluation(tuple(words), tuple(range(seeds)), Sampling(sampler, steps, guidance))
    console, folder = Console(soft_wrap=True, highlight=False), Path(out)
    drawn = _drawn(asked, chosen, folder, judges, batch, (device, precision), console)
    about = (
        f"Sampler {sampler}, {steps} steps, guidance {guidance:g}, {len(words):,} different "
        f"prompts, {seeds} seed{'s' if seeds > 1 else ''} each."
    )
    _tell(console, folder, drawn, list(chosen), about, shown)


def ready_scorers(names: list[str]) -> list[str]:
    """The names, each once. InputError where one is not known or not ready: before minutes of
    drawing."""
    from app.cli.score import faults_of
    from toolkit import scoring
    from toolkit.errors import InputError
    from toolkit.scoring.checkpoints import needed
    from training.evaluate import SCORERS

    judges = list(dict.fromkeys(names))
    for name in judges:
        _known("scorer", name, [*SCORERS, *scoring.SCORERS])
        if name in SCORERS:
            continue
        needed(scoring.named(name))
        if faults := faults_of(scoring.named(name)):
            raise InputError(f"Scorer {name} is not ready: {faults[0]}")
    return judges


def _drawn(
    asked: "Evaluation",
    chosen: "dict[str, Policy]",
    folder: Path,
    judges: list[str],
    batch: int,
    where: tuple[str, str],
    console: "Console",
) -> "tuple[pa.Table, pa.Table]":
    """All samples and scores, drawn behind a bar a model; `where` is device and precision."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from training.devices import device_of, dtype_of
    from training.evaluate import evaluate as draw_and_score

    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*bars, console=console) as progress:
        tasks = {name: progress.add_task(name, total=len(asked.samples())) for name in chosen}
        return draw_and_score(
            asked,
            chosen,
            folder,
            scorer=judges,
            batch=batch,
            device=device_of(where[0]),
            dtype=dtype_of(where[1]),
            progress=lambda name, done, total: progress.update(
                tasks[name], completed=done, total=total
            ),
        )


def _tell(
    console: "Console",
    folder: Path,
    drawn: "tuple[pa.Table, pa.Table]",
    names: list[str],
    about: str,
    shown: int,
) -> None:
    """Compare, write table and page, print."""
    from analysis.model_comparison import by_model, compare, write_sheet
    from toolkit.scoring import SCORERS

    samples, scores = drawn
    comparison = compare(scores, names)
    _save(folder, comparison)
    headings = {entry.name: entry.short for entry in SCORERS.values()}
    page = write_sheet(
        folder / "samples.html",
        samples,
        scores,
        comparison,
        names,
        about=about,
        headings=headings,
        rows=shown,
    )
    if by_model(comparison, list(headings))[0]:
        console.print(models_table(comparison, headings))
    console.print(comparison_table(comparison, names[0]))
    console.print(f"Table: {(folder / 'comparison.parquet').resolve()}", markup=False)
    console.print(f"Page:  {page.resolve()}", markup=False)


def named_models(specs: list[str]) -> "dict[str, Policy]":
    """NAME=MODEL arguments, in order; a model without a name is called after its folder."""
    from toolkit.errors import InputError
    from training.sampling import policy_of

    found: dict[str, Policy] = {}
    for spec in specs:
        name, sign, model = spec.partition("=")
        if not sign:
            name, model = spec.rstrip("/").rpartition("/")[2], spec
        if not name or name in found:
            raise InputError(
                f"Two models are called {name!r}; give each a name of its own: NAME={model}."
                if name
                else f"{spec!r} has no name before its '='; write NAME=MODEL."
            )
        found[name] = policy_of(model)
    return found


def models_table(comparison: "pa.Table", headings: dict[str, str]) -> Any:
    """A row a model and a column a scorer, the paper's four first: mean, and win rate over it."""
    from rich import box
    from rich.table import Table

    from analysis.model_comparison import by_model

    figures, rows = by_model(comparison, list(headings))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.title = "mean score, and win rate against the first model"
    table.add_column("model")
    for figure in figures:
        table.add_column(headings[figure], justify="right")
    for model, cells in rows:
        table.add_row(model, *map(_told, cells))
    return table


def _told(cell: dict[str, Any] | None) -> str:
    """A mean and its win rate; dashes for what is not there, as where the first model has no
    score."""
    if cell is None:
        return "–"
    won = "–" if cell["win_rate"] is None else f"{cell['win_rate']:.0%}"
    return f"{cell['mean']:.3f} ({won})"


def comparison_table(comparison: "pa.Table", first: str) -> Any:
    """The comparison for a terminal."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title_justify="left",
        title=f"against {first}, same noise; 95% intervals over prompts",
    )
    for heading in ("figure", "model"):
        table.add_column(heading)
    for heading in ("mean", "gain", "win rate"):
        table.add_column(heading, justify="right")
    for row in comparison.to_pylist():
        cells = [_range(row, key, stem) for key, stem in _FIGURES]
        table.add_row(row["figure"], row["model"], *cells)
    return table


_FIGURES = (("mean", "mean"), ("gain", "gain"), ("win_rate", "win"))


def _range(row: dict[str, Any], key: str, stem: str) -> str:
    if row[key] is None:
        return "–"
    if row[f"{stem}_low"] is None:
        return f"{row[key]:.3f}"
    return f"{row[key]:.3f} ({row[f'{stem}_low']:.3f}, {row[f'{stem}_high']:.3f})"


def _save(folder: Path, comparison: "pa.Table") -> None:
    import json

    from toolkit.files.atomic import write_text_whole, write_whole

    write_whole(folder / "comparison.parquet", comparison)
    text = json.dumps(comparison.to_pylist(), indent=2) + "\n"
    write_text_whole(folder / "comparison.json", text)


def _known(what: str, name: str, allowed: Any) -> None:
    from toolkit.errors import InputError

    if name not in allowed:
        raise InputError(f"There is no {what} {name!r}; choose {', '.join(allowed)}.")
