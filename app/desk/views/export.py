"""The page Export: a policy, what it would do, and the set written in the background."""

from datetime import datetime
from typing import Any

import streamlit as st

from app.desk import export_jobs as exporting
from app.desk import page as frame
from app.desk import state
from app.desk.components import messages as notice
from app.desk.components import page, tables
from app.desk.components.html_text import literal, share
from app.desk.export_jobs import Job
from app.desk.queries import export as reads
from app.desk.queries import queue as data
from app.desk.queries import shelf
from app.desk.queries.export import Preview
from app.desk.views import export_form
from app.desk.views.export_form import Wanted
from toolkit.colors import Ground
from toolkit.errors import OutvotedError, StoreError
from toolkit.export import Policy
from toolkit.export.dataset_writer import warnings_of
from toolkit.export.policy import check
from toolkit.store import Store


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The whole page, or what the store lacks."""
    del ground
    page.head("Export", "A filtered, corrected or reweighted copy of the pairs, as trainers read.")
    if not shelf.stamp(store):
        notice.news("The store holds no pairs, so there is nothing to export. Type first:")
        notice.command(f"outvoted ingest KIND PATH --store {notice.path(store.root)}")
        return
    left, right = st.columns([5, 4], gap="large")
    with left:
        wanted = export_form.draw(store, settings)
    with right:
        found = _looked(store, wanted.policy)
        if found is not None:
            _counts(found)
        _write(store, settings, wanted, ready=bool(found and found.counts["after"]["pairs"]))
        going = [job for job in reads.jobs().all() if not job.ended]
        st.fragment(_progress, run_every=1 if going else None)(len(going))
    if found is not None:
        _balance(found)
    _written(store)


def _looked(store: Store, policy: Policy) -> Preview | None:
    """What the policy would do; None, and a sentence, where it cannot be had."""
    try:
        check(policy)
        return reads.preview(store, policy)
    except OutvotedError as problem:
        notice.sentence(str(problem))
        return None


def _write(store: Store, settings: state.Settings, wanted: Wanted, *, ready: bool) -> None:
    """The command that does the same, and the button."""
    st.subheader("The same in a terminal")
    out = exporting.folder(store) / (wanted.name.strip() or "NAME")
    notice.command(exporting.command(store, out, wanted.policy, wanted.form))

    def write() -> None:
        # An export reads published verdicts: the last ones too.
        known = data.ledger(store.root, settings.journal)
        known.publish()
        if known.problem:
            raise StoreError(known.problem)
        reads.jobs().start(store, wanted.name, wanted.policy, wanted.form)
        st.session_state["problem"] = ""

    st.button(
        "Write the export",
        type="primary",
        disabled=not ready,
        on_click=frame.told(write),
        key="export-write",
    )
    if told := st.session_state["problem"]:
        notice.sentence(told)


def _counts(found: Preview) -> None:
    """Pairs before and after, and every reason."""
    before, after = found.counts["before"], found.counts["after"]
    st.subheader("What it would do")
    rows = [[word, f"{before[word]:,}", f"{after[word]:,}"] for word in before]
    tables.table(("", "before", "after"), rows, name="Pairs before and after")
    acts = "".join(
        f'<span class="desk-chip"><i>{word}</i><b>{found.counts[word]:,}</b></span>'
        for word in ("flipped", "tied", "dropped", "reweighted")
    )
    st.html(f'<div class="desk-wrap">{acts}</div>')
    for warning in warnings_of(found.counts):
        notice.caution(warning)
    reasons = [[f"{pairs:,}", why] for why, pairs in found.counts["reasons"].items()]
    if reasons:
        with st.expander(f"Why ({len(reasons)} reasons)"):
            tables.table(("pairs", "why"), reasons, name="Reasons")


def _balance(found: Preview) -> None:
    st.subheader("Balance")
    prompts, models = found.balance["prompts"], found.balance["models"]
    before, after = prompts["before"], prompts["after"]
    left, right = st.columns([3, 4], gap="large")
    with left:
        rows = [
            [name.replace("_", " "), f"{before[name]:,g}", f"{after[name]:,g}"] for name in before
        ]
        rows.append(["prompts lost", "", f"{prompts['lost']:,}"])
        tables.table(("prompts", "before", "after"), rows, name="Prompts before and after")
    with right:
        shown = sorted(models["before"], key=lambda name: -models["before"][name]["pairs"])[:12]
        rows = [
            [name, *(_model(models[when].get(name)) for when in ("before", "after"))]
            for name in shown
        ]
        if rows:
            heads = ("model", "before: pairs, chosen", "after: pairs, chosen")
            tables.table(heads, rows, name="Models before and after")
        else:
            st.html('<p class="desk-quiet">The source does not name the images\' models.</p>')


def _model(facts: dict[str, Any] | None) -> str:
    return "–" if facts is None else f"{facts['pairs']:,}, {share(facts['chosen_share'])}"


def _progress(going: int) -> None:
    """The exports of this server; looks again each second while one is being written."""
    found = reads.jobs().all()
    if sum(not job.ended for job in found) != going:
        st.rerun()
    for job in found[:4]:
        _job(job)


def _job(job: Job) -> None:
    if not job.ended:
        done = job.done / job.total if job.total else 0.0
        rows = f"{job.done:,} of {job.total:,} rows" if job.total else "deciding about every pair"
        st.progress(done, text=f"Writing {notice.escaped(job.name)}: {rows}")
    elif job.problem:
        notice.sentence(f"{job.name}: {job.problem}")
    else:
        st.html(
            f'<p class="desk-done" role="status"><b>✓ {literal(job.name)} is written</b> '
            f"<code>{literal(str(job.out))}</code><br>{literal(job.lines[0])}</p>"
        )


def _written(store: Store) -> None:
    found = exporting.written(store)
    if not found:
        return
    st.subheader("Exports")
    rows = [
        [row["name"], row["format"], f"{row['pairs']:,}",
         f"{datetime.fromtimestamp(row['time']):%d %b %H:%M}", str(row["path"])]
        for row in found[:20]
    ]  # fmt: skip
    tables.table(("name", "format", "pairs", "written", "path"), rows, name="Exports")
