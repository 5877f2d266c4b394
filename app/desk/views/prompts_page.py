"""The page Prompts: the noisiest prompts, contradictions and cycles, habits of annotators."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import streamlit as st

from app.desk import page, state
from app.desk.components import text
from app.desk.components.charts import show_figure
from app.desk.image_cache import thumbnails
from app.desk.queries.connection import TABLES, Desk, Stamp, current, stamp
from app.desk.views.getting_started import ingest_command, run_command
from toolkit.colors import Ground
from toolkit.store import Store
from toolkit.store.queue import prompt_noise
from toolkit.store.queue.views import View
from toolkit.store.runs import findings, read_findings

_TABS = ("Noisy prompts", "Contradictions and cycles", "Annotators")
_SHOWN = 12
_PEOPLE = 25
_HABITS_FINDING = "annotators"
_HABITS = {
    "mean_u": "mean u of their pairs",
    "agreement": "agreement with the others",
    "left_share": "share of image_0",
    "tie_rate": "share of ties",
    "votes": "votes",
}


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The page, or what an empty store needs."""
    page.head(
        "Prompts and annotators",
        "Where the noise is: prompts whose labels the model doubts, labels that contradict each "
        "other, and the habits of the annotators.",
    )
    desk, _ = current(store, settings)
    if not desk.pairs:
        text.hint("The store has no pairs yet.", ingest_command(store))
        return
    tab = st.segmented_control(
        "Show", _TABS, default=_TABS[0], required=True, key="prompts-what",
        label_visibility="collapsed",
    )  # fmt: skip
    if tab == _TABS[0]:
        _show_noisy(desk)
    elif tab == _TABS[1]:
        _show_conflicts(desk)
    else:
        _show_annotators(desk, ground)


def _show_noisy(desk: Desk) -> None:
    """The prompts with the largest mean u."""
    if not desk.run:
        text.hint("The noise of a prompt is read from u, and no run has a u yet.",
                  run_command(desk.store))  # fmt: skip
        return
    least = st.number_input("Pairs with a u, at least", 1, 1000, 3, key="prompts-least", width=240)
    rows = prompt_noise.noisy_prompts(desk.cursor(), least=int(least))
    if not rows:
        text.info("No prompt has so many pairs with a u; lower the number above.")
        return
    text.quiet(
        "Largest adjusted mean of u first: the mean of the prompt's pairs and five average pairs, "
        "so that a single bad pair does not make a bad prompt."
    )
    heads = ("prompt", "pairs", "mean u", "adjusted mean", "largest", "with a verdict", "")
    most = max(abs(row["adjusted_mean_u"] or 0.0) for row in rows) or 1.0
    cells = [
        [
            text.Html(f'<span class="desk-wide" dir="auto">{text.escape(row["prompt"])}</span>'),
            f"{row['pairs']:,}",
            text.number(row["mean_u"]),
            _bar(row["adjusted_mean_u"], most),
            text.number(row["largest_u"]),
            f"{row['judged']:,}",
            _queue_link(of_prompt(row["prompt"]), "judge"),
        ]
        for row in rows
    ]
    text.table(heads, cells, name="Noisy prompts")


def _bar(value: float | None, most: float) -> str:
    if value is None:
        return "–"
    return text.Html(
        f'<span class="desk-tiny"><span style="width: {100 * abs(value) / most:.0f}%"></span>'
        f"</span> {text.number(value)}"
    )


def _queue_link(view: View, word: str) -> text.Html:
    href = text.escape(state.link("queue", view))
    return text.Html(f'<a class="desk-link" target="_self" href="{href}">{word}</a>')


def of_prompt(prompt: str) -> View:
    """The view of one prompt's pairs."""
    quoted = prompt.replace("\\", "\\\\").replace('"', '\\"')
    return View(where=f'prompt = "{quoted}"')


@dataclass(frozen=True)
class Conflicts:
    """Labels that contradict each other: how many, and the first of them."""

    contradictions: int
    contradicted: list[dict[str, Any]]
    cycles: int
    in_cycles: list[dict[str, Any]]


def _conflicts(desk: Desk) -> Conflicts:
    """Contradictions and cycles under the desk's label set."""
    return _read_conflicts(desk, (desk.label_set, desk.run, stamp(desk.store, TABLES)))


@st.cache_data(show_spinner="Looking for contradictions ...", max_entries=4)
def _read_conflicts(_desk: Desk, stamp: Stamp) -> Conflicts:  # noqa: ARG001
    cursor = _desk.cursor()
    return Conflicts(*prompt_noise.contradictions(cursor), *prompt_noise.cycles(cursor))


