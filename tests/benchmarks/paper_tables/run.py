"""The paper's tables on the mini world, a cell at a time: run what is missing, write the page."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.benchmarks.paper_tables.cells import (
    FIRST,
    Scale,
    check_scale,
    labels_of,
    result,
    run_cell,
    samples_folder,
    scale_of,
)
from tests.benchmarks.paper_tables.page import Drawn, Run, Scores, figure, markdown
from tests.benchmarks.paper_tables.tables import (
    CLEAN,
    HELD_OUT,
    TABLES,
    TUNING_SEED,
    Cell,
    Table,
    cells,
    flips,
)
from toolkit import scoring
from toolkit.errors import InputError
from toolkit.files.atomic import parts, write_text_whole
from toolkit.labels.flips import plant_flips
from toolkit.labels.scorers import vote_of_scorers
from toolkit.miniworld.dataset import add_true_labels, ingest_world
from toolkit.scoring.run import fill
from toolkit.store import Store, open_or_create
from training.evaluate import SCORES


def run_table(
    name: str,
    out: Path,
    scale: Scale,
    *,
    limit: int | None = None,
    rates: Sequence[float] = (),
    seeds: Sequence[int] = (),
    methods: Sequence[str] = (),
    rival: str | None = None,
    console: Any = None,
) -> Path:
    """Run at most `limit` missing cells of a table; the path of its page, written after each.

    `rates`, `seeds`, `methods`: only these; all by default. `rival`: compare with this row instead
    of the table's own.
    """
    if name not in TABLES:
        raise InputError(f"There is no table {name!r}; choose {', '.join(TABLES)}.")
    table = TABLES[name]
    rows = [row.name for row in table.methods]
    if rival is not None:
        if rival not in rows:
            raise InputError(
                f"Table {name} has no row {rival!r}; choose {', '.join(rows)} for --rival."
            )
        table = replace(table, rival=rival)
    wanted = _wanted(name, table, rates, seeds, methods)
    check_scale(out, scale)
    store = world(out, scale)
    missing = [cell for cell in wanted if result(out, cell) is None]
    page = write_page(name, table, out)
    for k, cell in enumerate(missing[:limit]):
        if console is not None:
            console.print(f"{cell.name}: {k + 1} of {len(missing)} missing cells")
        _flip(store, cell)
        _vote(store, cell)
        run_cell(out, store, cell, scale, console)
        page = write_page(name, table, out)
    return page


def _wanted(
    name: str,
    table: Table,
    rates: Sequence[float],
    seeds: Sequence[int],
    methods: Sequence[str],
) -> list[Cell]:
    """The cells of these rates, seeds and rows, with those that a row's choice needs. InputError
    if there is none."""
    choices = [
        choice.name for row in table.methods if row.name in methods for choice in row.choices
    ]
    wanted = [
        cell
        for cell in cells(table)
        if (not rates or cell.rate in rates)
        and (not seeds or cell.seed in seeds or cell.seed == TUNING_SEED)
        and (not methods or cell.method.name in methods or cell.method.name in choices)
    ]
    if not wanted:
        raise InputError(
            f"Table {name} has no cell of that rate, seed and method (rates "
            f"{', '.join(f'{rate:g}' for rate in table.rates)}; seeds "
            f"{', '.join(map(str, table.seeds))}; methods "
            f"{', '.join(row.name for row in table.methods)}); choose among these."
        )
    return wanted


def world(out: Path, scale: Scale) -> Store:
    """The drawn pairs, with the held-out ones under their true labels."""
    store = open_or_create(out / "store")
    ingest_world(store, out / "truth.parquet", pairs=scale.pairs, seed=0)
    aside = out / "truth_held_out.parquet"
    ingest_world(store, aside, pairs=scale.held_out, seed=1, split=HELD_OUT)
    add_true_labels(store, aside, CLEAN)
    return store


def write_page(name: str, table: Table, out: Path) -> Path:
    """Write what is there of a table: OUT/table-NAME.md, or table-NAME-over-RIVAL.md."""
    runs = [
        Run(cell.method.name, cell.rate, cell.seed, cell.name, result(out, cell))
        for cell in cells(table)
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


def _figures(out: Path, guidance: float) -> tuple[Scores, Scores]:
    """Reward and prompt accuracy of all samples at one guidance scale."""
    files = parts(samples_folder(out, guidance) / "scores" / "miniworld")
    scores = pq.read_table(files, schema=SCORES) if files else SCORES.empty_table()
    return figure(scores, "reward"), figure(scores, "accuracy")


def _guidance_words(guidance: float) -> str:
    return "without guidance" if guidance == 1 else f"at guidance {guidance:g}"


def _options(scale: Scale) -> str:
    """The options that differ from their defaults."""
    usual = Scale()
    options = [(name, getattr(scale, name)) for name in ("backbone", "steps", "pairs")]
    return "".join(f" --{name} {value}" for name, value in options if value != getattr(usual, name))


def _scale_words(name: str, out: Path) -> list[str]:
    """The command, how large the cells are, and how far an accuracy of ell can be trusted."""
    scale = scale_of(out)
    if scale is None:
        return []
    measured = scale.held_out // 2
    return [
        f"    python -m tests.benchmarks.paper_tables {name}{_options(scale)}",
        f"Backbone {scale.backbone} at {scale.resolution} px, LoRA of rank {scale.rank} on the "
        f"cross-attention; {scale.pairs:,} drawn pairs, {scale.steps:,} steps of "
        f"{scale.batch_size}, learning rate {scale.learning_rate:g}, every gradient brought to "
        f"norm {scale.grad_norm:g}. Samples: {scale.prompts} prompts, {scale.sampler_steps} steps, "
        f"{' and '.join(map(_guidance_words, scale.guidances))}, the mini world's exact reward.",
        f"Accuracy of ell is measured on {measured} pairs, so that one seed's has a 95 % interval "
        f"of up to {1.96 * (0.25 / measured) ** 0.5:.3f} to either side.",
    ]


def _flip(store: Store, cell: Cell) -> None:
    if cell.rate:
        name = flips(cell.rate, cell.seed)
        plant_flips(store, name, rate=cell.rate, seed=cell.seed)


def _vote(store: Store, cell: Cell) -> None:
    """Make the label set in which a cell's scorers and its flipped labels are counted together."""
    if not cell.method.voters:
        return
    for name in cell.method.voters:
        entry = scoring.named(name)
        fill(store, entry, scoring.load(entry))
    base = flips(cell.rate, cell.seed)
    vote_of_scorers(store, labels_of(cell), base, scorer=list(cell.method.voters))
