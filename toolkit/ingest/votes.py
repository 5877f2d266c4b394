"""Further annotators' votes on pairs that are in the store already.

A table of pair_id, annotator, choice and, where known, time. A choice is 1, 0 or .5 for image_0,
or the word image_0, image_1 or tie.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from toolkit.ingest.records import Summary, utc
from toolkit.ingest.tabular import Table, find_tables, need_columns, records
from toolkit.schema import QUARANTINE, VOTES
from toolkit.store import Store
from toolkit.store.connection import read_pairs
from toolkit.store.existing import held_quarantine, held_votes, written
from toolkit.store.locks import adding

CHOICES: dict[object, float] = {
    "image_0": 1.0,
    "image_1": 0.0,
    "tie": 0.5,
    "1": 1.0,
    "0": 0.0,
    "0.5": 0.5,
    "1.0": 1.0,
    "0.0": 0.0,
    ".5": 0.5,
}
CHUNK = 20_000


@dataclass(frozen=True)
class VoteColumns:
    """Which column holds what; `time` may be absent."""

    pair_id: str = "pair_id"
    annotator: str = "annotator"
    choice: str = "choice"
    time: str = "time"


@dataclass(frozen=True)
class VoteTables:
    """Tables whose columns were checked."""

    tables: tuple[Table, ...]
    columns: VoteColumns
    rows: int


def open_votes(
    paths: Sequence[str | Path],
    columns: VoteColumns = VoteColumns(),
) -> VoteTables:
    """Find and check the tables. InputError (one sentence) on the first that will not do."""
    tables = find_tables(paths, what="a table of votes")
    remedy = "name them with --pair-column, --annotator-column and --choice-column"
    for table in tables:
        need_columns(table, (columns.pair_id, columns.annotator, columns.choice), remedy)
    return VoteTables(tables, columns, sum(table.rows for table in tables))


def ingest_votes(
    store: Store,
    source: VoteTables,
    *,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    pseudonyms: Callable[[str], int] | None = None,
) -> Summary:
    """Add the votes; `kept` counts votes. One on a pair that the store lacks is quarantined.

    The labels stay as they are: `outvoted labels majority` makes a set of what the votes say.
    """
    summary = Summary()
    with adding(store):
        intake = _Intake(
            summary,
            set(read_pairs(store, ["pair_id"])[0].to_pylist()),
            held_votes(store),
            held_quarantine(store),
            pseudonyms,
        )
        rows = islice(_rows(source), limit)
        while chunk := list(islice(rows, CHUNK)):
            written(store, intake.take(chunk))
            if progress:
                progress(len(chunk))
    return summary


@dataclass(frozen=True)
class _Intake:
    summary: Summary
    pairs: set[str]
    votes: set[tuple[Any, ...]]
    aside: set[tuple[str, int | None, str]]
    rename: Callable[[str], int] | None

    def take(self, chunk: list[tuple[str, int, dict[str, Any]]]) -> dict[str, pa.Table]:
        """New votes, and the rows that are none."""
        votes, quarantine = [], []
        for file, number, vote in chunk:
            self.summary.read += 1
            pair_id, choice = vote["pair_id"], _choice(vote["choice"])
            if problem := self._problem(vote, choice):
                self.summary.quarantined += 1
                self.summary.reasons[problem.split(" (")[0]] += 1
                if (entry := (str(pair_id), number, problem)) not in self.aside:
                    self.aside.add(entry)
                    quarantine.append((str(pair_id), file, number, problem))
                continue
            name = str(vote["annotator"])
            name = name if self.rename is None else str(self.rename(name))
            row = (pair_id, name, choice, utc(vote["time"]))
            if row in self.votes:
                self.summary.duplicate += 1
                continue
            self.votes.add(row)
            votes.append(row)
            self.summary.kept += 1
            self.summary.tied += choice == 0.5
        return {"quarantine": _table(QUARANTINE, quarantine), "votes": _table(VOTES, votes)}

    def _problem(self, vote: dict[str, Any], choice: float | None) -> str | None:
        if vote["pair_id"] not in self.pairs:
            return f"the store has no such pair (pair_id {vote['pair_id']})"
        if vote["annotator"] in (None, ""):
            return "the vote has no annotator"
        if choice is None:
            return f"the choice is none of 1, 0, .5, image_0, image_1, tie (it is {vote['choice']})"
        return None


def _rows(source: VoteTables) -> Iterator[tuple[str, int, dict[str, Any]]]:
    names = source.columns
    for table in source.tables:
        file = str(table.path.resolve())
        for number, row in records(table):
            yield (
                file,
                number,
                {
                    "pair_id": row[names.pair_id],
                    "annotator": row[names.annotator],
                    "choice": row[names.choice],
                    "time": row.get(names.time),
                },
            )


def _choice(value: object) -> float | None:
    return CHOICES.get(str(value).strip().lower()) if value is not None else None


def _table(schema: pa.Schema, rows: list[tuple[Any, ...]]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema
    )
