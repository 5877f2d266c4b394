"""The page Pair: everything about one pair, at its own address (?pair=ID)."""

import json
from collections.abc import Mapping
from typing import Any

import streamlit as st

from app.desk import page, state
from app.desk.components import judge, pair_card, text
from app.desk.components.charts import show_figure
from app.desk.components.judge import Action, Card
from app.desk.image_cache import CARD_SIDE, thumbnails
from app.desk.queries import pair as reads
from app.desk.queries import queue
from app.desk.queries.connection import Desk, current, run_of
from app.desk.queries.pair import Facts
from app.desk.views.getting_started import analyze_command, ingest_command, train_command
from toolkit.colors import Ground
from toolkit.errors import InputError
from toolkit.preference import is_decided, is_graded, lean, side
from toolkit.store import Store, pair_details
from toolkit.store.journal import Entry
from toolkit.store.pair_details import Scores, Value
from toolkit.store.pseudonyms import own_ids
from toolkit.store.verdicts import verdict_of


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The page, or the sentence that says which pair to name."""
    page.load_style()
    runs, run = reads.runs_of(store), run_of(store, settings.run)
    if not settings.run and len(runs) > 1:
        at = runs.index(run) if run in runs else 0
        run = st.sidebar.selectbox("Run", runs, index=at, key="pair-run")
    desk, _ = current(store, settings)
    pair_id = st.session_state.get("pair_id") or pair_details.first_pair(desk.con.cursor())
    facts = reads.facts(desk, run, pair_id) if pair_id else None
    if facts is None and pair_id and (own := own_ids(store, [pair_id])):
        pair_id = own[pair_id]  # an export or a report named it
        facts = reads.facts(desk, run, pair_id)
    if facts is None or pair_id is None:
        _show_absent(store, pair_id)
        return
    st.session_state["pair_id"] = pair_id
    _show_head(facts)
    _show_verdict(desk, settings, run, facts)
    if run is None:
        text.info(
            "There is no run yet, so there is no trajectory and no score; type "
            f"`{train_command(store)}`."
        )
    else:
        _show_trajectory(store, run, facts, ground)
        _show_findings(store, run, facts)
    _show_scorers(facts)
    _show_people(facts)
    _show_edited(store, facts)
    with st.expander("The pair's row, as its source gave it"):
        rows = [[name, "" if value is None else str(value)] for name, value in facts.pair.items()]
        text.table(("column", "value"), rows, name="The pair's row")


def _show_edited(store: Store, facts: Facts) -> None:
    """The image that both sides edit, where the source has one; folded, as any may be unfit."""
    if (image_id := facts.pair.get("src_source_image")) is None:
        return
    with st.expander("The image that both sides edit"):
        shown = thumbnails(store, [str(image_id)], CARD_SIDE)[str(image_id)]
        if shown.problem:
            text.quiet(f"It cannot be shown: {shown.problem}.")
        else:
            st.html(f'<img src="{shown.source}" alt="The image that both sides edit">')


def _show_absent(store: Store, pair_id: str | None) -> None:
    st.title("Pair")
    if pair_id is None:
        text.info(f"The store has no pairs yet; type `{ingest_command(store)}` to add some.")
        return
    text.info(f"The store has no pair {pair_id!r}; open one from the Queue, or type its id below.")
    _ask_other_pair("")


def _ask_other_pair(pair_id: str) -> None:
    def changed() -> None:
        state.go_to(st.session_state[name].strip() or None)

    name = f"pair-asked-{pair_id}"
    st.text_input(
        "Open another pair by its id", value=pair_id, key=name, on_change=changed, max_chars=200
    )


def _show_head(facts: Facts) -> None:
    pair = facts.pair
    st.html(
        f'<h1 class="desk-title">Pair <code>{text.escape(pair["pair_id"])}</code></h1>'
        f'<p class="desk-quiet desk-tight">split '
        f"{text.escape(str(pair['split']))} · source {text.escape(str(pair['source']))} · label "
        f"set {text.escape(facts.label_set)}</p>"
    )


def _show_verdict(desk: Desk, settings: state.Settings, run: str | None, facts: Facts) -> None:
    """The verdict, the buttons, and every row of the history."""
    pair_id, label, verdicts = facts.pair["pair_id"], facts.label, desk.verdicts
    if problem := st.session_state.get("problem") or verdicts.trouble:
        text.error(problem)
    own = verdicts.by_curator(pair_id).get(settings.curator)
    judge.show(
        desk,
        settings,
        "pair",
        [_card(desk, run, facts, own)],
        _acts(desk, settings),
        scope=("pair", pair_id),
        status=judge.status("", judge.saved_line(desk, settings), 0.0),
        undo={"pairs": 1, "id": own["verdict_id"]} if own else None,
        reasons=judge.REASONS,
        stays=True,
    )
    st.subheader("Verdict")
    st.html(_verdict_markup(verdicts.verdict_on(pair_id), label))
    if history := verdicts.history(pair_id):
        undone = {row["undoes"] for row in history if row["choice"] == "undo"}
        heads = ("time", "curator", "choice", "reasons", "note", "seen")
        text.table(heads, [_history_row(row, undone) for row in history], name="Verdict history")
    else:
        text.quiet("Nobody has given a verdict on this pair yet.")
    _ask_other_pair(pair_id)


def _verdict_markup(resolved: dict[str, Any] | None, label: float | None) -> str:
    if resolved is None:
        return '<p class="desk-quiet">no verdict yet</p>'
    people = resolved["curators"]
    note = "1 curator" if people == 1 else f"{people} curators"
    note += ", who differ" if resolved["split"] else ""
    return f"<p>{pair_card.verdict_chip(verdict_of(resolved['choice'], label), note)}</p>"


def _history_row(row: dict[str, Any], undone: set[str]) -> list[str]:
    choice = row["choice"] + (" (undone)" if row["verdict_id"] in undone else "")
    shown = row["shown"]
    seen = json.loads(shown) if isinstance(shown, str) and shown else dict(shown or {})
    blind = "blind" if seen.get("blind") else "with label"
    where = f"{seen['page']}, {blind}" if seen.get("page") else blind
    return [
        text.clock(row["time"], date=True), row["curator"], choice, ", ".join(row["reasons"] or []),
        row["note"] or "", "" if row["choice"] == "undo" else where,
    ]  # fmt: skip


def _card(desk: Desk, run: str | None, facts: Facts, own: Mapping[str, Any] | None) -> Card:
    pair = next(iter(queue.cards(desk, [facts.pair["pair_id"]])), facts.pair)
    shown = {"page": "pair", "run": run, "label": facts.label}
    return judge.make_card({**pair, "label": facts.label}, facts.label_set, shown, own=own)


def _acts(desk: Desk, settings: state.Settings) -> judge.Acts:
    """What the curator may do here."""

    def undo(action: Action) -> None:
        """Take back this pair's own verdict, which need not be the newest."""
        pair_id = st.session_state["pair_id"]
        own = desk.verdicts.by_curator(pair_id).get(settings.curator)
        if own is None or own["verdict_id"] != action["id"]:
            raise InputError("Your verdict on this pair has changed; nothing was undone.")
        desk.verdicts.record([Entry(pair_id, settings.curator, "undo", undoes=action["id"])])

    return {"undo": undo}