def _show_conflicts(desk: Desk) -> None:
    """Pairs of the same two images with opposite labels, and cycles of three."""
    conflicts = _conflicts(desk)
    st.subheader(f"{conflicts.contradictions:,} contradictions")
    text.quiet(
        "The same prompt and the same two images, labelled both ways, under label set "
        f"{text.escape(desk.label_set)}."
    )
    for row in conflicts.contradicted[:_SHOWN]:
        images = [row["first"], row["second"]]
        pairs = [(f"prefers {'left' if side == 'for_first' else 'right'}", pair_id)
                 for side in ("for_first", "for_second") for pair_id in row[side][:3]]  # fmt: skip
        _show_conflict(desk, row["prompt"], images, pairs)
    _show_rest(conflicts.contradictions)
    st.subheader(f"{conflicts.cycles:,} cycles")
    text.quiet(
        "Three images of one prompt, each preferred to the next and the last to the first: at "
        "least one of the three labels contradicts the other two."
    )
    for row in conflicts.in_cycles[:_SHOWN]:
        images = [row["a"], row["b"], row["c"]]
        words = (("1 over 2", "a_b"), ("2 over 3", "b_c"), ("3 over 1", "c_a"))
        _show_conflict(desk, row["prompt"], images, [(word, row[key]) for word, key in words])
    _show_rest(conflicts.cycles)


def _show_rest(total: int) -> None:
    if total > _SHOWN:
        text.quiet(
            f"and {total - _SHOWN:,} more; order the Queue by the finding consistency to see them"
        )


def _show_conflict(
    desk: Desk, prompt: str, images: list[str], pairs: list[tuple[str, str]]
) -> None:
    shown = thumbnails(desk.store, images, 128)
    tags = "".join(
        f'<span class="desk-quiet">{text.escape(shown[image].problem)}</span>'
        if shown[image].problem
        else f'<img src="{shown[image].source}" alt="image {place}">'
        for place, image in enumerate(images, 1)
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(
            f'<div class="desk-quarrel"><span class="desk-trio">{tags}</span>'
            f'<span dir="auto">{text.escape(prompt)}</span></div>'
        )
        for word, pair_id in pairs:
            page.page_link("pair", f"{word} ({pair_id})", pair=pair_id)


def _habits(desk: Desk) -> pa.Table:
    """Annotators' habits: the finding of the run, else what SQL computes."""
    if desk.run and _HABITS_FINDING in findings(desk.store, desk.run):
        return read_findings(desk.store, desk.run, _HABITS_FINDING)
    return prompt_noise.habits(desk.cursor())


def _show_annotators(desk: Desk, ground: Ground) -> None:
    table = _habits(desk)
    if not table.num_rows:
        text.info("No vote in this store names its annotator, so there are no annotators to show.")
        return
    known = [name for name in _HABITS if _has_values(table, name)]
    habit = st.selectbox(
        "Habit", known, format_func=lambda name: _HABITS[name], key="prompts-habit", width=320
    )
    left, right = st.columns([4, 5], gap="large")
    with left:
        if habit != "votes":
            from analysis.figures.distributions import annotators_figure

            figure = annotators_figure(table, habit)
            height = int(figure.layout.height or 400)
            alt = f"Annotators by {_HABITS[habit]}"
            show_figure(figure, ground, height=height, key="prompts-people", alt=alt)
            text.quiet(
                "The 25 annotators with the most votes, each with 20 average votes added; the "
                "dashed line is the mean. A high value is a habit, not an error."
            )
    with right:
        _show_annotator_table(table, habit)


def _has_values(table: pa.Table, name: str) -> bool:
    return name in table.column_names and table[name].null_count < table.num_rows


def _show_annotator_table(table: pa.Table, habit: str) -> None:
    by = f"{habit}_shrunk" if f"{habit}_shrunk" in table.column_names else habit
    rows = sorted(table.to_pylist(), key=lambda row: (row[by] is None, -(row[by] or 0.0)))
    columns = [name for name in ("mean_u", "agreement", "left_share", "tie_rate")
               if _has_values(table, name)]  # fmt: skip
    heads = ["annotator", "votes", *(_HABITS[name] for name in columns), ""]
    cells = [
        [
            row["annotator"], f"{row['votes']:,}", *(text.number(row[name]) for name in columns),
            _queue_link(View(annotator=row["annotator"]), "their pairs"),
        ]
        for row in rows[:_PEOPLE]
    ]  # fmt: skip
    text.table(heads, cells, name="Annotators")
    if len(rows) > _PEOPLE:
        text.quiet(f"the first {_PEOPLE} of {len(rows):,}")


PAGE = page.Page("prompts", "Prompts", ":material/forum:", draw)
