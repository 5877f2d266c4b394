"""The page Runs: a training in progress, and runs compared with each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import streamlit as st
import yaml

from app.desk import page, state
from app.desk.components import charts
from app.desk.components.page_text import (
    escape_html,
    number,
    progress_bar,
    share,
    shell_path,
    show_command,
    show_hint,
    show_info,
    show_quiet,
    show_table,
)
from app.desk.components.pair_card import image
from app.desk.image_cache import Picture, resized
from app.desk.queries.connection import PATH_HASH, Stamp, stamp, trajectory_files
from app.desk.views.getting_started import train_command
from toolkit.colors import Ground
from toolkit.errors import InputError, StoreError
from toolkit.store import Store, run_log
from toolkit.store.label_sets import ORIGINAL, planted_flips
from toolkit.store.run_log import Status, Watched
from toolkit.store.runs import run_about

_REFRESH_SECONDS = 4
_COLUMNS = 5
_PROMPTS = 6
_SAMPLE_SIDE = 256
"""Largest size of a sample on the page, in pixels."""


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The page, or how to start a first run."""
    page.head("Runs", "What a training records as it runs; up to four runs side by side.")
    names = _newest_first(store)
    if not names:
        show_hint("The store has no run yet.", train_command(store))
        return
    first = [settings.run] if settings.run in names else names[:1]
    with st.container(horizontal=True, vertical_alignment="bottom", key="runs-head"):
        chosen = st.multiselect(
            "Runs",
            names,
            default=first,
            max_selections=charts.MOST_RUNS,
            key="runs-chosen",
            width=640,
        )
        st.toggle("Auto-refresh", value=True, key="runs-live")
    if not chosen:
        show_info("Choose a run above.")
        return
    running = sum(run.is_running for run in _read_runs(store, chosen))
    every = _REFRESH_SECONDS if running and st.session_state["runs-live"] else None
    st.fragment(_show_runs, run_every=every)(store, tuple(chosen), running, ground)


@dataclass(frozen=True)
class Run:
    """One run as it is now."""

    watched: Watched
    status: Status

    @property
    def is_running(self) -> bool:
        """Whether it may still write."""
        return self.status.word not in ("finished", "recorded")


def _read_runs(store: Store, names: Sequence[str]) -> list[Run]:
    """The runs as they are now, without those that are gone or have no run.json yet."""
    runs = []
    for name in names:
        try:
            watched = run_log.watch(store, name)
        except (StoreError, ValueError):
            continue
        runs.append(Run(watched, run_log.status(watched, _log_every(store, name))))
    return runs


def _newest_first(store: Store) -> list[str]:
    """Runs by when they started, the newest first; those of unknown start come last."""
    names = store.runs()
    started = {run.watched.run: str(run.watched.about.get("started", ""))
               for run in _read_runs(store, names)}  # fmt: skip
    return sorted(names, key=lambda name: (started.get(name, ""), name), reverse=True)


def _log_every(store: Store, run: str) -> int | None:
    recipe = store.run(run) / "recipe.yaml"
    try:
        return _read_log_every(recipe, recipe.stat().st_mtime_ns)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs=PATH_HASH)
def _read_log_every(recipe: Path, changed: int) -> int | None:  # noqa: ARG001
    options = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    every = options.get("log_every") if isinstance(options, dict) else None
    return every if isinstance(every, int) else None


def _show_runs(store: Store, names: tuple[str, ...], running: int, ground: Ground) -> None:
    """All that changes while a run is in progress."""
    with page.errors_as_text():
        runs = _read_runs(store, names)
        if sum(run.is_running for run in runs) != running:
            st.rerun()  # one has just ended or started, and the refresh must follow
        watched = [run.watched for run in runs]
        _show_status(store, runs)
        _show_curves(watched, ground)
        _show_ell(store, watched, ground)
        _show_samples(store, watched)


def _show_status(store: Store, runs: Sequence[Run]) -> None:
    marks = {"finished": "✓", "running": "▶", "silent": "‖", "recorded": "○"}
    for run in runs:
        watched, status = run.watched, run.status
        planned = watched.about.get("planned_steps") or watched.step or 1
        st.html(
            f'<div class="desk-run"><b>{escape_html(watched.run)}</b><span class="desk-chip '
            f'{"given" if status.word == "running" else ""}"><i>{marks[status.word]}</i>'
            f"<b>{status.word}</b></span><span>{escape_html(status.sentence)}</span></div>"
            f"{progress_bar(min(1.0, watched.step / planned))}"
        )
        if status.word == "silent":
            show_command(f"outvoted resume {shell_path(store.root)} --run {watched.run}")
    heads = ("run", "objective", "metric", "labels", "steps", "loss", "accuracy", "held out",
             "pairs/s", "growth")  # fmt: skip
    show_table(heads, [_run_row(run.watched) for run in runs], name="Runs compared")


def _run_row(watched: Watched) -> list[str]:
    about = watched.about
    objective, metric = about.get("objective") or {}, about.get("metric") or {}
    beta = objective.get("beta")
    last = watched.scalars[-1] if watched.scalars else {}
    return [
        watched.run,
        f"{objective.get('name', '–')}" + (f", beta {beta:g}" if beta is not None else ""),
        str(metric.get("preset", "–")),
        str(about.get("labels", "–")),
        f"{watched.step:,}",
        number(last.get("loss")),
        share(last["accuracy"]) if "accuracy" in last else "–",
        _held_out_text(watched),
        number(last.get("pairs_per_second")),
        share(last["chosen_growth"]) if last.get("chosen_growth") is not None else "–",
    ]


