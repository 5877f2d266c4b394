"""Runs and findings in a store.

A finding is a table of scores, a row a pair. Scores that are means over a part of the run (a
window) have a row for each pair and window, so the table has a column `window`. Its rows are
grouped by window: first the window that the analysis was run for, then the others, each with the
same pairs in the same order and in row groups of its own. A reader that wants one window reads no
other.

Conditions and recipes name a column of the first window by its name (`minority`), and one of
another window as `minority_early`. `finding_columns` and `read_findings` resolve these names, and
nothing else does.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit.errors import StoreError
from toolkit.files.atomic import read_json, write_json, write_text_whole, write_whole
from toolkit.files.remote import readable
from toolkit.schema import SPAN, WHOLE_RUN
from toolkit.store.label_sets import ORIGINAL
from toolkit.store.layout import Store, check_name


def start_run(store: Store, run: str, about: dict[str, Any], recipe: str) -> None:
    """Take a run's name: write run.json and the resolved recipe.yaml before the first step.

    `about` names at least `models` (order of the errors in each row) and `labels` (the label set).
    StoreError where the name is taken.
    """
    must_be_free(store, run)
    folder = store.run(run)
    about = {
        **about,
        "run": run,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe_sha256": hashlib.sha256(recipe.encode()).hexdigest(),
    }
    write_text_whole(folder / "recipe.yaml", recipe)
    write_json(folder / "run.json", about)


def must_be_free(store: Store, run: str) -> None:
    """StoreError where the store has a run of that name."""
    if (store.run(run) / "run.json").exists():
        raise StoreError(
            f"The store has a run {run!r} already; choose another name with --run, or resume it."
        )


def run_about(store: Store, run: str) -> dict[str, Any]:
    """run.json. StoreError naming the runs that exist where this one does not."""
    path = store.run(run) / "run.json"
    if not path.exists():
        known = ", ".join(store.runs()) or "none yet: `outvoted train RECIPE` makes one"
        raise StoreError(f"The store has no run {run!r} (runs: {known}); name one of them.")
    return dict(read_json(path, _RUN_REMEDY, models=list, labels=str))


_RUN_REMEDY = "restore it from a copy, or move the run's folder out of the store and train it again"


def update_run(store: Store, run: str, **facts: Any) -> None:
    """Add facts (finished, steps ...) to run.json."""
    write_json(store.run(run) / "run.json", {**run_about(store, run), **facts})


ABOUT = b"outvoted.about"
"""Where a finding's file says how it was computed."""
WINDOW = "window"
"""The column of a finding that names the part of the run; a finding without it has no windows."""


@dataclass(frozen=True)
class FindingColumn:
    """A column of a finding in one window."""

    field: pa.Field
    """Its name and type in the file."""
    window: str | None
    """None where the finding has no windows."""
    row_groups: tuple[int, ...]
    """Where the file holds the window."""


def write_findings(
    store: Store, run: str, name: str, table: pa.Table, about: dict[str, Any]
) -> None:
    """Store a diagnostic (pair_id and its columns) and how it was computed.

    The table's file says how, too, so that the two can never be of different analyses.
    With a column `window` the rows of a window follow each other, the default window first.
    ValueError where the windows do not have the same pairs in the same order.
    """
    folder = store.findings(run)
    path = folder / f"{check_name(name, 'finding')}.parquet"
    metadata = {**(table.schema.metadata or {}), ABOUT: json.dumps(about).encode()}
    write_whole(path, by_window(table.replace_schema_metadata(metadata)))
    write_json(folder / f"{name}.json", about)


def by_window(table: pa.Table) -> list[pa.Table]:
    """A finding as one table a window; all of it where it has no windows."""
    if WINDOW not in table.column_names or not table.num_rows:
        return [table]
    codes = pc.dictionary_encode(table[WINDOW].combine_chunks())
    which = codes.indices.to_numpy(zero_copy_only=False)
    edges = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), len(which)]
    pieces = [table.slice(a, b - a) for a, b in pairwise(edges)]
    if len(pieces) != len(codes.dictionary) or any(
        not piece["pair_id"].equals(pieces[0]["pair_id"]) for piece in pieces[1:]
    ):
        raise ValueError("every window of a finding needs the same pairs in the same order")
    return pieces


def findings(store: Store, run: str) -> list[str]:
    """Names of a run's findings; of those that need no run for ""."""
    return sorted(p.stem for p in store.findings(run).glob("*.parquet"))


def finding_columns(store: Store, run: str, name: str) -> dict[str, FindingColumn]:
    """What a condition or a recipe can name of a finding -> where it is.

    The columns of the default window under their own names, then those of every window as
    COLUMN_WINDOW. `pair_id` is left out. StoreError where the finding is absent.
    """
    with pq.ParquetFile(readable(finding_file(store, run, name))) as file:
        groups = window_groups(file.metadata)
        fields = [field for field in file.schema_arrow if field.name not in ("pair_id", WINDOW)]
    first = next(iter(groups))
    columns = {field.name: FindingColumn(field, first, groups[first]) for field in fields}
    for window, rows in groups.items():
        for field in fields:
            if window is not None and (field.metadata or {}).get(SPAN) != WHOLE_RUN:
                alias = f"{field.name}_{window}"
                columns.setdefault(alias, FindingColumn(field, window, rows))
    return columns


