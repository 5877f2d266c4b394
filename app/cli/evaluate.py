"""`outvoted evaluate`: draw samples from several models, score and compare them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from training.policies import Policy

_MODELS = (
    "NAME=MODEL, the first is compared with: miniature:sd, a diffusers folder, a run, or "
    "RUN/checkpoints/step-N."
)


def evaluate(
    models: Annotated[list[str], typer.Argument(help=_MODELS)],
    prompts: Annotated[
        str,
        typer.Option(help="A text file (one a line), JSON, Parquet, or miniworld:COUNT."),
    ] = "miniworld:100",
    column: Annotated[str, typer.Option(help="The file's column or key.")] = "prompt",
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
) -> None:
    """Draw the same prompts and noise from several models, score the images, compare the models.

    What is in --out already is not drawn again: an interrupted evaluation goes on.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from app.cli.extras import needs

    with needs("train"):
        from training.evaluate import SCORERS, Evaluation
        from training.evaluate import evaluate as draw_and_score
        from training.precision import device_of, dtype_of
        from training.sampling import SAMPLERS, Sampling
    from analysis.samples import compare, write_sheet
    from app.cli.score import faults_of
    from toolkit import scoring
    from toolkit.errors import InputError
    from toolkit.scoring.weights import needed

    _known("sampler", sampler, SAMPLERS)
    judges = list(dict.fromkeys(scorer or ["miniworld"]))
    for name in judges:
        _known("scorer", name, [*SCORERS, *scoring.SCORERS])
        if name not in SCORERS:
            needed(scoring.named(name))  # before minutes of drawing
            if faults := faults_of(scoring.named(name)):
                raise InputError(f"Scorer {name} is not ready: {faults[0]}")
    chosen = named_models(models)
    words = read_prompts(prompts, column)
    asked = Evaluation(tuple(words), tuple(range(seeds)), Sampling(sampler, steps, guidance))
    console, folder = Console(soft_wrap=True, highlight=False), Path(out)
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*bars, console=console) as progress:
        tasks = {name: progress.add_task(name, total=len(asked.samples())) for name in chosen}
        samples, scores = draw_and_score(
            asked,
            chosen,
            folder,
            scorer=judges,
            batch=batch,
            device=device_of(device),
            dtype=dtype_of(precision),
            progress=lambda name, done, total: progress.update(
                tasks[name], completed=done, total=total
            ),
        )
    names = list(chosen)
    comparison = compare(scores, names)
    _save(folder, comparison)
    about = f"Sampler {sampler}, {steps} steps, guidance {guidance:g}, {len(words)} prompts."
    page = write_sheet(folder / "samples.html", samples, scores, comparison, names, about=about)
    headings = {entry.name: entry.short for entry in scoring.SCORERS.values()}
    if any(name in headings for name in judges):
        console.print(models_table(comparison, headings))
    console.print(comparison_table(comparison, names[0]))
    console.print(f"Table: {(folder / 'comparison.parquet').resolve()}", markup=False)
    console.print(f"Page:  {page.resolve()}", markup=False)


def named_models(specs: list[str]) -> "dict[str, Policy]":
    """NAME=MODEL arguments, in order; a model without a name is called after its folder."""
    from toolkit.errors import InputError
    from training.policies import policy_of

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


def read_prompts(source: str, column: str) -> list[str]:
    """Prompts of a text, JSON or Parquet file, or of the mini world; each once, in order.

    JSON: a list of strings, or of objects whose key is `column`. InputError where there are none.
    """
    import json

    import pyarrow.parquet as pq

    from toolkit.errors import InputError
    from toolkit.miniworld.scorer import sample_prompts
    from toolkit.miniworld.words import to_words

    if source.startswith("miniworld:"):
        count = source.removeprefix("miniworld:")
        if not count.isdigit() or not int(count):
            raise InputError(f"{source!r} names no number of prompts; write miniworld:100.")
        return [to_words(prompt) for prompt in sample_prompts(int(count))]
    file = Path(source)
    try:
        if file.suffix == ".parquet":
            names = pq.read_schema(file).names
            if column not in names:
                raise InputError(
                    f"{file} has no column {column!r} (columns: {', '.join(names)}); name one of "
                    "them with --column."
                )
            every = [str(v) for v in pq.read_table(file, columns=[column])[column].to_pylist() if v]
        elif file.suffix == ".json":
            every = _prompts_in(json.loads(file.read_text(encoding="utf-8")), file, column)
        else:
            every = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as problem:  # pyarrow's errors are ValueErrors, UnicodeDecode too
        raise InputError(
            f"The prompts in {file} cannot be read ({' '.join(str(problem).split())}); name a text "
            "file with one a line, a JSON or Parquet file, or miniworld:100."
        ) from problem
    prompts = list(dict.fromkeys(line.strip() for line in every if line.strip()))
    if not prompts:
        raise InputError(f"{file} holds no prompt; write one a line.")
    return prompts


def _prompts_in(found: Any, file: Path, column: str) -> list[str]:
    """The prompts of a JSON list: of strings, or of objects that hold one under `column`."""
    from toolkit.errors import InputError

    rows = found if isinstance(found, list) else []
    told = [row.get(column) if isinstance(row, dict) else row for row in rows]
    every = [prompt for prompt in told if isinstance(prompt, str)]
    if not every or len(every) < len(told):
        raise InputError(
            f"{file} is no list of prompts, nor of objects with a text {column!r}; name the key "
            "with --column."
        )
    return every


def models_table(comparison: "pa.Table", headings: dict[str, str]) -> Any:
    """A row a model and a column a scorer, the paper's four first: mean, and win rate over it."""
    from rich import box
    from rich.table import Table

    from analysis.samples import by_model

    figures, rows = by_model(comparison, list(headings))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.title = "mean score, and win rate against the first model"
    table.add_column("model")
    for figure in figures:
        table.add_column(headings[figure], justify="right")
    for model, cells in rows:
        told = ["–" if c is None else f"{c['mean']:.3f} ({c['win_rate']:.0%})" for c in cells]
        table.add_row(model, *told)
    return table


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

    from toolkit.parts import write_text_whole, write_whole

    write_whole(folder / "comparison.parquet", comparison)
    text = json.dumps(comparison.to_pylist(), indent=2) + "\n"
    write_text_whole(folder / "comparison.json", text)


def _known(what: str, name: str, allowed: Any) -> None:
    from toolkit.errors import InputError

    if name not in allowed:
        raise InputError(f"There is no {what} {name!r}; choose {', '.join(allowed)}.")
