"""`outvoted evaluate`: draw samples from several models, score and compare them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

_MODELS = (
    "NAME=MODEL; the others are compared with the first. MODEL is miniature:sd, a diffusers "
    "folder, a run, or RUN/checkpoints/step-N."
)


def evaluate(
    models: Annotated[list[str], typer.Argument(help=_MODELS)],
    prompts: Annotated[
        str,
        typer.Option(help="A .txt, .tsv, .csv, .json, .jsonl or .parquet file, or miniworld:N."),
    ] = "miniworld:100",
    column: Annotated[
        str, typer.Option(help="Column or key of the prompt; by default prompt, caption or text.")
    ] = "",
    out: Annotated[str, typer.Option(help="Folder of samples, scores and page.")] = "evaluation",
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Images a prompt.")] = 1,
    sampler: Annotated[str, typer.Option(help="ddim, ddpm, dpm, euler or own.")] = "ddim",
    steps: Annotated[int, typer.Option(min=1, max=1_000, help="Denoising steps.")] = 30,
    guidance: Annotated[
        float, typer.Option(min=0, max=1_000, help="Classifier-free guidance scale.")
    ] = 7.5,
    scorer: Annotated[
        list[str] | None,
        typer.Option(help="A scorer of `outvoted scorers`, or miniworld; may be repeated."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Images a batch.")] = 32,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    shown: Annotated[int, typer.Option(min=0, max=10_000, help="Rows of images on the page.")] = 24,
) -> None:
    """Draw and score the same prompts under several models.

    Every model starts from the same noise. Samples that are in --out already are not drawn again,
    so an interrupted evaluation can be resumed, and a model added later.
    """
    from app.cli.console import ConsoleProgress, check_choice, needs

    with needs("train"):
        from training.devices import device_of, dtype_of
        from training.evaluate import Evaluation, read_prompts
        from training.evaluate import evaluate as draw_and_score
        from training.sampling import SAMPLERS, Sampling, policies_of

    check_choice("sampler", sampler, SAMPLERS)
    chosen = ready_scorers(scorer or ["miniworld"])
    policies, words, folder = policies_of(models), read_prompts(prompts, column), Path(out)
    with ConsoleProgress() as progress:
        samples, scores = draw_and_score(
            Evaluation(tuple(words), tuple(range(seeds)), Sampling(sampler, steps, guidance)),
            policies,
            folder,
            scorer=chosen,
            batch=batch,
            device=device_of(device),
            dtype=dtype_of(precision),
            progress=progress,
        )
    about = (
        f"Sampler {sampler}, {steps} steps, guidance {guidance:g}, {len(words):,} different "
        f"prompts, {seeds} seed{'s' if seeds > 1 else ''} each."
    )
    _compare(folder, samples, scores, list(policies), about, shown)


def ready_scorers(names: Sequence[str]) -> list[str]:
    """The names, each once.

    InputError if one is unknown or not ready, before minutes of drawing.
    """
    from app.cli.console import check_choice
    from app.cli.score import problems_of
    from toolkit import scoring
    from toolkit.errors import InputError
    from toolkit.scoring.checkpoints import needed
    from training.evaluate import SCORERS

    for name in names:
        check_choice("scorer", name, [*SCORERS, *scoring.SCORERS])
        if name in SCORERS:
            continue
        needed(scoring.named(name))
        if problems := problems_of(scoring.named(name)):
            raise InputError(f"Scorer {name} is not ready: {problems[0]}")
    return list(dict.fromkeys(names))


def _compare(
    folder: Path,
    samples: "pa.Table",
    scores: "pa.Table",
    names: list[str],
    about: str,
    shown: int,
) -> None:
    """Compare the models; write the table and the page, and print."""
    import json

    from analysis.model_comparison import compare, write_sheet
    from app.cli.console import print_table
    from toolkit.files.atomic import write_text_whole, write_whole
    from toolkit.scoring import SCORERS

    comparison = compare(scores, names)
    rows = comparison.to_pylist()
    write_whole(folder / "comparison.parquet", comparison)
    write_text_whole(folder / "comparison.json", json.dumps(rows, indent=2) + "\n")
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
    print_models(comparison, headings)
    keys = (("mean", "mean"), ("gain", "gain"), ("win_rate", "win"))
    print_table(
        f"against {names[0]}, same noise; 95% intervals over prompts",
        ("figure", "model", "mean", "gain", "win rate"),
        [
            (row["figure"], row["model"], *(_interval(row, key, stem) for key, stem in keys))
            for row in rows
        ],
        names=2,
    )
    typer.echo(f"Table: {(folder / 'comparison.parquet').resolve()}")
    typer.echo(f"Page:  {page.resolve()}")


def print_models(
    comparison: "pa.Table", headings: dict[str, str], console: "Console | None" = None
) -> None:
    """A row a model and a column a scorer, as papers show it: mean, and win rate against the first
    model. Nothing where none of the scorers in `headings` was used."""
    from analysis.model_comparison import by_model
    from app.cli.console import print_table

    figures, rows = by_model(comparison, list(headings))
    if figures:
        print_table(
            "mean score, and win rate against the first model",
            ("model", *(headings[figure] for figure in figures)),
            [(model, *map(_score, cells)) for model, cells in rows],
            console=console,
        )


def _score(cell: dict[str, Any] | None) -> str:
    """A mean and its win rate; dashes for what is missing, as where the first model has no
    score."""
    if cell is None:
        return "–"
    won = "–" if cell["win_rate"] is None else f"{cell['win_rate']:.0%}"
    return f"{cell['mean']:.3f} ({won})"


def _interval(row: dict[str, Any], key: str, stem: str) -> str:
    if row[key] is None:
        return "–"
    if row[f"{stem}_low"] is None:
        return f"{row[key]:.3f}"
    return f"{row[key]:.3f} ({row[f'{stem}_low']:.3f}, {row[f'{stem}_high']:.3f})"
