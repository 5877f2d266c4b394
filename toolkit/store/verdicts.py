"""Verdicts: a curator's decisions, published as parts and resolved to one a pair.

A curator states a preference (`choice`), so that work can be blind; keep and flip are that
preference compared with a label. Published parts are immutable and are all that trainers and
exports on any host read. Where a curator's verdicts are saved first: `toolkit.store.journal`.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit.errors import InputError, StoreError, is_damage
from toolkit.files.atomic import parts, write_part
from toolkit.files.remote import readable
from toolkit.preference import is_decided, lean, lean_sql
from toolkit.schema import column, conform
from toolkit.store.journal import Choice, Journal
from toolkit.store.layout import Store

Verdict = Literal["keep", "flip", "tie", "drop", "unsure"]

VERDICTS = pa.schema(
    [
        column("verdict_id", pa.string(), "name of this row", nullable=False),
        column("sequence", pa.int64(), "order within the journal that wrote it", nullable=False),
        column("journal", pa.string(), "which journal wrote it", nullable=False),
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("curator", pa.string(), "who decided", nullable=False),
        column("choice", pa.string(), "image_0, image_1, tie, drop, unsure or undo"),
        column("undoes", pa.string(), "verdict_id that an undo takes back"),
        column("label_set", pa.string(), "the set whose label was on screen"),
        column("reasons", pa.list_(pa.string()), "tags the curator chose"),
        column("note", pa.string(), "free text"),
        column("shown", pa.string(), "JSON of what was on screen (scores, sides, blind)"),
        column("time", pa.timestamp("us", tz="UTC"), "when it was saved"),
    ]
)

RESOLVED = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("choice", pa.string(), "image_0, image_1, tie, drop or unsure", nullable=False),
        column("verdict_id", pa.string(), "the newest row that agrees with the choice"),
        column("curators", pa.int32(), "how many curators have given a verdict that counts"),
        column("split", pa.bool_(), "no choice has a majority; choice is then unsure"),
        column("differ", pa.bool_(), "the curators' verdicts are not all the same"),
    ]
)

PREFERENCE = {"image_0": 1.0, "image_1": 0.0, "tie": 0.5}
"""The label that a choice states; drop and unsure state none."""


def verdict_of(choice: str, label: float | None) -> Verdict:
    """A choice compared with a label: keep or flip for a preference, itself otherwise.

    A preference for a pair without a label, or with a tie, is a flip: the label must change.
    """
    if choice in ("tie", "drop", "unsure"):
        return choice  # type: ignore[return-value]
    return "keep" if agrees(choice, label) else "flip"


def agrees(choice: str, label: float | None) -> bool:
    """Whether a choice states the side that a label leans to; a tie agrees with a tie."""
    return choice in PREFERENCE and bool(lean(label) == lean(PREFERENCE[choice]))


def verdict_sql(choice: str, label: str) -> str:
    """The SQL of `verdict_of`; null where the choice is."""
    stated = lean_sql(f"({choice} = 'image_0')::INTEGER")
    return (
        f"CASE WHEN {choice} IN ('tie', 'drop', 'unsure') THEN {choice}"
        f" WHEN {choice} IS NULL THEN NULL WHEN {lean_sql(label)} = {stated} THEN 'keep'"
        " ELSE 'flip' END"
    )


def choice_of(verdict: Verdict, label: float | None) -> Choice:
    """The choice behind a verdict button, given the label on screen (no tie for keep and flip)."""
    if verdict in ("tie", "drop", "unsure"):
        return verdict  # type: ignore[return-value]
    if not is_decided(label):
        raise InputError(
            f"{verdict} needs a label that prefers an image, and the pair has {label}; choose an "
            "image, tie, drop or unsure."
        )
    return "image_0" if (lean(label) > 0) == (verdict == "keep") else "image_1"


def publish(store: Store, journal: Journal) -> int:
    """Write the journal's rows that no part holds as a part; how many they were."""
    with journal.publishing():
        return _publish(store, journal)


def _publish(store: Store, journal: Journal) -> int:
    covered = _covered(store, journal.name)
    fresh = [
        row
        for row in journal.rows(after=_first_gap(covered))
        if not any(first <= row["sequence"] <= last for first, last in covered)
    ]
    # A part holds rows that follow each other: its name says which, so that none need be opened.
    for rows in _unbroken(fresh):
        span = f"{rows[0]['sequence']:09d}-{rows[-1]['sequence']:09d}"
        table = pa.Table.from_pylist(rows, schema=VERDICTS)
        name = f"part-{time.time_ns():020d}-{journal.name}-{span}.parquet"
        write_part(store.folder("verdicts"), table, name=name)
    return len(fresh)


