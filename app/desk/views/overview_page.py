"""The page Overview: what the store contains, which verdicts it has, and what to do next."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from app.desk import page, state
from app.desk.components import charts, text
from app.desk.queries import queue
from app.desk.queries.connection import (
    Desk,
    cached_read,
    open_desk,
    runs_with_queue,
    stamp,
    verdicts,
)
from app.desk.views.getting_started import Summary, needs, summarize
from toolkit.colors import VERDICT_COLOURS, Ground
from toolkit.store import Store, connect
from toolkit.store.connection import add_labels, labels_in
from toolkit.store.label_sets import ORIGINAL, planted_flips
from toolkit.store.pair_table import MINORITY
from toolkit.store.queue.views import View
from toolkit.store.runs import finding_labels, findings, findings_about, read_findings
from toolkit.store.verdicts import Verdict, verdict_of


def verdict_counts(store: Store, journal: Path, label_set: str) -> dict[Verdict, int]:
    """Pairs by resolved verdict, compared with the labels of a set."""
    known = verdicts(store.root, journal)
    known.refresh()
    choices = {pair_id: row["choice"] for pair_id, row in known.resolved().items()}
    with connect(store) as con:
        add_labels(con, store, label_set)
        labels = labels_in(con, list(choices))
    counts: dict[Verdict, int] = dict.fromkeys(("keep", "flip", "tie", "drop", "unsure"), 0)
    for pair_id, choice in choices.items():
        counts[verdict_of(choice, labels.get(pair_id))] += 1
    return counts


@dataclass(frozen=True)
class Noise:
    """The estimated share of wrong labels with its 95 % interval; None if not estimable."""

    rate: float | None
    low: float | None
    high: float | None
    margin: float
    """Mean margin of a correct label, in units of its usual size."""
    spread: float
    """Standard deviation of that margin."""


def noise(store: Store, run: str) -> Noise | None:
    """The noise rate of the run's analysis; None if it has none."""
    about = findings_about(store, run, "dataset").get("noise") if run else None
    if not about:
        return None
    rate = about.get("rate") or {}
    return Noise(
        rate.get("value"), rate.get("low"), rate.get("high"), about["margin"], about["spread"]
    )


