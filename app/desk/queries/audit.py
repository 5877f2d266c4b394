"""What an audit's results are held against, read when somebody asks for them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import streamlit as st

from app.desk.queries import shelf
from app.desk.queries.connection import BY_ADDRESS
from toolkit.store import Store, connect
from toolkit.store.audits import Audit
from toolkit.store.connection import add_labels, labels_in
from toolkit.store.runs import findings, findings_about, read_findings

CALIBRATED = "calibrated"


def probabilities(store: Store, run: str, label_set: str) -> dict[str, float]:
    """pair_id -> calibrated probability of a flip; {} where the run has none under these labels."""
    if CALIBRATED not in findings(store, run):
        return {}
    stamp = shelf.files_stamp(store.findings(run), f"{CALIBRATED}.*")
    return _probabilities(store.root, run, label_set, stamp)


@st.cache_data(show_spinner=False, max_entries=4, hash_funcs=BY_ADDRESS)
def _probabilities(root: Path, run: str, label_set: str, stamp: Any) -> dict[str, float]:  # noqa: ARG001
    store = Store(root)
    if findings_about(store, run, CALIBRATED).get("labels", label_set) != label_set:
        return {}
    table: pa.Table = read_findings(store, run, CALIBRATED)
    if "probability" not in table.column_names:
        return {}
    pairs = zip(table["pair_id"].to_pylist(), table["probability"].to_pylist(), strict=True)
    return {pair_id: value for pair_id, value in pairs if value is not None and value == value}


def labels(store: Store, audit: Audit) -> dict[str, float | None]:
    """The sample's labels under the set it was drawn under, whatever the desk shows now."""
    with connect(store) as con:
        add_labels(con, store, audit.label_set)
        return labels_in(con, list(audit.order))
