"""What the page Overview says of a store: counts, verdicts, the noise and the planted flips."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from app.desk.queries.connection import BY_ADDRESS
from app.desk.queries.queue import ledger
from toolkit.store import Store, connect
from toolkit.store.connection import add_labels, labels_in
from toolkit.store.label_sets import label_sets, planted_flips
from toolkit.store.queue import tables as queries
from toolkit.store.runs import findings, findings_about, read_findings
from toolkit.store.verdicts import verdict_of


@dataclass(frozen=True)
class Overview:
    """What the store holds."""

    totals: dict[str, int]
    reasons: list[tuple[str, int]]
    label_sets: list[str]
    runs: list[str]
    findings: dict[str, list[str]]
    unfinished: list[Path]


def overview(store: Store) -> Overview:
    """Counts of everything in the store, read now."""
    with connect(store) as con:
        totals, reasons = queries.totals(con), queries.quarantine_reasons(con)
    runs = store.runs()
    return Overview(
        totals=totals,
        reasons=reasons,
        label_sets=label_sets(store),
        runs=runs,
        findings={run: found for run in runs if (found := findings(store, run))},
        unfinished=store.unfinished(),
    )


def verdict_counts(store: Store, journal: Path, label_set: str) -> dict[str, int]:
    """Pairs by resolved verdict, held against the labels of a set."""
    known = ledger(store.root, journal)
    known.refresh()
    choices = {row["pair_id"]: row["choice"] for row in known.outcomes()}
    with connect(store) as con:
        add_labels(con, store, label_set)
        labels = labels_in(con, list(choices))
    counts = dict.fromkeys(("keep", "flip", "tie", "drop", "unsure"), 0)
    for pair_id, choice in choices.items():
        counts[verdict_of(choice, labels.get(pair_id))] += 1
    return counts


@dataclass(frozen=True)
class Noise:
    """The estimated share of wrong labels, with its 95 % interval; None where it cannot be told."""

    rate: float | None
    low: float | None
    high: float | None
    margin: float
    """Of a right label, in units of its usual size."""
    spread: float


def noise(store: Store, run: str) -> Noise | None:
    """What the run's analysis said of the noise rate; None where it said nothing."""
    found = findings_about(store, run, "dataset").get("noise") if run else None
    if not found:
        return None
    rate = found.get("rate") or {}
    return Noise(
        rate.get("value"), rate.get("low"), rate.get("high"), found["margin"], found["spread"]
    )


def flipped_ratio(store: Store, run: str) -> Any:
    """The figure of planted flips by u, or None where none were planted or plotly's tools lack."""
    finding = store.findings(run) / f"{queries.FINDING}.parquet"
    if not finding.exists():
        return None
    return _flipped_ratio(store.root, run, finding.stat().st_mtime_ns)


@st.cache_data(show_spinner=False, max_entries=4, hash_funcs=BY_ADDRESS)
def _flipped_ratio(root: Path, run: str, changed: int) -> Any:  # noqa: ARG001
    import numpy as np

    from analysis.figures import flipped_ratio_figure, flipped_ratio_table

    store = Store(root)
    flips = planted_flips(store, queries.label_set_of(store, run))
    if not flips:
        return None
    table = read_findings(store, run, queries.FINDING)
    u = np.array(table["minority"].to_numpy(zero_copy_only=False), float)
    flipped = np.isin(np.array(table["pair_id"].to_pylist()), np.array(flips))
    known = ~np.isnan(u)
    if not known.any():
        return None
    return flipped_ratio_figure(flipped_ratio_table(u[known], flipped[known]))
