"""The page Audit: a random sample and a top-u sample, judged blind, and the results."""

import uuid
from collections.abc import Mapping
from typing import Any, cast

import streamlit as st

from analysis import audits as results
from analysis.audits import Answers, Rate
from app.desk import page, state
from app.desk.components import judge, text
from app.desk.components.charts import show_figure
from app.desk.components.judge import Action, Card
from app.desk.queries import queue
from app.desk.queries.connection import Desk, current, run_of
from app.desk.views.getting_started import run_command
from toolkit.colors import Ground
from toolkit.errors import InputError, OutvotedError
from toolkit.store import Store, audits
from toolkit.store.audits import Audit
from toolkit.store.journal import Choice, Entry
from toolkit.store.pair_table import pair_table
from toolkit.store.runs import findings

_NEW = "draw another sample"
_CALIBRATED = "calibrated"


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The page, or what the store still needs."""
    page.load_style()
    desk, _ = current(store, settings)
    if not desk.run:
        page.head("Audit", "Is u right? A random sample and a top-u sample, judged blind.")
        command = run_command(store, run_of(store, settings.run))
        text.hint("An audit draws its samples by u, and no run has a u yet.", command)
        return
    names = [name for name in audits.audits(store) if _is_of_run(store, name, desk.run)]
    with st.sidebar:
        chosen = st.selectbox("Sample", [*names, _NEW], key="audit-name")
    if chosen == _NEW or chosen is None:
        _draw_sample(store, desk)
        return
    audit = audits.read_audit(store, chosen)
    if audit.label_set != desk.label_set:
        text.info(
            f"This sample was drawn under label set {audit.label_set}, and the run's finding is "
            f"now under {desk.label_set}; draw another one."
        )
    with st.sidebar:
        shown = st.radio("Show", ("Judge", "Results"), key="audit-shown")
    if shown == "Judge":
        st.fragment(_judge)(desk, audit, settings)
    else:
        _show_results(store, desk, audit, settings, ground)


def _is_of_run(store: Store, name: str, run: str) -> bool:
    try:
        return audits.read_audit(store, name).run == run
    except OutvotedError:  # a broken file is reported when it is chosen
        return True


def _draw_sample(store: Store, desk: Desk) -> None:
    page.head(
        "Audit",
        "Is u right? Half of the sample is drawn from all pairs, half from those with the largest "
        "u. It is judged blind, and the sample is saved, so that others can judge the same pairs.",
    )
    if problem := st.session_state["problem"]:
        text.error(problem)
    row = st.columns(3)
    size = row[0].number_input("Pairs in each half", 1, 2000, 50, key="audit-size")
    share = row[1].number_input("Top share, %", 0.1, 100.0, 5.0, key="audit-share")
    seed = row[2].number_input("Seed", 0, 1_000_000, 0, key="audit-seed")

    def draw_sample() -> None:
        audit = audits.draw_audit(
            desk.cursor(), desk.run, desk.label_set, size=int(size), share=share / 100,
            seed=int(seed),
        )  # fmt: skip
        st.session_state["audit-name"] = audits.keep_audit(store, audit).name
        st.session_state["problem"] = ""

    st.button("Draw the sample", type="primary", key="audit-draw",
              on_click=page.callback(draw_sample))  # fmt: skip
    text.quiet("The interval of a share of 20 % is about ±11 points with 50 pairs and ±6 with 200.")


def _rows_of(desk: Desk, audit: Audit) -> list[dict[str, Any]]:
    """Every verdict on the sample's pairs, oldest first."""
    rows = [row for pair_id in audit.order for row in desk.verdicts.history(pair_id)]
    return sorted(rows, key=lambda row: (row["time"], row["sequence"]))