def _show_trajectory(store: Store, run: str, facts: Facts, ground: Ground) -> None:
    """The pair's ell with its band and probes, and the errors behind it."""
    st.subheader("Trajectory")
    if pair_details.trajectory_bytes(store, run) > reads.LARGE_BYTES and not st.button(
        "Search the trajectory for this pair", key=f"search-{facts.pair['pair_id']}"
    ):
        text.quiet("The trajectory is large; a search may take a minute.")
        return
    if not is_decided(facts.label):
        text.quiet(
            f"The pair states no preference under label set {text.escape(facts.label_set)}, so "
            "its ell has no sign."
        )
        return
    tables = reads.trajectory_tables(
        store, run, facts.label_set, facts.label, facts.pair["pair_id"]
    )
    if not tables.ell.num_rows:
        text.quiet(f"Run {text.escape(run)} has no visit of this pair.")
        return
    from analysis.figures.curves import pair_errors_figure, pair_trajectory_figure

    text.quiet(
        f"run {text.escape(run)}: {tables.visits} visits, {tables.probes} probes under fixed draws "
        "(diamonds). Above 0 the model agrees with the label; the band spans the policy and its "
        "footprints. ell is the difference between the two errors on the right."
    )
    left, right = st.columns(2, gap="large")
    with left:
        figure = pair_trajectory_figure(tables.ell)
        show_figure(figure, ground, height=300, alt="ell of the pair by step, with its band")
    with right:
        figure = pair_errors_figure(tables.errors)
        show_figure(figure, ground, height=300, alt="errors on the chosen and the rejected image")


