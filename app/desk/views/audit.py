"""The page Audit: a random sample against a top-u sample, judged blind, and what that says."""

from typing import Any

import streamlit as st

from analysis import audits as auditing
from app.desk import page as frame
from app.desk import state
from app.desk.components import (
    card,
    page,
    verdict_row,
)
from app.desk.components import (
    messages as notice,
)
from app.desk.components import (
    status_bar as view_words,
)
from app.desk.components.html_text import literal
from app.desk.image_cache import picture
from app.desk.queries import queue as data
from app.desk.queries import shelf
from app.desk.queries.queue import Desk
from app.desk.views import audit_results
from toolkit.colors import Ground
from toolkit.errors import OutvotedError
from toolkit.store import Store, audits
from toolkit.store.audits import Audit
from toolkit.store.queue import tables as queries
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
        audit_results.draw(store, desk, audit, settings, ground)


def _of_run(store: Store, name: str, run: str) -> bool:
    try:
        return audits.read_audit(store, name).run == run
    except OutvotedError:  # a broken file is told of when it is chosen
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


def _judge(desk: Desk, audit: Audit, settings: state.Settings) -> None:
    """One pair, blind: no label, no score, its sides at random."""
    with frame.sentences():
        desk.ledger.refresh()
        rows = audit_results.rows_of(desk, audit)
        mine = auditing.answers_in(audit, rows).get(settings.curator, {})
        left = [pair_id for pair_id in audit.order if pair_id not in mine]
        _status(desk, audit, settings, len(mine))
        for problem in (st.session_state["problem"], desk.ledger.trouble):
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