def _judge(desk: Desk, audit: Audit, settings: state.Settings) -> None:
    """One pair, blind: no label, no score, random sides."""
    with page.errors_as_text():
        desk.verdicts.refresh()
        rows = _rows_of(desk, audit)
        own = results.answers_in(audit, rows).get(settings.curator, {})
        left = [pair_id for pair_id in audit.order if pair_id not in own]
        count, done = len(audit.order), len(own)
        for problem in (st.session_state["problem"], desk.verdicts.trouble):
            if problem:
                text.error(problem)
        cards = [
            _blind_card(desk, audit, settings, pair_id, f"{done + 1 + number:,} of {count:,}")
            for number, pair_id in enumerate(left[: judge.DECK])
        ]
        newest = results.newest_answer(audit, rows, settings.curator)
        note = f"audit {audit.name}, blind: which image fits the prompt better?"
        saved = judge.saved_line(desk, settings)
        judge.show(
            desk,
            settings,
            "audit",
            cards,
            _acts(desk, audit, settings),
            scope=("audit", desk.serial, audit.name),
            status=judge.status(note, saved, done / count, f"all {count:,} answered"),
            undo={"pairs": 1, "id": newest["verdict_id"]} if newest else None,
            empty="You have answered every pair of this sample; see Results on the left.",
        )


def _blind_card(
    desk: Desk, audit: Audit, settings: state.Settings, pair_id: str, place: str
) -> Card:
    words = f"The store no longer has pair {pair_id}; answer unsure to continue."
    gone = {"pair_id": pair_id, "prompt": words, **dict.fromkeys((*judge.SLOTS, "label"))}
    pair = next(iter(queue.cards(desk, [pair_id])), gone)
    shown = {"page": "audit", "audit": audit.name, "run": audit.run}
    swapped = results.swapped(audit, settings.curator, pair_id)
    return judge.make_card(pair, audit.label_set, shown, place=place, blind=True, swapped=swapped)


def _acts(desk: Desk, audit: Audit, settings: state.Settings) -> judge.Acts:
    """What the curator may do here."""

    def undo(action: Action) -> None:
        newest = results.newest_answer(audit, _rows_of(desk, audit), settings.curator)
        if newest is None or action.get("pair") not in (None, newest["pair_id"]):
            raise InputError("Your newest answer is another one by now; nothing was undone.")
        entry = Entry(newest["pair_id"], settings.curator, "undo", undoes=newest["verdict_id"])
        desk.verdicts.record([entry])

    return {"undo": undo}


def _show_results(
    store: Store, desk: Desk, audit: Audit, settings: state.Settings, ground: Ground
) -> None:
    """Flip rates with intervals, the calibrated probability beside them, and agreement."""
    page.head("Audit: results", f"sample {audit.name}, labels {audit.label_set}")
    desk.verdicts.refresh()
    answers = results.answers_in(audit, _rows_of(desk, audit))
    done, count = len(answers.get(settings.curator, {})), len(audit.order)
    if done < count and not st.toggle(
        f"Show results although you have answered {done:,} of {count:,} (they may influence the "
        "rest of your answers)",
        key="audit-early",
    ):
        return
    if not answers:
        text.info("Nobody has judged this sample yet; choose Judge on the left.")
        return
    labels, probability = _labels_and_probabilities(store, audit)
    left, right = st.columns([3, 2], gap="large")
    with left:
        _show_rates(results.rates(audit, labels, answers, probability), audit)
        if not probability:
            text.info(
                "The run has no calibrated probability to compare with; plant flips and type "
                f"`outvoted detect {text.shell_path(store.root)} --run {audit.run}`."
            )
        _show_agreement(answers)
    with right:
        _show_adoption(desk, settings, audit, answers.get(settings.curator, {}))
        if bins := results.reliability(labels, answers, probability):
            from analysis.figures import reliability_figure

            st.subheader("People against the calibration")
            show_figure(reliability_figure(bins), ground, key="audit-reliability",
                        alt="Share that people flipped by calibrated probability")  # fmt: skip


