"""What the page Pair shows below the images: trajectory, findings, labels and votes, the row."""

from typing import Any

import streamlit as st

from app.desk import page as frame
from app.desk.components import messages as notice
from app.desk.components import tables
from app.desk.components.figures import on_ground
from app.desk.components.html_text import literal, number, share
from app.desk.queries import pair as reads
from app.desk.queries.pair import Facts
from toolkit.colors import Ground
from toolkit.store import Store
from toolkit.store import pair_details as one_pair
from toolkit.store.pair_details import Scores, Value


def trajectory(store: Store, run: str, facts: Facts, ground: Ground) -> None:
    """The pair's ell with its band and probes, and the errors behind it."""
    st.subheader("Trajectory")
    if one_pair.trajectory_bytes(store, run) > reads.WAITING_BYTES and not st.button(
        "Search the trajectory for this pair", key=f"search-{facts.pair['pair_id']}"
    ):
        st.html('<p class="desk-quiet">The run\'s record is large; a search may take a minute.</p>')
        return
    drawn = reads.drawn(store, run, facts.label_set, facts.label, facts.pair["pair_id"])
    if drawn is None:
        st.html(
            '<p class="desk-quiet">The pair states no preference under label set '
            f"{literal(facts.label_set)}, so its ell has no sign.</p>"
        )
        return
    if not drawn.ell.num_rows:
        st.html(f'<p class="desk-quiet">Run {literal(run)} has not met this pair.</p>')
        return
    from analysis.figures.pair_errors import pair_errors_figure, pair_trajectory_figure

    st.html(
        f'<p class="desk-quiet">run {literal(run)}: {drawn.visits} visits, {drawn.probes} probes '
        "under fixed draws (diamonds). Above 0 the model agrees with the label; the band spans the "
        "policy and its footprints. ell is the gap between the two errors on the right.</p>"
    )
    left, right = st.columns(2, gap="large")
    figures = (
        (left, pair_trajectory_figure(drawn.ell), "ell of the pair by step, with its band"),
        (right, pair_errors_figure(drawn.errors), "errors on the chosen and the rejected image"),
    )
    for place, figure, alt in figures:
        place.plotly_chart(
            on_ground(figure, ground, height=300),
            theme=None,
            config={"displayModeBar": False},
            alt=alt,
        )


def scores(store: Store, run: str, facts: Facts) -> None:
    """The main score of every finding, then all of its columns."""
    found = reads.values(store, run, facts.pair["pair_id"])
    st.subheader("Findings")
    if not found:
        notice.news(
            f"Run {run} has no findings on this pair; type `outvoted analyze "
            f"{notice.path(store.root)} --run {run}`."
        )
        return
    plain = [value for value in found if _first_rank(value)]
    rows = [
        [
            value.finding,
            value.column,
            _said(value.value),
            "" if value.lower is None else f"higher than {share(value.lower)}",
        ]
        for value in plain
    ]
    half = (len(rows) + 1) // 2
    for place, some in zip(st.columns(2, gap="large"), (rows[:half], rows[half:]), strict=True):
        with place:
            tables.table(("finding", "column", "value", "rank"), some, name="Findings")
    with st.expander("Other presets, parts of the run, and what is not known"):
        heads = ("finding", "column", "value")
        others = [[v.finding, v.column, _said(v.value)] for v in found if v not in plain]
        tables.table(heads, others, name="Findings of the second rank")


_WINDOWS = ("_all", "_early", "_late", "_last", "_probe")


def _first_rank(value: Value) -> bool:
    """Known, over the finding's own window, and of the run's own metric."""
    other_preset = value.finding.startswith("minority_")
    return not (value.value is None or other_preset or value.column.endswith(_WINDOWS))


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) or value is None:
        return number(value)
    return str(value)


def scorers(facts: Facts) -> None:
    """Each scorer's two scores, and whether it goes with the label; nothing without scores."""
    if not facts.scores:
        return
    st.subheader("Scorers")
    heads = ("scorer", "image_0", "image_1", "gap", "with the label")
    tables.table(heads, [_scored(one, facts.label) for one in facts.scores], name="Scorers")


def _scored(one: Scores, label: float | None) -> list[str]:
    if one.score_0 is None or one.score_1 is None:
        why = one.reason or "not scored yet"
        return [one.scorer, number(one.score_0), number(one.score_1), "", why]
    gap = one.score_0 - one.score_1
    agrees = (
        "no preference"
        if label not in (0.0, 1.0) or not gap
        else ("agrees" if (gap > 0) == (label == 1.0) else "disagrees")
    )
    return [one.scorer, number(one.score_0), number(one.score_1), number(gap), agrees]


def people(facts: Facts) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Labels and votes")
        rows = [[name, _label(label), "label set"] for name, label in facts.labels.items()]
        rows += [
            [
                vote["annotator"] or "(unnamed)",
                _label(vote["choice"]),
                "vote" if vote["pair_id"] == facts.pair["pair_id"] else "vote, same two images",
            ]
            for vote in facts.votes
        ]
        tables.table(("who", "prefers", "kind"), rows, name="Labels and votes")
    with right:
        st.subheader("Other pairs of this prompt")
        if not facts.siblings:
            st.html('<p class="desk-quiet">None.</p>')
        for other in facts.siblings:
            same = " · same two images" if other["same_images"] else ""
            words = f"{other['pair_id']}, label {_label(other['label'])}{same}"
            frame.page_link("pair", words, pair=other["pair_id"])


def _label(label: float | None) -> str:
    return {1.0: "image_0", 0.0: "image_1", 0.5: "tie"}.get(label, "nobody said")  # type: ignore[arg-type]


def source_row(facts: Facts) -> None:
    with st.expander("The pair's row, as its source gave it"):
        rows = [[name, "" if value is None else str(value)] for name, value in facts.pair.items()]
        tables.table(("column", "value"), rows, name="The pair's row")
