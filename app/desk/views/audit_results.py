"""What an audit says: flip rates with intervals, the calibration, agreement between curators."""

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from analysis import audits as auditing
from analysis.audits import Answers, Bin, Rate
from app.desk import state
from app.desk.components import messages as notice
from app.desk.components import page, tables
from app.desk.components.figures import on_ground
from app.desk.queries import audit as reads
from app.desk.queries.queue import Desk
from toolkit.colors import BLUE, Ground
from toolkit.store import Store
from toolkit.store.audits import Audit


def rows_of(desk: Desk, audit: Audit) -> list[dict[str, Any]]:
    """Every verdict on the sample's pairs, oldest first."""
    found = [row for pair_id in audit.order for row in desk.ledger.history(pair_id)]
    return sorted(found, key=lambda row: (row["time"], row["sequence"]))


def draw(store: Store, desk: Desk, audit: Audit, settings: state.Settings, ground: Ground) -> None:
    """Rates with their intervals, the calibrated probability beside them, and agreement."""
    page.head("Audit: results", f"sample {audit.name}, labels {audit.label_set}")
    desk.ledger.refresh()
    answers = auditing.answers_in(audit, rows_of(desk, audit))
    mine = len(answers.get(settings.curator, {}))
    if mine < len(audit.order) and not st.toggle(
        f"Show results although you have judged {mine:,} of {len(audit.order):,} (what you see "
        "here may sway what is left)",
        key="audit-early",
    ):
        return
    if not answers:
        notice.news("Nobody has judged this sample yet; choose Judge on the left.")
        return
    labels = reads.labels(store, audit)
    probability = reads.probabilities(store, audit.run, audit.label_set)
    found = auditing.rates(audit, labels, answers, probability)
    left, right = st.columns([3, 2], gap="large")
    with left:
        _rates(found, audit)
        if not probability:
            notice.news(
                "The run has no calibrated probability to hold this against; plant flips and type "
                f"`outvoted detect {notice.path(store.root)} --run {audit.run}`."
            )
        _agreement(answers)
    with right:
        bins = auditing.reliability(labels, answers, probability)
        if bins:
            st.subheader("People against the calibration")
            figure = reliability_figure(bins)
            st.plotly_chart(on_ground(figure, ground, height=340), theme=None,
                            config={"displayModeBar": False}, key="audit-reliability",
                            alt="Share that people flipped by calibrated probability")  # fmt: skip


def _rates(found: list[Rate], audit: Audit) -> None:
    st.subheader("Would people reverse the label?")
    names = {"random": "random pairs", "top": f"top {100 * audit.share:g} % by u"}
    rows = [
        [
            names[rate.arm],
            f"{rate.judged:,}",
            f"{rate.flipped:,} of {rate.flipped + rate.kept:,}",
            _share(rate.share, rate.low, rate.high),
            "–" if rate.expected is None else f"{100 * rate.expected:.0f} %",
            f"{rate.ties:,}", f"{rate.unsure:,}",
        ]
        for rate in found
    ]  # fmt: skip
    heads = ("sample", "answers", "flipped", "flip rate (95 %)", "calibrated", "ties", "unsure")
    tables.table(heads, rows, name="Flip rates")
    st.html(
        '<p class="desk-quiet">Flip rate: answers against the label, of those for an image; '
        "Wilson's interval. Calibrated: the mean probability of the same pairs, learned on planted "
        "flips, which are more frequent and more random than natural errors. Answers of several "
        "curators on one pair count each, which makes the interval too narrow.</p>"
    )


def _share(share: float | None, low: float | None, high: float | None) -> str:
    if share is None or low is None or high is None:
        return "–"
    return f"{100 * share:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def _agreement(answers: Answers) -> None:
    st.subheader("Agreement between curators")
    rows = [[curator, f"{len(given):,}"] for curator, given in sorted(answers.items())]
    tables.table(("curator", "answers"), rows, name="Curators")
    if len(answers) < 2:
        st.html('<p class="desk-quiet">Agreement needs two curators: another person starts the '
                "desk with --curator NAME and judges the same sample.</p>")  # fmt: skip
        return
    try:
        from analysis.ranking_metrics import alpha

        found = alpha(answers)
    except ImportError:
        notice.news("Agreement needs crowd-kit; type `pip install 'outvoted[analyze]'`.")
        return
    if found is None:
        st.html('<p class="desk-quiet">No pair has answers of two curators that could differ '
                "yet.</p>")  # fmt: skip
        return
    value, pairs = found
    st.html(
        f'<p><span class="desk-chip"><i>Krippendorff\'s alpha</i><b>{value:.2f}</b></span> '
        f'<span class="desk-quiet">over {pairs:,} pairs that two or more judged; 1 is agreement, '
        "0 chance. From .67 on it carries tentative conclusions.</span></p>"
    )


def reliability_figure(bins: list[Bin]) -> go.Figure:
    """Share flipped by people against the calibrated probability, with Wilson's intervals."""
    from analysis.figures.theme import INK, WHISKER, look

    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", name="as calibrated", hoverinfo="skip",
        line={"color": INK, "dash": "dash", "width": 1.5},
    )  # fmt: skip
    figure.add_scatter(
        x=[one.expected for one in bins],
        y=[one.share for one in bins],
        mode="markers",
        name="people",
        marker={"color": BLUE, "size": 10},
        customdata=[one.count for one in bins],
        error_y={
            "type": "data",
            "array": [one.high - one.share for one in bins],
            "arrayminus": [one.share - one.low for one in bins],
            **WHISKER,
        },
        hovertemplate="calibrated %{x:.0%}, people %{y:.0%} of %{customdata}<extra></extra>",
    )
    figure.update_xaxes(title="calibrated probability of a flip", range=[0, 1], tickformat=".0%")
    figure.update_yaxes(title="share flipped by people", range=[0, 1], tickformat=".0%")
    return look(figure, height=340)