def window_groups(about: pq.FileMetaData) -> dict[str | None, tuple[int, ...]]:
    """Window -> its row groups in a finding's file, the default window first.

    {None: all} where the finding has no windows.
    """
    names = about.schema.to_arrow_schema().names
    every = range(about.num_row_groups)
    if WINDOW not in names or not about.num_rows:
        return {None: tuple(every)}
    place = names.index(WINDOW)
    groups: dict[str | None, tuple[int, ...]] = {}
    for group in every:
        window = about.row_group(group).column(place).statistics.min
        groups[window] = (*groups.get(window, ()), group)
    return groups


def read_findings(
    store: Store,
    run: str,
    name: str,
    columns: Sequence[str] | None = None,
    *,
    window: str | None = None,
) -> pa.Table:
    """A diagnostic's table in one window, without the column `window`.

    `columns`: pair_id and names of `finding_columns`, so also those of other windows; all of the
    window's by default. `window`: the one the analysis was run for by default. StoreError where
    the finding, the window or a column is absent.
    """
    with pq.ParquetFile(readable(finding_file(store, run, name))) as file:
        groups = window_groups(file.metadata)
        asked = next(iter(groups)) if window is None or None in groups else window
        if asked not in groups:
            raise StoreError(
                f"Finding {name!r} of run {run!r} has no window {window!r} (windows: "
                f"{', '.join(map(str, groups))}); name one of them."
            )
        plain = [field for field in file.schema_arrow.names if field != WINDOW]
        own = plain if columns is None else [column for column in columns if column in plain]
        table = file.read_row_groups(list(groups[asked]), columns=own)
        others = [column for column in columns or () if column not in plain]
        if not others:
            return table.select(own)
        known = finding_columns(store, run, name)
        if absent := [column for column in others if column not in known]:
            raise StoreError(
                f"Finding {name!r} of run {run!r} has no column {absent[0]!r} (columns: "
                f"{', '.join(known)}); name one of them."
            )
        for alias in others:
            at = known[alias]
            read = file.read_row_groups(list(at.row_groups), columns=[at.field.name])
            table = table.append_column(at.field.with_name(alias), read[at.field.name])
    return table.select(list(columns or ()))


def finding_windows(store: Store, run: str, name: str) -> list[str]:
    """The windows of a finding, the default one first; none where its scores have no windows."""
    about = pq.read_metadata(readable(finding_file(store, run, name)))
    return [window for window in window_groups(about) if window is not None]


def finding_schema(store: Store, run: str, name: str) -> pa.Schema:
    """The columns of a finding in its own window, and their types."""
    schema = pq.read_schema(readable(finding_file(store, run, name)))
    return pa.schema([field for field in schema if field.name != WINDOW])


def finding_labels(store: Store, run: str, name: str) -> str:
    """The label set that a finding was computed under: as it says, else the run's own."""
    named = findings_about(store, run, name).get("labels")
    if named is None and run and (store.run(run) / "run.json").exists():
        named = run_about(store, run).get("labels")
    return str(named or ORIGINAL)


def finding_file(store: Store, run: str, name: str) -> Path:
    """Where a finding is. StoreError saying how to make it where it is absent."""
    path = store.findings(run) / f"{check_name(name, 'finding')}.parquet"
    if not path.exists():
        known = ", ".join(findings(store, run)) or "none"
        whose, option = (f"Run {run!r}", f" --run {run}") if run else ("The store", "")
        raise StoreError(
            f"{whose} has no finding {name!r} (findings: {known}); `outvoted analyze {store.root}"
            f"{option}` computes them."
        )
    return path


def findings_about(store: Store, run: str, name: str) -> dict[str, Any]:
    """How a finding was computed (label set, window, command): as its table says, or, where an
    earlier version wrote it, the JSON beside it."""
    beside = store.findings(run) / f"{check_name(name, 'finding')}.json"
    path = beside.with_suffix(".parquet")
    inside = (pq.read_schema(readable(path)).metadata or {}).get(ABOUT) if path.exists() else None
    if inside is not None:
        return dict(json.loads(inside))
    remedy = f"type `outvoted analyze {store.root} --run {run}`, which writes it again"
    return dict(read_json(beside, remedy)) if beside.exists() else {}


def same_pairs(store: Store, run: str, finding: str, other: str) -> bool:
    """Whether two findings have the same pairs row by row, as analyze writes them."""
    first, second = (finding_file(store, run, name) for name in (finding, other))
    return _stored_ids(first) == _stored_ids(second)


def _stored_ids(path: Path) -> list[bytes]:
    """pair_id of the first window as the file stores it, by row group: equal bytes are equal
    values, and are compared far faster than a million texts are read."""
    about = pq.read_metadata(readable(path))
    groups = next(iter(window_groups(about).values()))
    pieces = []
    with path.open("rb") as file:
        for number in groups:
            group = about.row_group(number)
            chunks = map(group.column, range(group.num_columns))
            chunk = next(c for c in chunks if c.path_in_schema == "pair_id")
            start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
            file.seek(start)
            pieces.append(file.read(chunk.total_compressed_size))
    return pieces
