"""The paper's tables on the mini world, a cell at a time: `python -m` this module."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tests.benchmarks.paper_tables.cells import Scale
    from tests.benchmarks.paper_tables.tables import Cell, Table
    from toolkit.store import Store


def reproduce(
    table: Annotated[str, typer.Argument(help="1, 2, 3, 8, 5, 6, 7 or G, as the paper's.")],
    out: Annotated[str, typer.Option(help="Folder of the world, the cells and pages.")] = "tables",
    cells: Annotated[
        int | None, typer.Option(min=0, help="Make this many at most; 0 only writes the page.")
    ] = None,
    rates: Annotated[
        list[float] | None, typer.Option("--rate", help="Only these shares of flips; may repeat.")
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Only these seeds; may repeat.")
    ] = None,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="Only these rows; may repeat.")
    ] = None,
    rival: Annotated[
        str | None,
        typer.Option(help="The row that others are held against, in a page of its own."),
    ] = None,
    backbone: Annotated[str, typer.Option(help="What is aligned.")] = "miniature:sd",
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps a cell.")] = 1000,
    pairs: Annotated[int, typer.Option(min=10, help="Drawn pairs to train on.")] = 2000,
    device: Annotated[str, typer.Option(help="For samples: cpu, cuda, or auto.")] = "auto",
) -> None:
    """Run the cells of a table that are not there yet, then write the table as Markdown.

    Stop it whenever you like: a cell that was interrupted goes on where it was.
    """
    from rich.console import Console

    from app.cli.console import needs

    with needs("train"):
        from tests.benchmarks.paper_tables.cells import Scale
        from training.devices import device_of
    scale = Scale(
        backbone=backbone,
        steps=steps,
        every=max(1, steps // 10),
        pairs=pairs,
        held_out=max(20, pairs * 3 // 10),
        device=device_of(device),
    )
    console = Console(soft_wrap=True, highlight=False)
    page = run_table(table, Path(out), scale, cells, rates, seeds, methods, console, rival)
    console.print(f"Table: {page.resolve()}", markup=False)


def run_table(
    name: str,
    out: Path,
    scale: "Scale",
    limit: int | None,
    rates: list[float] | None,
    seeds: list[int] | None,
    methods: list[str] | None,
    console: Any,
    rival: str | None = None,
) -> Path:
    """Make at most `limit` missing cells of a table; its page, which is written after each.

    `rival`: another row than the table's own to hold the others against.
    """
    from tests.benchmarks.paper_tables.cells import check_scale, result, run_cell
    from tests.benchmarks.paper_tables.tables import TABLES, TUNING_SEED
    from tests.benchmarks.paper_tables.tables import cells as cells_of
    from toolkit.errors import InputError

    if name not in TABLES:
        raise InputError(f"There is no table {name!r}; choose {', '.join(TABLES)}.")
    table = TABLES[name]
    if rival is not None:
        known = ", ".join(row.name for row in table.methods)
        if rival not in known.split(", "):
            raise InputError(f"Table {name} has no row {rival!r}; choose {known} for --rival.")
        table = replace(table, rival=rival)
    choices = [
        choice.name
        for row in table.methods
        if row.name in (methods or ())
        for choice in row.choices
    ]
    wanted = [
        cell
        for cell in cells_of(table)
        if (not rates or cell.rate in rates)
        and (not seeds or cell.seed in seeds or cell.seed == TUNING_SEED)
        and (not methods or cell.method.name in methods or cell.method.name in choices)
    ]
    if not wanted:
        known = ", ".join(f"{rate:g}" for rate in table.rates)
        raise InputError(
            f"Table {name} has no cell of that rate, seed and method (rates {known}; seeds "
            f"{', '.join(map(str, table.seeds))}; methods "
            f"{', '.join(row.name for row in table.methods)}); ask for one of these."
        )
    check_scale(out, scale)
    store = world(out, scale)
    absent = [cell for cell in wanted if result(out, cell) is None]
    page = write_page(name, table, out)
    for k, cell in enumerate(absent[:limit]):
        console.print(f"{cell.name}: {k + 1} of {len(absent)} cells to go", markup=False)
        _flip(store, cell)
        _vote(store, cell)
        run_cell(out, store, cell, scale, console)
        page = write_page(name, table, out)
    return page


def world(out: Path, scale: "Scale") -> "Store":
    """The drawn pairs, those held out under their true labels among them."""
    from tests.benchmarks.paper_tables.tables import CLEAN, HELD_OUT
    from toolkit.miniworld.dataset import add_true_labels, ingest_world
    from toolkit.store import open_or_create

    store = open_or_create(out / "store")
    ingest_world(store, out / "truth.parquet", pairs=scale.pairs, seed=0)
    aside = out / "truth_held_out.parquet"
    ingest_world(store, aside, pairs=scale.held_out, seed=1, split=HELD_OUT)
    add_true_labels(store, aside, CLEAN)
    return store


def write_page(name: str, table: "Table", out: Path) -> Path:
    """The table as it stands: OUT/table-NAME.md, with another rival table-NAME-over-RIVAL.md."""
    from tests.benchmarks.paper_tables.cells import FIRST, Scale, result, scale_of
    from tests.benchmarks.paper_tables.page import Drawn, Run, markdown
    from tests.benchmarks.paper_tables.tables import TABLES, TUNING_SEED
    from tests.benchmarks.paper_tables.tables import cells as cells_of
    from toolkit.files.atomic import write_text_whole

    runs = [
        Run(cell.method.name, cell.rate, cell.seed, cell.name, result(out, cell))
        for cell in cells_of(table)
        if cell.seed != TUNING_SEED
    ]
    guidances = (scale_of(out) or Scale()).guidances
    text = markdown(
        table.title,
        table.question,
        runs,
        [Drawn(_guidance_words(guidance), *_figures(out, guidance)) for guidance in guidances],
        FIRST,
        rival=table.rival,
        about=_scale_words(name, out),
    )
    own = TABLES[name].rival == table.rival
    suffix = "" if own else f"-over-{table.rival}"
    return write_text_whole(out / f"table-{name}{suffix}.md", text)


def _figures(out: Path, guidance: float) -> tuple[Any, Any]:
    """Reward and prompt accuracy of all samples at one strength of guidance."""
    import pyarrow.parquet as pq

    from tests.benchmarks.paper_tables.cells import samples_folder
    from tests.benchmarks.paper_tables.page import figure
    from toolkit.files.atomic import parts
    from training.evaluate import SCORES

    files = parts(samples_folder(out, guidance) / "scores" / "miniworld")
    scores = pq.read_table(files, schema=SCORES) if files else SCORES.empty_table()
    return figure(scores, "reward"), figure(scores, "accuracy")


def _guidance_words(guidance: float) -> str:
    return "without guidance" if guidance == 1 else f"at guidance {guidance:g}"


def _options(scale: "Scale") -> str:
    """What was asked for beside the defaults."""
    from tests.benchmarks.paper_tables.cells import Scale

    usual = Scale()
    told = [(name, getattr(scale, name)) for name in ("backbone", "steps", "pairs")]
    return "".join(f" --{name} {value}" for name, value in told if value != getattr(usual, name))


def _scale_words(name: str, out: Path) -> list[str]:
    """The command, how large the cells are, and how far an accuracy of ell can be trusted."""
    from tests.benchmarks.paper_tables.cells import scale_of

    scale = scale_of(out)
    if scale is None:
        return []
    judged = scale.held_out // 2
    return [
        f"    python -m tests.benchmarks.paper_tables.run {name}{_options(scale)}",
        f"Backbone {scale.backbone} at {scale.resolution} px, LoRA of rank {scale.rank} on the "
        f"cross-attention; {scale.pairs:,} drawn pairs, {scale.steps:,} steps of "
        f"{scale.batch_size}, learning rate {scale.learning_rate:g}, every gradient brought to "
        f"norm {scale.grad_norm:g}. Samples: {scale.prompts} prompts, {scale.sampler_steps} steps, "
        f"{' and '.join(map(_guidance_words, scale.guidances))}, the mini world's exact reward.",
        f"Accuracy of ell is measured on {judged} pairs, so that one seed's has a 95 % interval of "
        f"up to {1.96 * (0.25 / judged) ** 0.5:.3f} to either side.",
    ]


def _flip(store: "Store", cell: "Cell") -> None:
    from tests.benchmarks.paper_tables.tables import flips
    from toolkit.labels.flips import plant_flips

    if cell.rate:
        name = flips(cell.rate, cell.seed)
        plant_flips(store, name, rate=cell.rate, seed=cell.seed)


def _vote(store: "Store", cell: "Cell") -> None:
    """The label set in which a cell's scorers and its flipped labels were counted together."""
    from tests.benchmarks.paper_tables.cells import labels_of
    from tests.benchmarks.paper_tables.tables import flips
    from toolkit import scoring
    from toolkit.labels.scorers import vote_of_scorers
    from toolkit.scoring.run import fill

    if not cell.method.voters:
        return
    for name in cell.method.voters:
        entry = scoring.named(name)
        fill(store, entry, scoring.load(entry))
    base = flips(cell.rate, cell.seed)
    vote_of_scorers(store, labels_of(cell), base, scorer=list(cell.method.voters))


if __name__ == "__main__":
    typer.run(reproduce)
