"""The page Export: a policy, what it would do, and the export written in the background."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import streamlit as st

from app.desk import export_jobs, page, state
from app.desk.components import text
from app.desk.export_jobs import Job
from app.desk.queries.connection import TABLES, Stamp, cached_read, run_of, stamp, verdicts
from app.desk.views.getting_started import ingest_command
from toolkit.colors import Ground
from toolkit.errors import OutvotedError, StoreError
from toolkit.export import FORMATS, Policy, warnings_of
from toolkit.export.dataset_writer import columns_of_source
from toolkit.export.decisions import make_plan
from toolkit.export.policy import check
from toolkit.export.provenance import balance, counts
from toolkit.preference import is_tie
from toolkit.store import Store
from toolkit.store.label_sets import label_sets
from toolkit.store.runs import findings

_OWN = "the finding's own"
_NO_RUN = "no run"


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The page, or what an empty store needs."""
    del ground
    page.head("Export", "A filtered, corrected or reweighted copy of the pairs, as trainers read.")
    if not stamp(store, TABLES):
        text.hint("The store has no pairs, so there is nothing to export.", ingest_command(store))
        return
    left, right = st.columns([5, 4], gap="large")
    with left:
        _show_form(store, settings)
        form = _form()
    with right:
        preview = _preview(store, form.policy, form.format)
        if preview is not None:
            _show_counts(preview)
        ready = bool(preview and preview.counts["after"]["pairs"])
        _show_write_button(store, settings, form, ready=ready)
        running = sum(not job.ended for job in export_jobs.jobs().all())
        st.fragment(_show_jobs, run_every=1 if running else None)(running)
    if preview is not None:
        _show_balance(preview)
    _show_written(store)


@dataclass(frozen=True)
class Form:
    """The values of the form."""

    policy: Policy
    format: str
    name: str


def _show_form(store: Store, settings: state.Settings) -> None:
    """The fields; `_form` reads them."""
    left, right = st.columns(2)
    left.text_input(
        "Name of the export",
        value="curated",
        key="export-name",
        max_chars=100,
        help=f"A new folder of this name in {text.escape_markdown(str(export_jobs.folder(store)))}",
    )
    form = right.selectbox("Format", list(FORMATS), key="export-format")
    scored = _show_scores(store, settings)
    _show_conditions()
    _show_shares(scored=scored)
    left, right = st.columns(2)
    left.toggle("Apply verdicts", True, key="export-verdicts")
    right.toggle("With the images", True, key="export-images")
    left.toggle("Keep ties", False, key="export-keep_ties")
    right.toggle("Keep unlabelled", False, key="export-keep_unlabelled")
    disabled = not FORMATS[str(form)].source_columns
    for column, name in zip(st.columns(2), ("keep", "pseudonymize"), strict=True):
        label = f"Columns to {name}, by commas"
        column.text_input(label, key=f"export-{name}", max_chars=1000, disabled=disabled)


def _show_scores(store: Store, settings: state.Settings) -> bool:
    """Which run's scores, and which labels; whether a run was chosen."""
    row = st.columns(3)
    runs = [_NO_RUN, *store.runs()]
    first = run_of(store, settings.run)
    at = runs.index(first) if first in runs and findings(store, str(first)) else 0
    run = row[0].selectbox("Scores of run", runs, index=at, key="export-run")
    names = [] if run == _NO_RUN else [f for f in findings(store, run) if f != "annotators"]
    row[1].selectbox(
        "Finding that ranks",
        names or ["minority"],
        index=names.index("minority") if "minority" in names else 0,
        disabled=not names,
        key="export-finding",
    )
    row[2].selectbox("Labels", [_OWN, *label_sets(store)], key="export-labels")
    return bool(run != _NO_RUN)


def _show_conditions() -> None:
    """Conditions, as in filters."""
    st.text_input(
        "Only pairs where",
        key="export-where",
        placeholder='split = "train" and votes > 1',
        max_chars=2000,
    )
    left, right = st.columns(2)
    left.text_area(
        "Drop where (one condition a line)",
        key="export-drop",
        height=80,
        placeholder="minority > 0.9 and verdict is null",
    )
    right.text_area("Flip where (one condition a line)", key="export-flip", height=80)


