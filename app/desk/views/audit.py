"""The page Audit: a random sample against a top-u sample, judged blind, and what that says."""

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app.desk import auditing, data, frame, state
from app.desk.auditing import Answers, Bin, Rate
from app.desk.components import card, notice, page, tables, verdict_row, view_words
from app.desk.components.figures import on_ground
from app.desk.components.text import literal
from app.desk.data import Desk
from app.desk.pictures import picture
from app.desk.reads import audit as reads
from app.desk.reads import shelf
from toolkit.palette import BLUE, Ground
from toolkit.store import Store, audits
from toolkit.store import desk as queries
from toolkit.store.audits import Audit
from toolkit.store.verdicts import Entry

_NEW = "draw another sample"
_SIDES = (("Left", "Left", "left"), ("Tie", "T", "tie"), ("Unsure", "U", "unsure"),
          ("Right", "Right", "right"))  # fmt: skip


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The whole page, or what the store lacks for it."""
    page.look()
    desk, _ = data.current(store, settings)
    names = [n for n in audits.audits(store) if _of_run(store, n, desk.run)]
    if not desk.run:
        page.head("Audit", "Is u right? A random sample against a top-u sample, judged blind.")
        place = notice.path(store.root)
        notice.news("An audit draws its samples by u, and no run has a u yet. Type in a terminal:")
        run = shelf.run_of(store, settings.run) or "RUN"
        train = f"outvoted train RECIPE --store {place}\n" if not store.runs() else ""
        notice.command(f"{train}outvoted analyze {place} --run {run}")
        return
    with st.sidebar:
        chosen = st.selectbox("Sample", [*names, _NEW], key="audit-name")
    if chosen == _NEW or chosen is None:
        _draw_sample(store, desk)
        return
    audit = audits.read_audit(store, chosen)
    if audit.label_set != desk.label_set:
        notice.news(
            f"This sample was drawn under label set {audit.label_set}, and the run's finding is "
            f"now under {desk.label_set}; draw another one."
        )
    with st.sidebar:
        shown = st.radio("Show", ("Judge", "Results"), key="audit-shown")
    if shown == "Judge":
        st.fragment(_judge)(desk, audit, settings)
    else:
        _results(store, desk, audit, settings, ground)


def _of_run(store: Store, name: str, run: str) -> bool:
    try:
        return audits.read_audit(store, name).run == run
    except Exception:  # a broken file is told of when it is chosen
        return True


def _draw_sample(store: Store, desk: Desk) -> None:
    page.head(
        "Audit",
        "Is u right? Half of the sample is drawn from all pairs, half from those with the largest "
        "u; it is judged blind, and the sample is kept, so that others can judge the same pairs.",
    )
    if problem := st.session_state["problem"]:
        notice.sentence(problem)
    row = st.columns(3)
    size = row[0].number_input("Pairs in each half", 1, 2000, 50, key="audit-size")
    share = row[1].number_input("Top share, %", 0.1, 100.0, 5.0, key="audit-share")
    seed = row[2].number_input("Seed", 0, 1_000_000, 0, key="audit-seed")

    def drawn() -> None:
        made = audits.draw_audit(
            desk.cursor(), desk.run, desk.label_set, size=int(size), share=share / 100,
            seed=int(seed),
        )  # fmt: skip
        st.session_state["audit-name"] = audits.keep_audit(store, made).name
        st.session_state["problem"] = ""

    st.button("Draw the sample", type="primary", key="audit-draw", on_click=frame.told(drawn))
    st.html(
        '<p class="desk-quiet">The interval of a share of 20 % is about ±11 points with 50 pairs '
        "and ±6 with 200.</p>"
    )


def _rows(desk: Desk, audit: Audit) -> list[dict[str, Any]]:
    """Every verdict on the sample's pairs, oldest first."""
    found = [row for pair_id in audit.order for row in desk.ledger.history(pair_id)]
    return sorted(found, key=lambda row: (row["time"], row["sequence"]))


