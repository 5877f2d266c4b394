"""The page Prompts: prompts with most noise, contradictions and circles, annotators' habits."""

from typing import Any

import pyarrow as pa
import streamlit as st

from app.desk import page as frame
from app.desk import state
from app.desk.components import messages as notice
from app.desk.components import page
from app.desk.components.figures import on_ground
from app.desk.components.html_text import literal, number
from app.desk.image_cache import thumbnails
from app.desk.queries import prompts as reads
from app.desk.queries import queue as data
from app.desk.queries.queue import Desk
from toolkit.colors import Ground
from toolkit.store import Store
from toolkit.store.queue.view import View

_WHAT = ("Noisy prompts", "Contradictions and circles", "Annotators")
_SHOWN = 12
_PEOPLE = 25
_HABITS = {
    "mean_u": "mean u of their pairs",
    "agreement": "agreement with the others",
    "left_share": "share of image_0",
    "tie_rate": "share of ties",
    "votes": "votes",
}


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The whole page, or the sentence of an empty store."""
    page.head(
        "Prompts and annotators",
        "Where the noise sits: prompts whose labels the model doubts, labels that contradict each "
        "other, and the habits of those who labelled.",
    )
    desk, _ = data.current(store, settings)
    if not desk.pairs:
        notice.news("The store holds no pairs yet. Type in a terminal:")
        notice.command(f"outvoted ingest KIND PATH --store {notice.path(store.root)}")
        return
    what = st.segmented_control(
        "Show", _WHAT, default=_WHAT[0], required=True, key="prompts-what",
        label_visibility="collapsed",
    )  # fmt: skip
    if what == _WHAT[0]:
        _noisy(desk)
    elif what == _WHAT[1]:
        _quarrels(desk)
    else:
        _people(desk, ground)


def _noisy(desk: Desk) -> None:
    """The prompts with the largest mean u."""
    if not desk.run:
        notice.news("A prompt's noise is read from u, and no run has one yet. Type in a terminal:")
        run = next(iter(desk.store.runs()), "")
        place = notice.path(desk.store.root)
        notice.command(
            f"outvoted analyze {place} --run {run}" if run
            else f"outvoted train RECIPE --store {place}"
        )  # fmt: skip
        return
    least = st.number_input("Pairs with a u, at least", 1, 1000, 3, key="prompts-least", width=240)
    rows = reads.noisy(desk, int(least))
    if not rows:
        notice.news("No prompt has so many pairs with a u; ask for fewer above.")
        return
    st.html(
        '<p class="desk-quiet">Largest mean u first, each prompt as if five average pairs more '
        "were its own: a single bad pair does not make a bad prompt.</p>"
    )
    heads = ("prompt", "pairs", "mean u", "shrunk", "largest", "judged", "")
    body = "".join(
        f'<tr><td class="desk-wide" dir="auto">{literal(row["prompt"])}</td>'
        f"<td>{row['pairs']:,}</td><td>{number(row['mean_u'])}</td>"
        f"<td>{_bar(row['shrunk_u'], rows)}</td><td>{number(row['largest_u'])}</td>"
        f"<td>{row['judged']:,}</td><td>{_judge(of_prompt(row['prompt']))}</td></tr>"
        for row in rows
    )
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    st.html(
        '<table class="desk-table" aria-label="Noisy prompts"><thead><tr>'
        f"{top}</tr></thead><tbody>{body}</tbody></table>"
    )


def _bar(value: float | None, rows: list[dict[str, Any]]) -> str:
    if value is None:
        return "–"
    most = max(abs(row["shrunk_u"] or 0.0) for row in rows) or 1.0
    share = 100 * abs(value) / most
    return (
        f'<span class="desk-tiny"><span style="width: {share:.0f}%"></span></span> {number(value)}'
    )


def _judge(view: View, word: str = "judge") -> str:
    href = literal(state.link("queue", view))
    return f'<a class="desk-link" target="_self" href="{href}">{word}</a>'


def of_prompt(prompt: str) -> View:
    """The view of one prompt's pairs."""
    text = prompt.replace("\\", "\\\\").replace('"', '\\"')
    return View(where=f'prompt = "{text}"')