@cached_read(lambda store, run: stamp(store, files=[(store.findings(run), f"{MINORITY}.parquet")]))
def flipped_ratio_figure(store: Store, run: str) -> Any:
    """The figure of planted flips by u, or None if there are none."""
    import numpy as np

    from analysis import figures

    flips = planted_flips(store, finding_labels(store, run, MINORITY))
    if not flips or MINORITY not in findings(store, run):
        return None
    finding = read_findings(store, run, MINORITY)
    u = np.array(finding["minority"].to_numpy(zero_copy_only=False), float)
    flipped = np.isin(np.array(finding["pair_id"].to_pylist()), np.array(flips))
    known = ~np.isnan(u)
    if not known.any():
        return None
    return figures.flipped_ratio_figure(figures.flipped_ratio_table(u[known], flipped[known]))


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The whole page."""
    page.load_style()
    summary = summarize(store)
    ready = runs_with_queue(store)
    run = settings.run or next(iter(ready), "")
    labels = finding_labels(store, run, MINORITY) if run else ORIGINAL
    counts = verdict_counts(store, settings.journal, labels)
    st.title(store.root.name)
    st.html(f'<p class="desk-quiet desk-tight">{text.escape(str(store.root))}</p>')
    _show_counts(summary, sum(counts.values()), noise(store, run))
    if summary.unfinished:
        _show_unfinished(summary)
    left, right = st.columns([3, 2], gap="large")
    with left:
        if run in ready:
            _show_u(open_desk(store, run, settings.journal), ground)
        _show_planted_flips(store, run, ground)
        _show_runs(summary)
    with right:
        _show_next_step(store, summary, counts)
        _show_progress(counts, labels, summary.totals["pairs"])
        if summary.reasons:
            st.subheader("Quarantined")
            rows = [[reason, f"{pairs:,}"] for reason, pairs in summary.reasons]
            text.table(("reason", "pairs"), rows, name="Quarantined")


def _show_counts(summary: Summary, with_verdict: int, noise: Noise | None) -> None:
    numbers = {
        "pairs": summary.totals["pairs"],
        "images": summary.totals["images"],
        "label sets": len(summary.label_sets),
        "runs": len(summary.runs),
        "pairs with a verdict": with_verdict,
        "quarantined": summary.totals["quarantine"],
    }
    with st.container(horizontal=True, key="counts"):
        for word, number in numbers.items():
            st.metric(word, f"{number:,}", border=True)
        if noise is not None:
            value, explanation = _noise_text(noise)
            st.metric("estimated wrong labels", value, border=True, help=explanation)


def _noise_text(noise: Noise) -> tuple[str, str]:
    """The estimate with its interval, and how it was made."""
    method = (
        "The margins are fitted as a mixture of correct and reversed labels. The margin of a "
        f"correct label is {noise.margin:.2f} times its usual size, its spread {noise.spread:.2f}: "
        "the smaller the first compared with the second, the less an estimate means."
    )
    if noise.rate is None:
        return "not estimable", f"Correct and reversed labels do not separate here. {method}"
    if noise.low is None or noise.high is None:
        return f"{noise.rate:.0%}", method
    return f"{noise.rate:.0%} ({noise.low:.0%} to {noise.high:.0%})", f"95 % interval. {method}"


def _show_u(desk: Desk, ground: Ground) -> None:
    """u of every pair; a click on a bar opens its pairs in the Queue."""
    bins, _ = queue.histogram(desk, View(run=desk.run), "minority")
    st.subheader("u of every pair")
    event = st.plotly_chart(
        charts.histogram("u", bins, bins, ground, height=190, ticks=8),
        key=f"spread-{st.session_state['chart']}",
        on_select="rerun",
        selection_mode="points",
        config=charts.CALM,
        alt="Histogram of u; click a bar to open its pairs in the Queue",
    )
    unknown = f" {bins.unknown:,} pairs have no u yet." if bins.unknown else ""
    text.quiet(
        f"run {text.escape(desk.run)}: the further right, the more the model disagrees with the "
        f"label. Click a bar to open its pairs in the Queue.{unknown}"
    )
    number = charts.picked_bin(event)
    if number is not None:
        is_last = number + 1 == len(bins.counts)
        high = None if is_last else bins.edge(number + 1)
        view = View(run=desk.run).with_range("minority", bins.edge(number), high)
        state.open_page(state.HOME, view)


def _show_unfinished(summary: Summary) -> None:
    count = len(summary.unfinished)
    some = ", ".join(str(path) for path in summary.unfinished[:3])
    what = "file that a killed run left" if count == 1 else "files that killed runs left"
    text.info(
        f"The store contains {count:,} unfinished {what}: {some}{' ...' if count > 3 else ''}. "
        "Nothing reads them; delete them when no run is writing to this store."
    )


def _show_planted_flips(store: Store, run: str, ground: Ground) -> None:
    figure = flipped_ratio_figure(store, run) if run else None
    if figure is not None:
        st.subheader("Planted flips by u")
        charts.show_figure(figure, ground, alt="Share of planted flips by bin of u")
        text.quiet(
            f"run {text.escape(run)}: how many labels that were flipped on purpose are at each u. "
            "Bars that rise to the right mean that u finds them."
        )


def _show_runs(summary: Summary) -> None:
    if not summary.runs:
        return
    st.subheader("Runs and their findings")
    rows = [[run, ", ".join(summary.findings.get(run, [])) or "none yet"] for run in summary.runs]
    text.table(("run", "findings"), rows, name="Runs and their findings")
    text.quiet(f"label sets: {text.escape(', '.join(summary.label_sets) or 'none yet')}")


def _show_progress(verdicts: dict[Verdict, int], labels: str, pairs: int) -> None:
    st.subheader("Curation")
    total, most = sum(verdicts.values()), max(verdicts.values()) or 1
    done = total / pairs if pairs else 0.0
    st.html(
        f'<div class="desk-row"><span class="desk-place">{total:,} of {pairs:,} pairs</span>'
        f'<span class="desk-quiet">{done:.1%} with a verdict</span></div>{text.progress_bar(done)}'
    )
    rows = "".join(
        f'<div class="desk-tally"><span>{verdict}</span><span class="desk-bar"><span style="width: '
        f'{100 * count / most:.1f}%; background: {VERDICT_COLOURS[verdict]}"></span></span>'
        f"<b>{count:,}</b></div>"
        for verdict, count in verdicts.items()
    )
    st.html(f'{rows}<p class="desk-quiet">compared with label set {text.escape(labels)}</p>')


def _show_next_step(store: Store, summary: Summary, verdicts: dict[Verdict, int]) -> None:
    st.subheader("What to do next")
    missing = [need for need in needs(store, summary) if not need.there]
    ready = any(MINORITY in names for names in summary.findings.values())
    if missing:
        st.text(missing[0].text)
        text.command(missing[0].command)
    if sum(verdicts.values()):
        st.text("Export the data, with the verdicts applied:")
        text.command(f"outvoted export {text.shell_path(store.root)} --out FOLDER")
    elif ready:
        page.page_link(
            state.HOME, "Judge the pairs with the largest u", icon=":material/arrow_forward:"
        )


PAGE = page.Page("overview", "Overview", ":material/grid_view:", draw)
