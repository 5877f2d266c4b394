"""Votes of further annotators on pairs that are in the store already.

A table of pair_id, annotator, choice and, where known, time. A choice is 1, 0 or .5 for image_0,
or the word image_0, image_1 or tie.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from toolkit.ingest.source import Opened, Options, Source, Summary, utc
from toolkit.ingest.tabular import Table, count_rows, find_tables, need_columns, records
from toolkit.progress import Progress
from toolkit.schema import QUARANTINE, VOTES, from_tuples
from toolkit.store import Store
from toolkit.store.connection import read_pairs
from toolkit.store.existing import held_quarantine, held_votes, written
from toolkit.store.locks import adding
from toolkit.store.pseudonyms import renamer

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
"""Votes that are written together."""


@dataclass(frozen=True)
class VotesOptions(Options):
    """Options of `outvoted ingest votes`; the column of the time may be absent."""

    paths: Annotated[Sequence[str | Path], "Files, or folders of them."]
    _: KW_ONLY
    pair_column: Annotated[str, "Column of the pair_id."] = "pair_id"
    annotator_column: Annotated[str, "Column of the annotator."] = "annotator"
    choice_column: Annotated[str, "Column of 1, 0, .5, or image_0, image_1, tie."] = "choice"
    time_column: Annotated[str, "Column of the time, if any."] = "time"
    limit: Annotated[int | None, "Read only the first N rows.", (1, None)] = None
    pseudonyms: Annotated[bool, "Store keyed pseudonyms instead of annotators' names."] = False


def open_votes(options: VotesOptions) -> Opened:
    """Find and check the tables. InputError (one sentence) on the first that cannot be used."""
    tables = find_tables(options.paths, what="a table of votes")
    needed = (options.pair_column, options.annotator_column, options.choice_column)
    remedy = "name them with --pair-column, --annotator-column and --choice-column"
    for table in tables:
        need_columns(table, needed, remedy)
    rows = count_rows(tables)
    if options.limit is not None:
        rows = min(rows, options.limit)

    def add(store: Store, progress: Progress) -> Summary:
        return _add(store, islice(_rows(tables, options), options.limit), options, progress, rows)

    return Opened(add, rows)


FURTHER_VOTES = Source(
    "votes",
    "Further votes on pairs that are in the store",
    VotesOptions,
    open_votes,
    details="then `outvoted labels majority STORE` makes a label set of them",
)


def _add(
    store: Store,
    rows: Iterator[tuple[str, int, dict[str, Any]]],
    options: VotesOptions,
    progress: Progress,
    total: int,
) -> Summary:
    """Add the votes; `kept` counts votes. One on a pair that the store lacks is quarantined.

    Labels do not change: `outvoted labels majority` makes a set of what the votes say.
    """
    summary = Summary()
    with adding(store):
        intake = _Intake(
            summary,
            set(read_pairs(store, ["pair_id"])[0].to_pylist()),
            held_votes(store),
            held_quarantine(store),
            renamer(store) if options.pseudonyms else None,
        )
        while chunk := list(islice(rows, CHUNK)):
            written(store, intake.take(chunk))
            progress.update("votes", summary.read, total)
    return summary


@dataclass(frozen=True)
class _Intake:
    summary: Summary
    pairs: set[str]
    votes: set[tuple[Any, ...]]
    aside: set[tuple[str, int | None, str]]
    rename: Callable[[str], int] | None

    def take(self, chunk: list[tuple[str, int, dict[str, Any]]]) -> dict[str, Any]:
        """New votes, and the rows that are none."""
        votes, quarantine = [], []
        for file, number, vote in chunk:
            self.summary.read += 1
            pair_id, choice = vote["pair_id"], _choice(vote["choice"])
            if problem := self._problem(vote, choice):
                self.summary.quarantine(problem)
                if (entry := (str(pair_id), number, problem)) not in self.aside:
                    self.aside.add(entry)
                    quarantine.append((str(pair_id), file, number, problem))
                continue
            name = str(vote["annotator"])
            name = name if self.rename is None else str(self.rename(name))
            row = (pair_id, name, choice, utc(vote["time"]), None, None, None, None)
            if row in self.votes:
                self.summary.duplicate += 1
                continue
            self.votes.add(row)
            votes.append(row)
            self.summary.kept += 1
            self.summary.tied += choice == 0.5
        return {
            "quarantine": from_tuples(QUARANTINE, quarantine),
            "votes": from_tuples(VOTES, votes),
        }

    def _problem(self, vote: dict[str, Any], choice: float | None) -> str | None:
        if vote["pair_id"] not in self.pairs:
            return f"the store has no such pair (pair_id {vote['pair_id']})"
        if vote["annotator"] in (None, ""):
            return "the vote has no annotator"
        if choice is None:
            return f"the choice is none of 1, 0, .5, image_0, image_1, tie (it is {vote['choice']})"
        return None


def _rows(
    tables: Sequence[Table], options: VotesOptions
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for table in tables:
        file = str(table.path.resolve())
        for number, row in records(table):
            vote = {
                "pair_id": row[options.pair_column],
                "annotator": row[options.annotator_column],
                "choice": row[options.choice_column],
                "time": row.get(options.time_column),
            }
            yield file, number, vote


def _choice(value: object) -> float | None:
    return CHOICES.get(str(value).strip().lower()) if value is not None else None
