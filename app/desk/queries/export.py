"""What an export would do, decided anew when the policy or anything it looks at changes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from app.desk.export_jobs import Jobs
from app.desk.queries import shelf
from app.desk.queries.connection import BY_ADDRESS
from toolkit.export import Policy
from toolkit.export.decisions import make_plan
from toolkit.export.provenance import balance, counts
from toolkit.store import Store


@dataclass(frozen=True)
class Preview:
    """Counts and balance as curation.json would hold them."""

    counts: dict[str, Any]
    balance: dict[str, Any]


def preview(store: Store, policy: Policy) -> Preview:
    """Decide about every pair; writes nothing. InputError or StoreError as of `make_plan`."""
    stamp = [shelf.stamp(store), shelf.files_stamp(store.folder("verdicts"), "part-*.parquet")]
    if policy.run is not None:
        stamp.append(shelf.files_stamp(store.findings(policy.run), "*.parquet"))
    return _preview(store.root, policy, tuple(stamp))


@st.cache_data(show_spinner="Deciding about every pair ...", max_entries=16, hash_funcs=BY_ADDRESS)
def _preview(root: Path, policy: Policy, stamp: Any) -> Preview:  # noqa: ARG001
    plan = make_plan(Store(root), policy)
    return Preview(counts(plan), balance(plan))


@st.cache_resource(show_spinner=False)
def jobs() -> Jobs:
    """The exports of this server, shared by its sessions."""
    return Jobs()
