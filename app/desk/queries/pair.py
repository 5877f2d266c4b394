"""One pair in full: its row, labels, votes, findings, trajectory and verdicts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import streamlit as st

from app.desk.queries import shelf
from app.desk.queries.connection import BY_ADDRESS
from toolkit.errors import StoreError
from toolkit.store import Store
from toolkit.store import pair_details as one_pair
from toolkit.store.label_sets import ORIGINAL, label_sets
from toolkit.store.pair_details import Scores, Value
from toolkit.store.queue.tables import label_set_of
from toolkit.store.runs import findings, run_about
from toolkit.store.trajectory import read_trajectory

WAITING_BYTES = 2_000_000_000
"""A trajectory above this size is searched only when somebody asks for it."""


@dataclass(frozen=True)
class Facts:
    """What the page shows of a pair, beside its trajectory and verdicts."""

    pair: dict[str, Any]
    labels: dict[str, float | None]
    label_set: str
    """The set that the run's finding was computed under; `original` without a run."""
    votes: list[dict[str, Any]]
    siblings: list[dict[str, Any]]
    scores: list[Scores]

    @property
    def label(self) -> float | None:
        """The pair's label under `label_set`."""
        return self.labels.get(self.label_set)


def facts(store: Store, run: str | None, pair_id: str) -> Facts | None:
    """The pair's facts, or None where the store has no such pair."""
    scores = shelf.files_stamp(store.folder("scores"), "*/part-*.parquet")
    stamp = (shelf.stamp(store), tuple(label_sets(store)), scores)
    return _facts(store.root, run, pair_id, stamp)


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs=BY_ADDRESS)
def _facts(root: Path, run: str | None, pair_id: str, stamp: Any) -> Facts | None:  # noqa: ARG001
    store = Store(root)
    con = shelf.cursor(store)
    pair = one_pair.pair_row(con, pair_id)
    if pair is None:
        return None
    labels = label_set_of(store, run) if run else ORIGINAL
    return Facts(
        pair=pair,
        labels=one_pair.labels_of_pair(store, pair),
        label_set=labels,
        votes=one_pair.votes_on(con, pair),
        siblings=one_pair.siblings(con, pair),
        scores=one_pair.scores_on(store, pair),
    )


def values(store: Store, run: str, pair_id: str) -> list[Value]:
    """What the run's findings say about the pair."""
    return _values(store.root, run, pair_id, shelf.files_stamp(store.findings(run), "*.parquet"))


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs=BY_ADDRESS)
def _values(root: Path, run: str, pair_id: str, stamp: Any) -> list[Value]:  # noqa: ARG001
    return one_pair.findings_on(Store(root), run, pair_id)


@dataclass(frozen=True)
class Drawn:
    """A pair's rows as the tables of its two figures; empty where the run never met it."""

    ell: pa.Table
    errors: pa.Table
    visits: int
    probes: int


def drawn(store: Store, run: str, labels: str, label: float | None, pair_id: str) -> Drawn | None:
    """The trajectory's tables; None for a pair without a preference in the label set."""
    if label not in (0.0, 1.0):
        return None
    stamp = shelf.files_stamp(store.run(run), "trajectory/rank-*/part-*.parquet")
    return _drawn(store.root, run, labels, float(label), pair_id, stamp)


@st.cache_data(show_spinner="Searching the trajectory ...", max_entries=64, hash_funcs=BY_ADDRESS)
def _drawn(
    root: Path,
    run: str,
    labels: str,
    label: float,
    pair_id: str,
    stamp: Any,  # noqa: ARG001
) -> Drawn:
    from analysis.figures.pair_errors import (
        PAIR,
        PAIR_ERRORS,
        pair_errors_table,
        pair_trajectory_table,
    )
    from analysis.trajectory import COLUMNS, load

    store = Store(root)
    rows = read_trajectory(store, run, COLUMNS, label_set=labels, pairs=[pair_id])
    about = run_about(store, run)
    try:
        timesteps = int(about.get("train_timesteps", 1000))
        ell = pair_trajectory_table(
            load(rows, about.get("models") or ["policy"], train_timesteps=timesteps), pair_id
        )
    except StoreError:  # none of the rows can be used
        return Drawn(PAIR.empty_table(), PAIR_ERRORS.empty_table(), 0, 0)
    kinds = ell["kind"].to_pylist()
    probes = kinds.count("probe")
    return Drawn(ell, pair_errors_table(rows, label), len(kinds) - probes, probes)


def runs_of(store: Store) -> list[str]:
    """Runs whose record of a pair can be shown: all, those with findings first."""
    return sorted(store.runs(), key=lambda run: (not findings(store, run), run))
