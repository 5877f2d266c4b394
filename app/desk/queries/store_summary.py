"""Counts of what a store contains, of its verdicts, and the estimated noise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.desk.queries.connection import cached_read, stamp, verdicts
from toolkit.store import Store, connect
from toolkit.store.connection import add_labels, labels_in
from toolkit.store.label_sets import label_sets, planted_flips
from toolkit.store.pair_table import MINORITY
from toolkit.store.queue import tables
from toolkit.store.runs import finding_labels, findings, findings_about, read_findings
from toolkit.store.verdicts import Verdict, verdict_of


@dataclass(frozen=True)
class Summary:
    """What the store contains."""

    totals: dict[str, int]
    """Pairs, images, votes, quarantine."""
    reasons: list[tuple[str, int]]
    """Why pairs were quarantined, and how many."""
    label_sets: list[str]
    runs: list[str]
    findings: dict[str, list[str]]
    unfinished: list[Path]


def summarize(store: Store) -> Summary:
    """Counts of everything in the store, as it is now."""
    with connect(store) as con:
        totals, reasons = tables.totals(con), tables.quarantine_reasons(con)
    runs = store.runs()
    return Summary(
        totals=totals,
        reasons=reasons,
        label_sets=label_sets(store),
        runs=runs,
        findings={run: names for run in runs if (names := findings(store, run))},
        unfinished=store.unfinished(),
    )


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
