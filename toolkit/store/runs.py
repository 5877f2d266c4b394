"""Runs and findings in a store: their descriptions and where their tables lie."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import StoreError
from toolkit.files.atomic import write_text_whole, write_whole
from toolkit.files.remote import readable
from toolkit.store.label_sets import ORIGINAL
from toolkit.store.layout import Store, check_name


def start_run(store: Store, run: str, about: dict[str, Any], recipe: str) -> None:
    """Claim a run's name: write run.json and the resolved recipe.yaml before the first step.

    `about` names at least `models` (order of the errors in each row) and `labels` (the label set).
    StoreError where the name is taken.
    """
    folder = store.run(run)
    if (folder / "run.json").exists():
        raise StoreError(
            f"The store has a run {run!r} already; choose another name with --run, or resume it."
        )
    about = {**about, "run": run, "started": datetime.now(UTC).isoformat(timespec="seconds")}
    write_text_whole(folder / "recipe.yaml", recipe)
    write_text_whole(folder / "run.json", json.dumps(about, indent=2, sort_keys=True) + "\n")


def run_about(store: Store, run: str) -> dict[str, Any]:
    """run.json. StoreError naming the runs there are where it does not exist."""
    path = store.run(run) / "run.json"
    if not path.exists():
        known = ", ".join(store.runs()) or "none yet: `outvoted train RECIPE` makes one"
        raise StoreError(f"The store has no run {run!r} (runs: {known}); name one of them.")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def update_run(store: Store, run: str, **facts: Any) -> None:
    """Add facts (finished, steps ...) to run.json."""
    about = {**run_about(store, run), **facts}
    text = json.dumps(about, indent=2, sort_keys=True) + "\n"
    write_text_whole(store.run(run) / "run.json", text)


def write_findings(
    store: Store, run: str, name: str, table: pa.Table, about: dict[str, Any]
) -> None:
    """Store one per-pair diagnostic (pair_id and its columns) and how it was computed."""
    folder = store.findings(run)
    write_whole(folder / f"{check_name(name, 'finding')}.parquet", table)
    write_text_whole(folder / f"{name}.json", json.dumps(about, indent=2, sort_keys=True) + "\n")


def findings(store: Store, run: str) -> list[str]:
    """Names of a run's findings."""
    return sorted(p.stem for p in store.findings(run).glob("*.parquet"))


def read_findings(
    store: Store, run: str, name: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """One diagnostic's table, whole or these columns of it.

    StoreError saying how to make it where it is absent.
    """
    return pq.read_table(readable(_finding_file(store, run, name)), columns=columns)


def finding_schema(store: Store, run: str, name: str) -> pa.Schema:
    """The columns of a finding and their types. StoreError as of `read_findings`."""
    return pq.read_schema(readable(_finding_file(store, run, name)))


def finding_labels(store: Store, run: str, name: str) -> str:
    """The label set that a finding was computed under: as it says, else the run's own."""
    named = findings_about(store, run, name).get("labels")
    if named is None and (store.run(run) / "run.json").exists():
        named = run_about(store, run).get("labels")
    return str(named or ORIGINAL)


def _finding_file(store: Store, run: str, name: str) -> Path:
    path = store.findings(run) / f"{check_name(name, 'finding')}.parquet"
    if not path.exists():
        known = ", ".join(findings(store, run)) or "none"
        raise StoreError(
            f"Run {run!r} has no finding {name!r} (findings: {known}); "
            f"`outvoted analyze {store.root} --run {run}` computes them."
        )
    return path


def findings_about(store: Store, run: str, name: str) -> dict[str, Any]:
    """How a finding was computed (label set, window, command)."""
    path = store.findings(run) / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