def _show_adoption(
    desk: Desk, settings: state.Settings, audit: Audit, own: Mapping[str, str]
) -> None:
    """Answers are no verdicts until their curator says so."""
    if not own:
        return
    verdicts = desk.verdicts.judged_by(settings.curator)
    replaced = len(set(own) & set(verdicts))
    st.subheader("Answers as verdicts")
    text.quiet(
        "The answers of an audit are kept apart: they change no pair and leave with no export."
    )

    def adopt() -> None:
        shown = {"page": "audit", "adopted": audit.name, "run": audit.run, "blind": True,
                 "batch": uuid.uuid4().hex}  # fmt: skip
        desk.verdicts.record(
            [
                Entry(pair_id, settings.curator, cast(Choice, choice), audit.label_set, shown=shown)
                for pair_id, choice in own.items()
            ]
        )
        st.session_state["news"] = f"{len(own):,} answers are verdicts now; Undo takes them back."

    words = f"Use my {len(own):,} answers as verdicts"
    st.button(
        f"{words}, replacing {replaced:,} of mine" if replaced else words,
        on_click=page.callback(adopt),
        key="audit-adopt",
    )
    page.show_news()


def _labels_and_probabilities(
    store: Store, audit: Audit
) -> tuple[dict[str, float | None], dict[str, float]]:
    """The sample's labels under its own label set, whatever the desk shows now, and the calibrated
    probabilities of a flip of those pairs that have one under these labels."""
    columns = ["pair_id", "label"]
    if _CALIBRATED in findings(store, audit.run):
        columns.append(f"{_CALIBRATED}.probability")
    table = pair_table(
        store, labels=audit.label_set, run=audit.run, columns=columns, pair_ids=audit.order
    )
    rows = [list(row.values()) for row in table.select(columns).to_pylist()]
    labels = {pair_id: label for pair_id, label, *_ in rows}
    known = {row[0]: row[2] for row in rows if len(row) > 2 and row[2] is not None}
    return labels, known


def _show_rates(rates: list[Rate], audit: Audit) -> None:
    st.subheader("Would people reverse the label?")
    names = {"random": "random pairs", "top": f"top {100 * audit.share:g} % by u"}
    rows = [
        [
            names[rate.arm],
            f"{rate.answers:,}",
            f"{rate.flipped:,} of {rate.flipped + rate.kept:,}",
            _interval_text(rate.share, rate.low, rate.high),
            "–" if rate.expected is None else f"{100 * rate.expected:.0f} %",
            f"{rate.ties:,}", f"{rate.unsure:,}",
        ]
        for rate in rates
    ]  # fmt: skip
    heads = ("sample", "answers", "flipped", "flip rate (95 %)", "calibrated", "ties", "unsure")
    text.table(heads, rows, name="Flip rates")
    text.quiet(
        "Flip rate: answers against the label, as a share of the answers that prefer an image, "
        "with Wilson's interval. Calibrated: the mean probability of the same pairs, learned from "
        "planted flips, which are more frequent and more random than natural errors. The answers "
        "of several curators on one pair count separately, which makes the interval too narrow."
    )


def _interval_text(share: float | None, low: float | None, high: float | None) -> str:
    if share is None or low is None or high is None:
        return "–"
    return f"{100 * share:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def _show_agreement(answers: Answers) -> None:
    st.subheader("Agreement between curators")
    rows = [[curator, f"{len(given):,}"] for curator, given in sorted(answers.items())]
    text.table(("curator", "answers"), rows, name="Curators")
    if len(answers) < 2:
        text.quiet("Agreement needs two curators: another person starts the desk with --curator "
                   "NAME and judges the same sample.")  # fmt: skip
        return
    try:
        from analysis.ranking_metrics import alpha

        agreement = alpha(answers)
    except ImportError:
        text.info("Agreement needs crowd-kit; type `pip install 'outvoted[analyze]'`.")
        return
    if agreement is None:
        text.quiet("No pair has answers of two curators that could differ yet.")
        return
    value, pairs = agreement
    st.html(
        f'<p><span class="desk-chip"><i>Krippendorff\'s alpha</i><b>{value:.2f}</b></span> '
        f'<span class="desk-quiet">over {pairs:,} pairs that two or more curators answered; 1 is '
        "agreement, 0 chance. From .67 on it supports tentative conclusions.</span></p>"
    )


PAGE = page.Page("audit", "Audit", ":material/fact_check:", draw)