def _show_shares(*, scored: bool) -> None:
    """What the scores do: drop or flip the top, or weigh."""
    left, right = st.columns(2, vertical_alignment="bottom")
    limits = (0.0, 100.0, 0.0, 0.5)
    left.number_input(
        "Drop the top, % of the pairs with a score",
        *limits,
        key="export-drop-top",
        disabled=not scored,
    )
    right.number_input("Flip the top, %", *limits, key="export-flip-top", disabled=not scored)
    left, right = st.columns(2, vertical_alignment="bottom")
    reweight = left.toggle("Reweight by 1 / (1 + k1 u)", key="export-reweight", disabled=not scored)
    right.number_input("k1", 0.0, 1000.0, 10.0, key="export-k1", disabled=not reweight)
    st.text_input(
        "Or weigh by a column",
        key="export-weight",
        placeholder="1 - calibrated.probability",
        max_chars=200,
    )


def _form() -> Form:
    """What the fields say now. Also for the callback of the button: what the page showed last may
    be older than a field that the click itself left. A field that is gone, because the page was
    left right after the click, has the value it was drawn with."""
    drawn = st.session_state.get("export-drawn", {})
    say = {name: st.session_state.get(f"export-{name}", drawn.get(name)) for name in _FIELDS}
    st.session_state["export-drawn"] = say
    scored = say["run"] != _NO_RUN
    reweight = bool(say["reweight"] and scored)
    columns = FORMATS[say["format"]].source_columns
    policy = Policy(
        run=say["run"] if scored else None,
        finding=say["finding"] if scored else "minority",
        labels=None if say["labels"] == _OWN else say["labels"],
        where=say["where"].strip() or None,
        drop=_lines(say["drop"]),
        flip=_lines(say["flip"]),
        drop_top=round(say["drop-top"] / 100, 6) if scored else 0.0,
        flip_top=round(say["flip-top"] / 100, 6) if scored else 0.0,
        reweight=reweight,
        k1=say["k1"] if reweight else 10.0,
        weight=say["weight"].strip() or None,
        keep=_lines(say["keep"].replace(",", "\n")) if columns else (),
        pseudonymize=_lines(say["pseudonymize"].replace(",", "\n")) if columns else (),
        **{name: say[name] for name in ("verdicts", "images", "keep_ties", "keep_unlabelled")},
    )
    return Form(policy, say["format"], say["name"])


_FIELDS = (
    "name", "format", "run", "finding", "labels", "where", "drop", "flip", "drop-top", "flip-top",
    "reweight", "k1", "weight", "verdicts", "images", "keep_ties", "keep_unlabelled", "keep",
    "pseudonymize",
)  # fmt: skip


def _lines(field: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in field.splitlines() if line.strip())


@dataclass(frozen=True)
class Preview:
    """What an export would do."""

    counts: dict[str, Any]
    """As in curation.json."""
    balance: dict[str, Any]
    """As in curation.json."""
    left_out: dict[str, int]
    """Pairs that are not exported, by why; together all of them."""
    columns: list[str]
    """Which of the source's columns stay behind, as a sentence, if any."""


def _preview(store: Store, policy: Policy, form: str) -> Preview | None:
    """What the policy would do; None, and a sentence on the page, if it cannot be applied."""
    try:
        check(policy)
        return _read_preview(store, policy, form)
    except OutvotedError as problem:
        text.error(str(problem))
        return None


def _made_from(store: Store, policy: Policy, form: str) -> Stamp:
    del form
    files = [(store.folder("verdicts"), "part-*.parquet")]
    if policy.run is not None:
        files.append((store.findings(policy.run), "*.parquet"))
    return stamp(store, TABLES, files)


@cached_read(_made_from, spinner="Deciding about every pair ...")
def _read_preview(store: Store, policy: Policy, form: str) -> Preview:
    plan = make_plan(store, policy)
    ties, unlabelled = ~plan.kept & is_tie(plan.final), ~plan.kept & np.isnan(plan.final)
    left_out = {"ties left out": ties, "unlabelled left out": unlabelled,
                "dropped": ~plan.kept & ~ties & ~unlabelled}  # fmt: skip
    sizes = {word: int(np.count_nonzero(rows)) for word, rows in left_out.items()}
    columns = columns_of_source(store, plan, policy, FORMATS[form])
    return Preview(counts(plan), balance(plan), sizes, columns.lines())


