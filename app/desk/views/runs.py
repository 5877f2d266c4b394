"""The page Runs: a training as it goes on, and runs held against each other."""

from collections.abc import Sequence

import streamlit as st

from app.desk import page as frame
from app.desk import state
from app.desk.components import curves, page, tables
from app.desk.components import messages as notice
from app.desk.components.figures import on_ground
from app.desk.components.html_text import literal, number, share
from app.desk.queries import runs as reads
from app.desk.queries.runs import Looked
from toolkit.colors import Ground
from toolkit.store import Store
from toolkit.store.run_log import Watched, sample_prompts

_SECONDS = 4
"""Between two looks at a run that is going on."""
_COLUMNS = 5
_SAMPLED = 6


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The whole page, or how to start a first run."""
    page.head("Runs", "What a training leaves as it goes on; up to four runs side by side.")
    names = reads.newest_first(store)
    if not names:
        notice.news("The store has no run yet. Type in a terminal, and watch it here:")
        notice.command(f"outvoted train RECIPE --store {notice.path(store.root)}")
        return
    first = [settings.run] if settings.run in names else names[:1]
    with st.container(horizontal=True, vertical_alignment="bottom", key="runs-head"):
        chosen = st.multiselect(
            "Runs",
            names,
            default=first,
            max_selections=curves.MOST,
            key="runs-chosen",
            width=640,
        )
        st.toggle("Refresh by itself", value=True, key="runs-live")
    if not chosen:
        notice.news("Choose a run above.")
        return
    going = [run for run in chosen if (seen := reads.look(store, run)) and _alive(seen)]
    every = _SECONDS if going and st.session_state["runs-live"] else None
    st.fragment(_live, run_every=every)(store, tuple(chosen), len(going), ground)


def _alive(seen: Looked) -> bool:
    return seen.status.word not in ("finished", "recorded")


def _live(store: Store, chosen: tuple[str, ...], going: int, ground: Ground) -> None:
    """All that changes while a run goes on."""
    with frame.sentences():
        found = [seen for run in chosen if (seen := reads.look(store, run)) is not None]
        if sum(map(_alive, found)) != going:
            st.rerun()  # one has just ended, or another began: ask for the right refresh
        watched = [seen.watched for seen in found]
        _status(store, found)
        _charts(watched, ground)
        _ell(store, watched, ground)
        _samples(store, watched)


def _status(store: Store, found: Sequence[Looked]) -> None:
    marks = {"finished": "✓", "running": "▶", "silent": "‖", "recorded": "○"}
    for seen in found:
        watched, status = seen.watched, seen.status
        planned = watched.about.get("planned_steps") or watched.step or 1
        done = min(1.0, watched.step / planned)
        st.html(
            f'<div class="desk-run"><b>{literal(watched.run)}</b><span class="desk-chip '
            f'{"given" if status.word == "running" else ""}"><i>{marks[status.word]}</i>'
            f"<b>{status.word}</b></span><span>{literal(status.sentence)}</span></div>"
            f'<div class="desk-bar"><span style="width: {100 * done:.2f}%"></span></div>'
        )
        if status.word == "silent":
            notice.command(f"outvoted resume {notice.path(store.root)} --run {watched.run}")
    heads = ("run", "objective", "metric", "labels", "steps", "loss", "accuracy", "held out",
             "pairs/s", "growth")  # fmt: skip
    tables.table(heads, [_row(seen.watched) for seen in found], name="Runs compared")


def _row(watched: Watched) -> list[str]:
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
        held_out_words(watched),
        number(last.get("pairs_per_second")),
        share(last["chosen_growth"]) if last.get("chosen_growth") is not None else "–",
    ]


def held_out_words(watched: Watched) -> str:
    """The last held-out accuracy with its interval and how many pairs it stands on."""
    if not watched.held_out:
        return "not measured"
    last = watched.held_out[-1]
    low, high, value = (100 * last[name] for name in ("low", "high", "accuracy"))
    return f"{value:.0f} % ({low:.0f}–{high:.0f}) of {last['pairs']} at step {last['step']:,}"


def _charts(watched: Sequence[Watched], ground: Ground) -> None:
    if not any(run.scalars for run in watched):
        st.html(
            '<p class="desk-quiet">No log point yet: the first comes after `log_every` steps. A '
            "record of another trainer has none.</p>"
        )
        return
    figures = {
        "loss": curves.scalar(watched, "loss", "loss"),
        "accuracy": curves.accuracy(watched),
        "pairs per second": curves.scalar(watched, "pairs_per_second", "pairs per second"),
        "error on chosen images": curves.growth(watched),
    }
    names = list(figures)
    for pair in (names[:2], names[2:]):
        for place, name in zip(st.columns(2, gap="large"), pair, strict=True):
            place.plotly_chart(
                on_ground(figures[name], ground, height=250),
                theme=None,
                key=f"curve-{name}",
                config={"displayModeBar": False},
                alt=f"{name} by step of {', '.join(run.run for run in watched)}",
            )


def _ell(store: Store, watched: Sequence[Watched], ground: Ground) -> None:
    st.subheader("ell by timestep")
    known = [(run.run, table) for run in watched if (table := reads.ell_table(store, run.run))]
    if not known:
        st.html(
            '<p class="desk-quiet">No rows with timesteps are written yet; a run writes them in '
            "parts, at its checkpoints at the latest.</p>"
        )
        return
    through = ", ".join(f"{run} up to step {table['through'][0].as_py():,}" for run, table in known)
    st.html(
        '<p class="desk-quiet">Over the last three tenths of the steps written so far: '
        f"{literal(through)}. Above 0 the model agrees with the label it was trained on.</p>"
    )
    if len(known) == 1:
        from analysis.figures.distributions import ell_by_timestep_figure

        figure = ell_by_timestep_figure(known[0][1])
    else:
        figure = curves.ell_medians(known)
    st.plotly_chart(
        on_ground(figure, ground, height=320),
        theme=None,
        key="curve-ell",
        config={"displayModeBar": False},
        alt="ell by timestep",
    )


def _samples(store: Store, watched: Sequence[Watched]) -> None:
    drawn = [run for run in watched if run.samples]
    if not drawn:
        return
    st.subheader("Samples")
    if len(drawn) == 1:
        run = drawn[0].run
        cells = [(run, step, f"step {step:,}") for step in _spread(drawn[0].samples)]
    else:
        cells = [(r.run, r.samples[-1], f"{r.run}, step {r.samples[-1]:,}") for r in drawn]
    prompts = sample_prompts(store, cells[-1][0], cells[-1][1])
    rows = []
    for place, prompt in enumerate(prompts[:_SAMPLED]):
        images = "".join(
            f"<td>{_image(store, run, step, place, f'{prompt}, {word}')}</td>"
            for run, step, word in cells
        )
        rows.append(f'<tr><th scope="row">{literal(prompt)}</th>{images}</tr>')
    heads = "".join(f'<th scope="col">{literal(word)}</th>' for _, _, word in cells)
    st.html(
        '<table class="desk-samples" aria-label="Samples"><thead><tr><th scope="col">prompt</th>'
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
    if len(prompts) > _SAMPLED:
        st.html(f'<p class="desk-quiet">and {len(prompts) - _SAMPLED} more prompts</p>')


def _spread(steps: list[int]) -> list[int]:
    """The first, the last, and some between."""
    if len(steps) <= _COLUMNS:
        return steps
    last = len(steps) - 1
    return [steps[round(place * last / (_COLUMNS - 1))] for place in range(_COLUMNS)]


def _image(store: Store, run: str, step: int, place: int, name: str) -> str:
    picture = reads.sample(store, run, step, place)
    if picture.problem:
        return f'<span class="desk-quiet">{literal(picture.problem)}</span>'
    small = ' class="pixel"' if max(picture.width, picture.height) <= 128 else ""
    return f'<img src="{picture.source}" alt="{literal(name)}"{small}>'