def _quarrels(desk: Desk) -> None:
    """Pairs of the same two images with opposite labels, and circles of three."""
    found = reads.quarrels(desk)
    st.subheader(f"{found.contradictions:,} contradictions")
    st.html(
        f'<p class="desk-quiet">The same prompt and the same two images, labelled both ways, under '
        f"label set {literal(desk.label_set)}.</p>"
    )
    for row in found.contradicted[:_SHOWN]:
        ends = [row["first"], row["second"]]
        pairs = [(f"prefers {'left' if side == 'for_first' else 'right'}", pair_id)
                 for side in ("for_first", "for_second") for pair_id in row[side][:3]]  # fmt: skip
        _quarrel(desk, row["prompt"], ends, pairs)
    _more(found.contradictions)
    st.subheader(f"{found.circles:,} circles")
    st.html(
        '<p class="desk-quiet">Three images of one prompt, each preferred to the next and the last '
        "to the first: at least one of the three labels goes against the other two.</p>"
    )
    for row in found.circled[:_SHOWN]:
        ends = [row["a"], row["b"], row["c"]]
        words = (("1 over 2", "a_b"), ("2 over 3", "b_c"), ("3 over 1", "c_a"))
        _quarrel(desk, row["prompt"], ends, [(word, row[key]) for word, key in words])
    _more(found.circles)


def _more(total: int) -> None:
    if total > _SHOWN:
        st.html(
            f'<p class="desk-quiet">and {total - _SHOWN:,} more; the finding consistency orders '
            "them in the Queue</p>"
        )


def _quarrel(desk: Desk, prompt: str, images: list[str], pairs: list[tuple[str, str]]) -> None:
    shown = thumbnails(desk.store, images, 128)
    pictures = "".join(
        f'<img src="{one.source}" alt="image {place}">' if not one.problem
        else f'<span class="desk-quiet">{literal(one.problem)}</span>'
        for place, one in ((k + 1, shown[image]) for k, image in enumerate(images))
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(
            f'<div class="desk-quarrel"><span class="desk-trio">{pictures}</span>'
            f'<span dir="auto">{literal(prompt)}</span></div>'
        )
        for word, pair_id in pairs:
            frame.page_link("pair", f"{word} ({pair_id})", pair=pair_id)


def _people(desk: Desk, ground: Ground) -> None:
    table = reads.habits(desk)
    if not table.num_rows:
        notice.news("No vote in this store says who cast it, so there are no annotators to show.")
        return
    known = [name for name in _HABITS if _has(table, name)]
    habit = st.selectbox(
        "Habit", known, format_func=lambda name: _HABITS[name], key="prompts-habit", width=320
    )
    left, right = st.columns([4, 5], gap="large")
    with left:
        if habit != "votes":
            from analysis.figures.distributions import annotators_figure

            figure = annotators_figure(table, habit)
            height = int(figure.layout.height or 400)
            st.plotly_chart(
                on_ground(figure, ground, height=height), theme=None, key="prompts-people",
                config={"displayModeBar": False}, alt=f"Annotators by {_HABITS[habit]}",
            )  # fmt: skip
            st.html(
                '<p class="desk-quiet">The 25 with most votes, as if 20 average votes more were '
                "theirs; the dashed line is the mean. A high value is a habit, not a fault.</p>"
            )
    with right:
        _people_table(table, habit)


def _has(table: pa.Table, name: str) -> bool:
    return name in table.column_names and table[name].null_count < table.num_rows


def _people_table(table: pa.Table, habit: str) -> None:
    by = f"{habit}_shrunk" if f"{habit}_shrunk" in table.column_names else habit
    rows = sorted(table.to_pylist(), key=lambda row: (row[by] is None, -(row[by] or 0.0)))
    columns = [name for name in ("mean_u", "agreement", "left_share", "tie_rate")
               if _has(table, name)]  # fmt: skip
    heads = ["annotator", "votes", *(_HABITS[name] for name in columns), ""]
    top = "".join(f'<th scope="col">{literal(head)}</th>' for head in heads)
    body = "".join(
        f"<tr><td>{literal(row['annotator'])}</td><td>{row['votes']:,}</td>"
        + "".join(f"<td>{number(row[name])}</td>" for name in columns)
        + f"<td>{_judge(View(annotator=row['annotator']), 'their pairs')}</td></tr>"
        for row in rows[:_PEOPLE]
    )
    st.html(
        '<table class="desk-table" aria-label="Annotators"><thead><tr>'
        f"{top}</tr></thead><tbody>{body}</tbody></table>"
    )
    if len(rows) > _PEOPLE:
        st.html(f'<p class="desk-quiet">the first {_PEOPLE} of {len(rows):,}</p>')