def _covered(store: Store, journal: str) -> list[tuple[int, int]]:
    """The sequences (first, last) of a journal that the parts hold."""
    spans = []
    for file in parts(store.folder("verdicts")):
        named = re.fullmatch(r"part-\d+-([0-9a-f]{16})(?:-(\d+))?-(\d+)", file.stem)
        if named:
            if named[1] == journal:  # older names say the last alone
                spans.append((int(named[2] or 1), int(named[3])))
            continue
        table = pq.read_table(readable(file), columns=["journal", "sequence"])
        mine = table.filter(pc.equal(table["journal"], journal))["sequence"]
        if len(mine):
            spans.append((1, pc.max(mine).as_py()))
    return sorted(spans)


def _first_gap(spans: Sequence[tuple[int, int]]) -> int:
    """The last sequence before the first that no span holds."""
    reached = 0
    for first, last in spans:
        if first > reached + 1:
            break
        reached = max(reached, last)
    return reached


def _unbroken(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    runs: list[list[dict[str, Any]]] = []
    for row in rows:
        if not runs or row["sequence"] != runs[-1][-1]["sequence"] + 1:
            runs.append([])
        runs[-1].append(row)
    return runs


def _published(store: Store) -> pa.Table:
    files = parts(store.folder("verdicts"))
    tables = [conform(_read(store, file), VERDICTS) for file in files]
    return pa.concat_tables(tables) if tables else VERDICTS.empty_table()


def _read(store: Store, file: Path) -> pa.Table:
    try:
        return pq.read_table(readable(file))
    except (OSError, pa.ArrowException) as problem:
        if not is_damage(problem):
            raise
        raise StoreError(
            f"The verdicts in {file} cannot be read ({' '.join(str(problem).split())}); type "
            f"`outvoted check {store.root} --repair`, and the desk publishes its journal's again."
        ) from problem


def resolve(store: Store) -> pa.Table:
    """One verdict a pair, from the published ones (schema RESOLVED), sorted by pair_id.

    A curator's last verdict that was not undone counts; between curators the majority of those who
    decided (unsure abstains); without a majority the pair is split, and unsure.
    """
    return resolve_rows(_published(store).to_pylist())


def resolve_rows(rows: list[dict[str, Any]]) -> pa.Table:
    """`resolve` over rows of VERDICTS, from parts, a journal, or both (duplicates do no harm)."""
    counting = standing_rows(rows)
    resolved = [_resolved(pair, list(by.values())) for pair, by in sorted(counting.items())]
    return pa.Table.from_pylist(resolved, schema=RESOLVED)


def standing_rows(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Each curator's verdict that counts, of rows of VERDICTS: pair_id -> curator -> row.

    The answers of an audit are kept apart: they do not count.
    """
    undone = {row["undoes"] for row in rows if row["choice"] == "undo"}
    standing: dict[str, dict[str, dict[str, Any]]] = {}
    for row in _in_order(rows):
        counts = row["choice"] != "undo" and row["verdict_id"] not in undone
        if counts and audit_of(row) is None:
            standing.setdefault(row["pair_id"], {})[row["curator"]] = row
    return standing


def audit_of(row: Mapping[str, Any]) -> str | None:
    """The audit that a row of VERDICTS answers; None for a verdict."""
    shown = row["shown"] or ""
    return json.loads(shown).get("audit") if '"audit"' in shown else None


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By time; within a journal by sequence, even where its clock was set back in between."""
    latest: dict[str, datetime] = {}
    moments = []
    for row in sorted(rows, key=lambda row: (row["journal"], row["sequence"])):
        latest[row["journal"]] = max(row["time"], latest.get(row["journal"], row["time"]))
        moments.append((latest[row["journal"]], row))
    return [row for _, row in sorted(moments, key=lambda pair: (pair[0], pair[1]["sequence"]))]


def _resolved(pair_id: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for row in rows:
        if row["choice"] != "unsure":
            counts[row["choice"]] = counts.get(row["choice"], 0) + 1
    deciding = sum(counts.values())
    winner = max(counts, key=lambda choice: counts[choice]) if counts else "unsure"
    split = deciding > 0 and counts[winner] * 2 <= deciding and deciding > 1
    choice = "unsure" if split else winner
    agreeing = [row for row in rows if row["choice"] == choice] or rows
    return {
        "pair_id": pair_id,
        "choice": choice,
        "verdict_id": max(agreeing, key=lambda row: (row["time"], row["sequence"]))["verdict_id"],
        "curators": len(rows),
        "split": split,
        "differ": len({row["choice"] for row in rows}) > 1,
    }