def _show_findings(store: Store, run: str, facts: Facts) -> None:
    """The main score of every finding, then all other columns."""
    values = reads.values(store, run, facts.pair["pair_id"])
    st.subheader("Findings")
    if not values:
        text.info(f"Run {run} has no findings on this pair; type `{analyze_command(store, run)}`.")
        return
    main = [value for value in values if _is_main(value)]
    rows = [
        [
            value.finding,
            value.column,
            _value_text(value.value),
            "" if value.lower is None else f"higher than {text.share(value.lower)}",
        ]
        for value in main
    ]
    half = (len(rows) + 1) // 2
    for column, some in zip(st.columns(2, gap="large"), (rows[:half], rows[half:]), strict=True):
        with column:
            text.table(("finding", "column", "value", "rank"), some, name="Findings")
    with st.expander("Other presets, parts of the run, and unknown values"):
        others = [[v.finding, v.column, _value_text(v.value)] for v in values if v not in main]
        text.table(("finding", "column", "value"), others, name="Other findings")


_WINDOWS = ("_all", "_early", "_late", "_last", "_probe")


def _is_main(value: Value) -> bool:
    """Known, over the finding's own window, and of the run's own metric."""
    other_preset = value.finding.startswith("minority_")
    return not (value.value is None or other_preset or value.column.endswith(_WINDOWS))


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) or value is None:
        return text.number(value)
    return str(value)


def _show_scorers(facts: Facts) -> None:
    """Each scorer's two scores, and whether it agrees with the label."""
    if not facts.scores:
        return
    st.subheader("Scorers")
    heads = ("scorer", "image_0", "image_1", "difference", "with the label")
    text.table(heads, [_scorer_row(scores, facts.label) for scores in facts.scores], name="Scorers")


def _scorer_row(scores: Scores, label: float | None) -> list[str]:
    row = [scores.scorer, text.number(scores.score_0), text.number(scores.score_1)]
    if scores.score_0 is None or scores.score_1 is None:
        return [*row, "", scores.reason or "not scored yet"]
    difference = scores.score_0 - scores.score_1
    if not difference or not is_decided(label):
        return [*row, text.number(difference), "no preference"]
    return [
        *row,
        text.number(difference),
        "agrees" if difference * lean(label) > 0 else "disagrees",
    ]


def _show_people(facts: Facts) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Labels and votes")
        rows = [[name, _preference(label), "label set"] for name, label in facts.labels.items()]
        rows += [
            [
                vote["annotator"] or "(unnamed)",
                _preference(vote["choice"]),
                "vote" if vote["pair_id"] == facts.pair["pair_id"] else "vote, same two images",
            ]
            for vote in facts.votes
        ]
        text.table(("who", "prefers", "kind"), rows, name="Labels and votes")
    with right:
        st.subheader("Other pairs of this prompt")
        if not facts.siblings:
            text.quiet("None.")
        for other in facts.siblings:
            same = " · same two images" if other["same_images"] else ""
            words = f"{other['pair_id']}, label {_preference(other['label'])}{same}"
            page.page_link("pair", words, pair=other["pair_id"])


def _preference(label: float | None) -> str:
    words = {1.0: "image_0", 0.0: "image_1", 0.5: "tie"}.get(float(side(label)), "unknown")
    return f"{words} ({label:.2g})" if is_graded(label) else words


PAGE = page.Page("pair", "Pair", ":material/compare:", draw, with_pair=True)