def _judge(desk: Desk, audit: Audit, settings: state.Settings) -> None:
    """One pair, blind: no label, no score, its sides at random."""
    with frame.sentences():
        desk.ledger.refresh()
        rows = _rows(desk, audit)
        mine = auditing.answers_in(audit, rows).get(settings.curator, {})
        left = [pair_id for pair_id in audit.order if pair_id not in mine]
        _status(desk, audit, settings, len(mine))
        for problem in (st.session_state["problem"], desk.ledger.problem):
            if problem:
                notice.sentence(problem)
        pair_id = left[0] if left else None
        if pair_id is None:
            notice.news("You have judged every pair of this sample; see Results on the left.")
        else:
            _blind(desk, audit, settings, pair_id)
        newest = auditing.newest_answer(audit, rows, settings.curator)
        st.button(
            "Undo", shortcut="Z", type="tertiary", key="audit-undo", disabled=newest is None,
            on_click=frame.told(_undo), args=(desk, settings, newest),
        )  # fmt: skip
        st.html(f'<span id="audit-ready" data-pair="{literal(pair_id or "")}" hidden></span>')


def _status(desk: Desk, audit: Audit, settings: state.Settings, done: int) -> None:
    of = len(audit.order)
    place = f"{min(done + 1, of):,} of {of:,}" if done < of else f"all {of:,} judged"
    saved = view_words.saved(desk.ledger.saved(settings.curator))
    st.html(
        f'<div class="desk-row"><span class="desk-place">{place}</span><span class="desk-quiet">'
        f"audit {literal(audit.name)}, blind: which image fits the prompt better?</span>"
        f'<span class="desk-quiet desk-saved" id="desk-saved">{saved}</span></div>'
        f'<div class="desk-bar"><span style="width: {100 * done / of:.2f}%"></span></div>'
    )


def _blind(desk: Desk, audit: Audit, settings: state.Settings, pair_id: str) -> None:
    pair = next(iter(queries.cards(desk.cursor(), [pair_id])), None)
    if pair is None:
        notice.news(f"The store no longer has pair {pair_id}; answer unsure to go on.")
        pair = {"pair_id": pair_id, "prompt": "", "image_0": None, "image_1": None, "label": None}
    turned = auditing.swapped(audit, settings.curator, pair_id)
    slots = ("image_1", "image_0") if turned else ("image_0", "image_1")
    card.prompt(pair["prompt"])
    shown = [picture(desk.store, pair[slot]) for slot in slots]
    blurred = page.covered(pair)
    card.images((shown[0], shown[1]), slots, pair, blind=True, blurred=blurred)
    if blurred:
        page.uncover(pair_id)
    verdict_row.row(pair_id, list(_SIDES), _answer, desk, audit, settings, pair_id, turned)


def _answer(
    desk: Desk, audit: Audit, settings: state.Settings, pair_id: str, turned: bool, side: str
) -> None:
    sides = ["image_1", "image_0"] if turned else ["image_0", "image_1"]
    shown = {"page": "audit", "audit": audit.name, "run": audit.run, "blind": True, "sides": sides}
    choice = auditing.choice_of_side(side, turned)
    desk.ledger.record([Entry(pair_id, settings.curator, choice, audit.label_set, shown=shown)])
    st.session_state["problem"] = ""


def _undo(desk: Desk, settings: state.Settings, newest: dict[str, Any]) -> None:
    undone = Entry(newest["pair_id"], settings.curator, "undo", undoes=newest["verdict_id"])
    desk.ledger.record([undone])
    st.session_state["problem"] = ""


def _results(
    store: Store, desk: Desk, audit: Audit, settings: state.Settings, ground: Ground
) -> None:
    """Rates with their intervals, the calibrated probability beside them, and agreement."""
    page.head("Audit: results", f"sample {audit.name}, labels {audit.label_set}")
    desk.ledger.refresh()
    answers = auditing.answers_in(audit, _rows(desk, audit))
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
    labels = queries.labels_of(desk.cursor(), list(audit.order))
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
        from analysis.alpha import alpha

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
    from analysis.figures.look import INK, WHISKER, look

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
