"""The page Runs: a training in progress, and runs compared with each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import streamlit as st
import yaml

from app.desk import page, state
from app.desk.components import text
from app.desk.components.charts import show_figure
from app.desk.components.pair_card import image_tag
from app.desk.image_cache import ShownImage, resized
from app.desk.queries.connection import cached_read, stamp, trajectory_files
from app.desk.views.getting_started import train_command
from toolkit.colors import Ground
from toolkit.errors import InputError, StoreError
from toolkit.store import Store, run_log
from toolkit.store.label_sets import ORIGINAL, planted_flips
from toolkit.store.run_log import Status, Watched
from toolkit.store.runs import run_about

_REFRESH_SECONDS = 4
_MOST_RUNS = 4
_COLUMNS = 5
_PROMPTS = 6
_SAMPLE_SIDE = 256
"""Largest size of a sample on the page, in pixels."""


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The page, or how to start a first run."""
    page.head("Runs", "What a training records as it runs; up to four runs side by side.")
    names = _newest_first(store)
    if not names:
        text.hint("The store has no run yet.", train_command(store))
        return
    first = [settings.run] if settings.run in names else names[:1]
    with st.container(horizontal=True, vertical_alignment="bottom", key="runs-head"):
        chosen = st.multiselect(
            "Runs",
            names,
            default=first,
            max_selections=_MOST_RUNS,
            key="runs-chosen",
            width=640,
        )
        st.toggle("Auto-refresh", value=True, key="runs-live")
    if not chosen:
        text.info("Choose a run above.")
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


@cached_read(lambda store, run: stamp(store, files=[(store.run(run), "recipe.yaml")]))
def _log_every(store: Store, run: str) -> int | None:
    try:
        options = yaml.safe_load((store.run(run) / "recipe.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None
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
            f'<div class="desk-run"><b>{text.escape(watched.run)}</b><span class="desk-chip '
            f'{"given" if status.word == "running" else ""}"><i>{marks[status.word]}</i>'
            f"<b>{status.word}</b></span><span>{text.escape(status.sentence)}</span></div>"
            f"{text.progress_bar(min(1.0, watched.step / planned))}"
        )
        if status.word == "silent":
            text.command(f"outvoted resume {text.shell_path(store.root)} --run {watched.run}")
    heads = ("run", "objective", "metric", "labels", "steps", "loss", "accuracy", "held out",
             "pairs/s", "growth")  # fmt: skip
    text.table(heads, [_run_row(run.watched) for run in runs], name="Runs compared")


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
        text.number(last.get("loss")),
        text.share(last["accuracy"]) if "accuracy" in last else "–",
        _held_out_text(watched),
        text.number(last.get("pairs_per_second")),
        text.share(last["chosen_growth"]) if last.get("chosen_growth") is not None else "–",
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
        text.quiet("No log entry yet: the first comes after `log_every` steps. A run that another "
                   "trainer recorded has none.")  # fmt: skip
        return
    from analysis.figures import curves  # needs the extra `analyze`

    figures = {
        "loss": curves.scalar_figure(watched, "loss", "loss"),
        "accuracy": curves.accuracy_figure(watched),
        "pairs per second": curves.scalar_figure(watched, "pairs_per_second", "pairs per second"),
        "error on chosen images": curves.growth_figure(watched),
    }
    runs = ", ".join(run.run for run in watched)
    columns = [column for _ in range(2) for column in st.columns(2, gap="large")]
    for column, (name, figure) in zip(columns, figures.items(), strict=True):
        with column:
            show_figure(figure, ground, height=250, key=f"curve-{name}",
                               alt=f"{name} by step of {runs}")  # fmt: skip


@cached_read(lambda store, run: stamp(store, files=trajectory_files(store, run)))
def _ell_table(store: Store, run: str) -> pa.Table | None:
    """As `run_log.ell_by_timestep`."""
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
        text.quiet("No rows with timesteps are written yet; a run writes them in parts, at its "
                   "checkpoints at the latest.")  # fmt: skip
        return
    through = ", ".join(
        f"{run} up to step {table['through'][0].as_py():,}" for run, table in tables
    )
    text.quiet(
        f"Over the last three tenths of the steps written so far: {text.escape(through)}. Above 0 "
        "the model agrees with the label it was trained on."
    )
    if len(tables) == 1:
        from analysis.figures.distributions import ell_by_timestep_figure

        figure = ell_by_timestep_figure(tables[0][1])
    else:
        from analysis.figures.curves import ell_medians_figure

        figure = ell_medians_figure(tables)
    show_figure(figure, ground, height=320, key="curve-ell", alt="ell by timestep")


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
        rows.append(f'<tr><th scope="row">{text.escape(prompt)}</th>{images}</tr>')
    heads = "".join(f'<th scope="col">{text.escape(word)}</th>' for _, _, word in columns)
    st.html(
        '<table class="desk-samples" aria-label="Samples"><thead><tr><th scope="col">prompt</th>'
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
    if len(prompts) > _PROMPTS:
        text.quiet(f"and {len(prompts) - _PROMPTS} more prompts")


def _spread(steps: list[int]) -> list[int]:
    """The first, the last, and some between them."""
    if len(steps) <= _COLUMNS:
        return steps
    last = len(steps) - 1
    return [steps[round(place * last / (_COLUMNS - 1))] for place in range(_COLUMNS)]


def _sample(store: Store, run: str, step: int, place: int) -> ShownImage:
    """A sample of the run, or why it cannot be shown."""
    data = run_log.sample_image(store, run, step, place)
    if data is None:
        return ShownImage(problem="not drawn yet")
    try:
        return resized(data, _SAMPLE_SIDE)
    except InputError:
        return ShownImage(problem="still being written")


def _sample_markup(store: Store, run: str, step: int, place: int, alt: str) -> str:
    image = _sample(store, run, step, place)
    if image.problem:
        return f'<span class="desk-quiet">{text.escape(image.problem)}</span>'
    return image_tag(image, alt)


PAGE = page.Page("runs", "Runs", ":material/monitoring:", draw)
