"""One pair in full: its row, labels, votes, findings, scores and trajectory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import streamlit as st

from app.desk.queries.connection import (
    PATH_HASH,
    TABLES,
    Desk,
    Stamp,
    cached_read,
    stamp,
    trajectory_files,
)
from toolkit.errors import StoreError
from toolkit.store import Store, pair_details
from toolkit.store.label_sets import ORIGINAL, label_sets
from toolkit.store.pair_details import Scores, Value
from toolkit.store.pair_table import MINORITY
from toolkit.store.runs import finding_labels, findings, run_about
from toolkit.store.trajectory import read_trajectory

LARGE_BYTES = 2_000_000_000
"""A trajectory above this size is searched only on request."""


@dataclass(frozen=True)
class Facts:
    """What the page shows of a pair besides its trajectory and its verdicts."""

    pair: dict[str, Any]
    labels: dict[str, float | None]
    """By label set."""
    label_set: str
    """The set that the run's finding was computed under; `original` without a run."""
    votes: list[dict[str, Any]]
    siblings: list[dict[str, Any]]
    """Other pairs of the same prompt."""
    scores: list[Scores]

    @property
    def label(self) -> float | None:
        """The pair's label under `label_set`."""
        return self.labels.get(self.label_set)


def facts(desk: Desk, run: str | None, pair_id: str) -> Facts | None:
    """The pair's facts, or None if the store has no such pair."""
    store = desk.store
    scores = [(store.folder("scores"), "*/part-*.parquet")]
    made_from = (*stamp(store, TABLES, scores), *label_sets(store))
    return _facts(desk, store.root, run, pair_id, made_from)


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs=PATH_HASH)
def _facts(
    _desk: Desk,
    root: Path,  # noqa: ARG001
    run: str | None,
    pair_id: str,
    stamp: Stamp,  # noqa: ARG001
) -> Facts | None:
    store, con = _desk.store, _desk.con.cursor()
    pair = pair_details.pair_row(con, pair_id)
    if pair is None:
        return None
    return Facts(
        pair=pair,
        labels=pair_details.labels_of_pair(store, pair),
        label_set=finding_labels(store, run, MINORITY) if run else ORIGINAL,
        votes=pair_details.votes_on(con, pair),
        siblings=pair_details.siblings(con, pair),
        scores=pair_details.scores_on(store, pair),
    )


@cached_read(lambda store, run, _: stamp(store, files=[(store.findings(run), "*.parquet")]))
def values(store: Store, run: str, pair_id: str) -> list[Value]:
    """The pair's values in every finding of the run."""
    return pair_details.findings_on(store, run, pair_id)


@dataclass(frozen=True)
class TrajectoryTables:
    """A pair's rows as the tables of its two figures; empty if the run has no visit of it."""

    ell: pa.Table
    errors: pa.Table
    visits: int
    probes: int


@cached_read(
    lambda store, run, *_: stamp(store, files=trajectory_files(store, run)),
    spinner="Searching the trajectory ...",
)
def trajectory_tables(
    store: Store, run: str, labels: str, label: float, pair_id: str
) -> TrajectoryTables:
    """The tables of a pair's figures under label set `labels`, which gives it `label` (1 or 0)."""
    from analysis.figures import curves
    from analysis.trajectory import COLUMNS, load

    rows = read_trajectory(store, run, COLUMNS, label_set=labels, pairs=[pair_id])
    about = run_about(store, run)
    try:
        timesteps = int(about.get("train_timesteps", 1000))
        trajectory = load(rows, about.get("models") or ["policy"], train_timesteps=timesteps)
        ell = curves.pair_trajectory_table(trajectory, pair_id)
    except StoreError:  # none of the rows can be used
        empty = curves.PAIR.empty_table(), curves.PAIR_ERRORS.empty_table()
        return TrajectoryTables(*empty, 0, 0)
    kinds = ell["kind"].to_pylist()
    probes = kinds.count("probe")
    errors = curves.pair_errors_table(rows, label)
    return TrajectoryTables(ell, errors, len(kinds) - probes, probes)


def runs_of(store: Store) -> list[str]:
    """Every run, those with findings first."""
    return sorted(store.runs(), key=lambda run: (not findings(store, run), run))
