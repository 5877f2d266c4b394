"""Numbered steps from one format of a store to the next.

Step n turns format n - 1 into n. It may write files under names that format n - 1 does not read,
and must leave every file that it does read as it is: the step counts once store.json says so, in
one rename. A step that is interrupted leaves a store of the old format, and can be run again.

What a step rewrites in place belongs to REWRITES: it starts once store.json names the new format,
file by file, and code of the new format reads the files that it has not reached as well. `migrate`
runs it again for as long as it finds something to rewrite.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import StoreError
from toolkit.files.atomic import read_json, write_json, write_whole
from toolkit.files.remote import place, readable, why
from toolkit.schema import MEANING
from toolkit.store.layout import FORMAT_VERSION, Store, described
from toolkit.store.locks import adding

About = dict[str, Any]


def _name_the_store(root: Path, about: About) -> About:  # noqa: ARG001
    """2: a store has an id, so that exports and sidecars say which store they were made from."""
    return {**about, "store_id": uuid.uuid4().hex}


def _findings_may_have_windows(root: Path, about: About) -> About:  # noqa: ARG001
    """3: a finding has a row for each pair and window; `long_findings` rewrites the old ones."""
    return about


def _labels_may_be_graded(root: Path, about: About) -> About:  # noqa: ARG001
    """4: labels and votes are graded and weighted. Columns that older parts lack are read as null;
    the number keeps versions out that would take a label of .7 for one of image_1."""
    return about


_WINDOWS = ("all", "early", "late", "last", "probe", "both")
"""The parts of a run for which format 2 had a column SCORE_WINDOW beside SCORE."""


def long_findings(root: Path) -> None:
    """Give every finding of format 2 a row for each pair and window, one file after the other."""
    for path in sorted(root.glob("findings/*/*.parquet")):
        names = pq.read_schema(readable(path)).names
        scores = [name for name in names if f"{name}_all" in names]
        beside = path.with_suffix(".json")
        if not scores or "window" in names or "pair_id" not in names or not beside.exists():
            continue
        default = read_json(beside, "restore it from a copy").get("window")
        if default in _WINDOWS:
            write_whole(path, _by_window(pq.read_table(readable(path)), scores, str(default)))


def _by_window(wide: pa.Table, scores: Sequence[str], default: str) -> list[pa.Table]:
    """The tables of the windows, the default first. `visits` was only known for that one."""
    listed = [name for name in _WINDOWS if f"{scores[0]}_{name}" in wide.column_names]
    derived = {f"{score}_{name}" for score in scores for name in listed}
    tables = []
    for window in dict.fromkeys([default, *listed]):
        columns: dict[str, pa.Array | pa.ChunkedArray] = {}
        fields = []
        for field in wide.schema:
            if field.name in derived:
                continue
            values = wide[field.name]
            if field.name in scores and window != default:
                values = wide[f"{field.name}_{window}"]
            elif field.name == "visits" and window != default:
                values = pa.nulls(wide.num_rows, field.type)
            elif field.name not in (*scores, "visits", "pair_id"):
                field = field.with_metadata({**(field.metadata or {}), b"span": b"run"})
            fields.append(_without_window(field) if field.name in scores else field)
            columns[field.name] = values
            if field.name == "pair_id":
                columns["window"] = pa.repeat(window, wide.num_rows)
                fields.append(pa.field("window", pa.string(), nullable=False))
        tables.append(pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields)))
    return tables


def _without_window(field: pa.Field) -> pa.Field:
    """The field with its meaning as it is for every window."""
    metadata = dict(field.metadata or {})
    if MEANING in metadata:
        metadata[MEANING] = metadata[MEANING].split(b"; over ")[0]
    return field.with_metadata(metadata)


MIGRATIONS: Mapping[int, Callable[[Path, About], About]] = {
    2: _name_the_store,
    3: _findings_may_have_windows,
    4: _labels_may_be_graded,
}

REWRITES: Mapping[int, Callable[[Path], None]] = {3: long_findings}


def migrate(
    path: str | Path,
    *,
    steps: Mapping[int, Callable[[Path, About], About]] = MIGRATIONS,
    to: int = FORMAT_VERSION,
) -> list[int]:
    """Bring a store to format `to`; the steps that were taken, none where it has it already.

    StoreError where it is no store, newer than `to`, being written to, or where a step fails.
    """
    root = place(path)
    about = described(root)
    if about["format"] > to:
        raise StoreError(
            f"{root} is a store of format {about['format']}, newer than {to}; install the version "
            "of outvoted that wrote it."
        )
    taken: list[int] = []
    with adding(Store(root)):
        for number in range(about["format"] + 1, to + 1):
            try:
                about = {**steps[number](root, about), "format": number}
                write_json(root / "store.json", about)
            except OSError as problem:
                raise StoreError(
                    f"{root} could not be brought to format {number} ({why(problem)}) and is "
                    f"as it was, of format {number - 1}. Free space or fix the folder, then run "
                    "the same command again."
                ) from problem
            taken.append(number)
        for number, rewrite in REWRITES.items():
            if number > to:
                continue
            try:
                rewrite(root)
            except OSError as problem:
                raise StoreError(
                    f"{root} has format {to}, but not every file could be rewritten "
                    f"({why(problem)}). It can be used; free space, then run the same command "
                    "again for the rest."
                ) from problem
    return taken
