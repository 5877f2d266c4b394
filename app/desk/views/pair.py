"""The page Pair: everything about one pair, at an address of its own (?pair=ID)."""

import json
from datetime import datetime
from typing import Any

import streamlit as st

from app.desk import page as frame
from app.desk import state
from app.desk.components import card, page, tables, verdict_row
from app.desk.components import messages as notice
from app.desk.components.html_text import literal
from app.desk.image_cache import picture
from app.desk.queries import pair as reads
from app.desk.queries import queue as data
from app.desk.queries import shelf
from app.desk.queries.pair import Facts
from app.desk.verdict_state import Ledger
from app.desk.views import pair_facts
from app.desk.views.verdict_buttons import REASONS
from toolkit.colors import VERDICT_COLOURS, Ground
from toolkit.store import Store
from toolkit.store import pair_details as one_pair
from toolkit.store.verdicts import Choice, Entry, verdict_of


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The whole page, or the sentence that says which pair to name."""
    page.look()
    runs = reads.runs_of(store)
    run = shelf.run_of(store, settings.run)
    if not settings.run and len(runs) > 1:
        at = runs.index(run) if run in runs else 0
        run = st.sidebar.selectbox("Run", runs, index=at, key="pair-run")
    pair_id = _asked(store)
    facts = reads.facts(store, run, pair_id) if pair_id else None
    if facts is None or pair_id is None:
        _absent(store, pair_id)
        return
    st.session_state["pair_id"] = pair_id
    known = data.ledger(store.root, settings.journal)
    known.refresh()
    _head(facts)
    left, right = st.columns([5, 4], gap="large")
    with left, st.container(key="pair-cards"):
        _images(store, settings, facts)
    with right:
        _verdict(known, settings, run, facts)
    if run is None:
        notice.news(
            "No run has met this pair yet, so there is no trajectory and no score; type "
            f"`outvoted train RECIPE --store {notice.path(store.root)}`."
        )
    else:
        pair_facts.trajectory(store, run, facts, ground)
        pair_facts.scores(store, run, facts)
    pair_facts.scorers(facts)
    pair_facts.people(facts)
    pair_facts.source_row(facts)


def _asked(store: Store) -> str | None:
    """The pair of the address or that another page left on screen, else the first."""
    return st.session_state.get("pair_id") or one_pair.first_pair(shelf.cursor(store))


def _absent(store: Store, pair_id: str | None) -> None:
    st.title("Pair")
    if pair_id is None:
        notice.news(
            "The store holds no pairs yet; type `outvoted ingest KIND PATH --store "
            f"{notice.path(store.root)}` to bring some in."
        )
        return
    notice.news(
        f"The store has no pair {pair_id!r}; open one from the Queue, or type its id below."
    )
    _other_pair("")


def _other_pair(pair_id: str) -> None:
    def changed() -> None:
        state.go_to(st.session_state[name].strip() or None)

    name = f"pair-asked-{pair_id}"
    st.text_input(
        "Open another pair by its id", value=pair_id, key=name, on_change=changed, max_chars=200
    )


def _images(store: Store, settings: state.Settings, facts: Facts) -> None:
    pair = {**facts.pair, "label": facts.label}
    pair |= {name: pair.get(f"src_{name}") for name in ("model_0", "model_1")}
    desk, _ = data.current(store, settings)
    marked = data.cards(desk, [pair["pair_id"]])
    blurred = bool(marked) and page.covered(marked[0])
    shown = [picture(store, pair[slot]) for slot in ("image_0", "image_1")]
    card.images((shown[0], shown[1]), ("image_0", "image_1"), pair, blurred=blurred)
    if blurred:
        page.uncover(pair["pair_id"])


def _head(facts: Facts) -> None:
    pair = facts.pair
    st.html(
        f'<h1 class="desk-title" dir="auto">{literal(pair["prompt"]) or "(no prompt)"}</h1>'
        f'<p class="desk-quiet">pair <code>{literal(pair["pair_id"])}</code> · split '
        f"{literal(str(pair['split']))} · source {literal(str(pair['source']))} · label set "
        f"{literal(facts.label_set)}</p>"
    )


def _verdict(known: Ledger, settings: state.Settings, run: str | None, facts: Facts) -> None:
    """What stands, the buttons, and every row that led there."""
    pair_id, label = facts.pair["pair_id"], facts.label
    st.subheader("Verdict")
    if problem := st.session_state.get("problem") or known.trouble:
        notice.sentence(problem)
    history = known.history(pair_id)
    outcome = known.outcome(pair_id)
    st.html(_standing(outcome, label))
    st.pills("Reasons", REASONS, selection_mode="multi", key=f"pair-reasons-{pair_id}")
    st.text_input(
        "Note",
        key=f"pair-note-{pair_id}",
        placeholder="a note that goes with your next verdict",
        max_chars=500,
    )
    verdict_row.row(pair_id, verdict_row.answers(label), _give, known, settings, run, facts)
    mine = _newest(history, settings.curator)
    st.button(
        "Take back my verdict",
        key=f"back-{pair_id}",
        disabled=mine is None,
        shortcut="Z",
        on_click=frame.told(_take_back),
        args=(known, settings, mine),
    )
    if history:
        heads = ("time", "curator", "choice", "reasons", "note", "seen")
        tables.table(heads, [_told(row, history) for row in history], name="Verdict history")
    else:
        st.html('<p class="desk-quiet">Nobody has judged this pair yet.</p>')
    _other_pair(pair_id)


def _standing(outcome: dict[str, Any] | None, label: float | None) -> str:
    if outcome is None:
        return '<p class="desk-quiet">open: no verdict stands</p>'
    verdict = verdict_of(outcome["choice"], label)
    people = outcome["curators"]
    who = "1 curator" if people == 1 else f"{people} curators"
    split = ", who differ" if outcome["split"] else ""
    return (
        f'<p><span class="desk-chip"><span class="desk-dot" style="background: '
        f'{VERDICT_COLOURS[verdict]}"></span><b>{verdict}</b><i>{who}{split}</i></span></p>'
    )


def _told(row: dict[str, Any], history: list[dict[str, Any]]) -> list[str]:
    undone = {other["undoes"] for other in history if other["choice"] == "undo"}
    choice = row["choice"] + (" (taken back)" if row["verdict_id"] in undone else "")
    shown = row["shown"]
    seen = json.loads(shown) if isinstance(shown, str) and shown else dict(shown or {})
    blind = "blind" if seen.get("blind") else "with label"
    where = f"{seen['page']}, {blind}" if seen.get("page") else blind
    return [
        f"{_clock(row['time'])}", row["curator"], choice, ", ".join(row["reasons"] or []),
        row["note"] or "", "" if row["choice"] == "undo" else where,
    ]  # fmt: skip


def _clock(when: datetime) -> str:
    return f"{when.astimezone():%d %b %H:%M:%S}"


def _newest(history: list[dict[str, Any]], curator: str) -> str | None:
    """verdict_id of the curator's newest standing verdict on the pair."""
    undone = {row["undoes"] for row in history if row["choice"] == "undo"}
    mine = [
        row["verdict_id"]
        for row in history
        if row["curator"] == curator and row["choice"] != "undo" and row["verdict_id"] not in undone
    ]
    return mine[-1] if mine else None


def _give(
    known: Ledger, settings: state.Settings, run: str | None, facts: Facts, choice: Choice
) -> None:
    pair_id = facts.pair["pair_id"]
    note = str(st.session_state.get(f"pair-note-{pair_id}", "")).strip()
    reasons = tuple(st.session_state.get(f"pair-reasons-{pair_id}") or ())
    shown = {"page": "pair", "run": run, "label": facts.label, "blind": False}
    known.record(
        [
            Entry(
                pair_id,
                settings.curator,
                choice,
                facts.label_set,
                reasons=reasons,
                note=note,
                shown=shown,
            )
        ]
    )
    st.session_state[f"pair-note-{pair_id}"] = ""
    st.session_state[f"pair-reasons-{pair_id}"] = []
    st.session_state["problem"] = ""


def _take_back(known: Ledger, settings: state.Settings, verdict_id: str | None) -> None:
    pair_id = str(st.session_state["pair_id"])
    known.record([Entry(pair_id, settings.curator, "undo", undoes=verdict_id)])
    st.session_state["problem"] = ""