def _held_out_text(watched: Watched) -> str:
    """The last held-out accuracy, its interval, and the number of pairs behind it."""
    if not watched.held_out:
        return "not measured"
    last = watched.held_out[-1]
    low, high, value = (100 * last[name] for name in ("low", "high", "accuracy"))
    return f"{value:.0f} % ({low:.0f}–{high:.0f}) of {last['pairs']} at step {last['step']:,}"


def _show_curves(watched: Sequence[Watched], ground: Ground) -> None:
    if not any(run.scalars for run in watched):
        show_quiet("No log entry yet: the first comes after `log_every` steps. A run that another "
                   "trainer recorded has none.")  # fmt: skip
        return
    figures = {
        "loss": charts.run_curve(watched, "loss", "loss"),
        "accuracy": charts.accuracy_curve(watched),
        "pairs per second": charts.run_curve(watched, "pairs_per_second", "pairs per second"),
        "error on chosen images": charts.growth_curve(watched),
    }
    runs = ", ".join(run.run for run in watched)
    columns = [column for _ in range(2) for column in st.columns(2, gap="large")]
    for column, (name, figure) in zip(columns, figures.items(), strict=True):
        with column:
            charts.show_figure(figure, ground, height=250, key=f"curve-{name}",
                               alt=f"{name} by step of {runs}")  # fmt: skip


def _ell_table(store: Store, run: str) -> pa.Table | None:
    """As `run_log.ell_by_timestep`; read again only after a part was added."""
    made_from = stamp(store, files=trajectory_files(store, run))
    return _read_ell_table(store.root, run, made_from) if made_from else None


@st.cache_data(show_spinner=False, max_entries=16, hash_funcs=PATH_HASH)
def _read_ell_table(root: Path, run: str, stamp: Stamp) -> pa.Table | None:  # noqa: ARG001
    store = Store(root)
    about = run_about(store, run)
    try:
        flipped = planted_flips(store, str(about.get("labels") or ORIGINAL))
    except StoreError:  # the label set was made elsewhere and is not in this store
        flipped = None
    return run_log.ell_by_timestep(store, run, flipped)


def _show_ell(store: Store, watched: Sequence[Watched], ground: Ground) -> None:
    st.subheader("ell by timestep")
    tables = [(run.run, table) for run in watched if (table := _ell_table(store, run.run))]
    if not tables:
        show_quiet("No rows with timesteps are written yet; a run writes them in parts, at its "
                   "checkpoints at the latest.")  # fmt: skip
        return
    through = ", ".join(
        f"{run} up to step {table['through'][0].as_py():,}" for run, table in tables
    )
    show_quiet(
        f"Over the last three tenths of the steps written so far: {escape_html(through)}. Above 0 "
        "the model agrees with the label it was trained on."
    )
    if len(tables) == 1:
        from analysis.figures.distributions import ell_by_timestep_figure

        figure = ell_by_timestep_figure(tables[0][1])
    else:
        figure = charts.ell_curves(tables)
    charts.show_figure(figure, ground, height=320, key="curve-ell", alt="ell by timestep")


def _show_samples(store: Store, watched: Sequence[Watched]) -> None:
    sampled = [run for run in watched if run.samples]
    if not sampled:
        return
    st.subheader("Samples")
    if len(sampled) == 1:
        run = sampled[0].run
        columns = [(run, step, f"step {step:,}") for step in _spread(sampled[0].samples)]
    else:
        columns = [(r.run, r.samples[-1], f"{r.run}, step {r.samples[-1]:,}") for r in sampled]
    prompts = run_log.sample_prompts(store, columns[-1][0], columns[-1][1])
    rows = []
    for place, prompt in enumerate(prompts[:_PROMPTS]):
        images = "".join(
            f"<td>{_sample_markup(store, run, step, place, f'{prompt}, {word}')}</td>"
            for run, step, word in columns
        )
        rows.append(f'<tr><th scope="row">{escape_html(prompt)}</th>{images}</tr>')
    heads = "".join(f'<th scope="col">{escape_html(word)}</th>' for _, _, word in columns)
    st.html(
        '<table class="desk-samples" aria-label="Samples"><thead><tr><th scope="col">prompt</th>'
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
    if len(prompts) > _PROMPTS:
        show_quiet(f"and {len(prompts) - _PROMPTS} more prompts")


def _spread(steps: list[int]) -> list[int]:
    """The first, the last, and some between them."""
    if len(steps) <= _COLUMNS:
        return steps
    last = len(steps) - 1
    return [steps[round(place * last / (_COLUMNS - 1))] for place in range(_COLUMNS)]


def _sample(store: Store, run: str, step: int, number: int) -> Picture:
    """A sample of the run, or why it cannot be shown."""
    data = run_log.sample_image(store, run, step, number)
    if data is None:
        return Picture(problem="not drawn yet")
    try:
        return resized(data, _SAMPLE_SIDE)
    except InputError:
        return Picture(problem="still being written")


def _sample_markup(store: Store, run: str, step: int, place: int, alt: str) -> str:
    picture = _sample(store, run, step, place)
    if picture.problem:
        return f'<span class="desk-quiet">{escape_html(picture.problem)}</span>'
    return image(picture, alt)


PAGE = page.Page("runs", "Runs", ":material/monitoring:", draw)