def _show_write_button(store: Store, settings: state.Settings, form: Form, *, ready: bool) -> None:
    """The command that does the same, and the button."""
    st.subheader("The same in a terminal")
    out = export_jobs.folder(store) / (form.name.strip() or "NAME")
    text.command(export_jobs.command(store, out, form.policy, form.format))

    def write() -> None:
        # An export reads published verdicts, so publish the latest ones first.
        known = verdicts(store.root, settings.journal)
        known.publish()
        if known.problem:
            raise StoreError(known.problem)
        now = _form()
        export_jobs.jobs().start(store, now.name, now.policy, now.format)
        st.session_state["problem"] = ""

    st.button(
        "Write the export",
        type="primary",
        disabled=not ready,
        on_click=page.callback(write),
        key="export-write",
    )
    if problem := st.session_state["problem"]:
        text.error(problem)


def _show_counts(preview: Preview) -> None:
    """Pairs before and after, what happens to them, and every reason."""
    before, after = preview.counts["before"], preview.counts["after"]
    st.subheader("What it would do")
    rows = [[word, f"{before[word]:,}", f"{after[word]:,}"] for word in before]
    text.table(("", "before", "after"), rows, name="Pairs before and after")
    changes = {
        "flipped": preview.counts["flipped"],
        "changed to a tie": preview.counts["tied"],
        **preview.left_out,
        "reweighted": preview.counts["reweighted"],
    }
    always = ("flipped", "dropped", "reweighted")
    chips = "".join(
        f'<span class="desk-chip"><b>{pairs:,}</b><i>{word}</i></span>'
        for word, pairs in changes.items()
        if pairs or word in always
    )
    st.html(f'<div class="desk-wrap">{chips}</div>')
    for warning in warnings_of(preview.counts):
        text.warning(warning)
    for sentence in preview.columns:
        text.quiet(text.escape(sentence))
    reasons = [[f"{pairs:,}", why] for why, pairs in preview.counts["reasons"].items()]
    if reasons:
        with st.expander(f"Why ({len(reasons)} reasons)"):
            text.table(("pairs", "why"), reasons, name="Reasons")


def _show_balance(preview: Preview) -> None:
    st.subheader("Balance")
    prompts, models = preview.balance["prompts"], preview.balance["models"]
    before, after = prompts["before"], prompts["after"]
    left, right = st.columns([3, 4], gap="large")
    with left:
        rows = [
            [name.replace("_", " "), f"{before[name]:,g}", f"{after[name]:,g}"] for name in before
        ]
        rows.append(["prompts lost", "", f"{prompts['lost']:,}"])
        text.table(("prompts", "before", "after"), rows, name="Prompts before and after")
    with right:
        shown = sorted(models["before"], key=lambda name: -models["before"][name]["pairs"])[:12]
        rows = [
            [name, *(_model_text(models[when].get(name)) for when in ("before", "after"))]
            for name in shown
        ]
        if rows:
            heads = ("model", "before: pairs, chosen", "after: pairs, chosen")
            text.table(heads, rows, name="Models before and after")
        else:
            text.quiet("The source does not name the models of the images.")


def _model_text(facts: dict[str, Any] | None) -> str:
    return "–" if facts is None else f"{facts['pairs']:,}, {text.share(facts['chosen_share'])}"


def _show_jobs(running: int) -> None:
    """The exports of this server; refreshed each second while one is being written."""
    jobs = export_jobs.jobs().all()
    if sum(not job.ended for job in jobs) != running:
        st.rerun()
    for job in jobs[:4]:
        _show_job(job)


def _show_job(job: Job) -> None:
    if not job.ended:
        done = job.done / job.total if job.total else 0.0
        rows = f"{job.done:,} of {job.total:,} rows" if job.total else "deciding about every pair"
        st.progress(done, text=f"Writing {text.escape_markdown(job.name)}: {rows}")
    elif job.problem:
        text.error(f"{job.name}: {job.problem}")
    else:
        st.html(
            f'<p class="desk-done" role="status"><b>✓ {text.escape(job.name)} is written</b> '
            f"<code>{text.escape(str(job.out))}</code><br>{job.pairs}</p>"
        )


def _show_written(store: Store) -> None:
    exports = export_jobs.written(store)
    if not exports:
        return
    st.subheader("Exports")
    rows = [
        [row["name"], row["format"], f"{row['pairs']:,}",
         f"{datetime.fromtimestamp(row['time']):%d %b %H:%M}", str(row["path"])]
        for row in exports[:20]
    ]  # fmt: skip
    text.table(("name", "format", "pairs", "written", "path"), rows, name="Exports")


PAGE = page.Page("export", "Export", ":material/output:", draw)
