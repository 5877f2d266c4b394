"""Votes of further annotators on pairs that are in the store already.

A table of pair_id, choice and, where known, annotator, time, axis, weight and grade. A choice is a
number from 0 to 1 for image_0, or one of the words in `WORDS`. Every row is a vote, also of nobody
in particular and of the same person again; a file that comes in twice adds nothing.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from toolkit.ingest.source import ENCODING, Opened, Options, Source, utc
from toolkit.ingest.summary import Summary
from toolkit.ingest.tabular import Table, count_rows, find_tables, need_columns, with_problems
from toolkit.progress import Progress
from toolkit.schema import QUARANTINE, VOTES, from_tuples
from toolkit.store import Store
from toolkit.store.existing import held_quarantine, held_votes, written
from toolkit.store.images import real_path
from toolkit.store.locks import adding
from toolkit.store.pseudonyms import pair_names, renamer

WORDS: dict[str, tuple[float, str | None]] = {
    "image_0": (1.0, None),
    "image_1": (0.0, None),
    "tie": (0.5, None),
    "both_good": (0.5, "good"),
    "both_bad": (0.5, "bad"),
}
"""Choices in words: the number, and what a tie says of both images."""
MAY_LACK = ("annotator", "time", "axis", "weight", "grade")
"""Columns that a table may lack, under their usual names."""

CHUNK = 20_000
"""Votes that are written together."""


@dataclass(frozen=True)
class VotesOptions(Options):
    """Options of `outvoted ingest votes`; all columns but pair and choice may be absent."""

    paths: Annotated[Sequence[str | Path], "Files, or folders of them."]
    _: KW_ONLY
    pair_column: Annotated[str, "Column of the pair_id, the store's or an export's."] = "pair_id"
    annotator_column: Annotated[str, "Column of the annotator."] = "annotator"
    choice_column: Annotated[
        str, "Column of numbers from 0 to 1, or image_0, image_1, tie, both_good, both_bad."
    ] = "choice"
    time_column: Annotated[str, "Column of the time, if any."] = "time"
    axis_column: Annotated[str, "Column of what was judged, if any; empty: overall."] = "axis"
    weight_column: Annotated[str, "Column of the trust in each vote, if any."] = "weight"
    grade_column: Annotated[str, "Column of the answer in the source's words, if any."] = "grade"
    limit: Annotated[int | None, "Read only the first N rows.", (1, 10**9)] = None
    pseudonyms: Annotated[bool, "Store keyed pseudonyms instead of annotators' names."] = False
    encoding: Annotated[str | None, ENCODING] = None


def open_votes(options: VotesOptions) -> Opened:
    """Find and check the tables. InputError (one sentence) on the first that cannot be used."""
    tables = find_tables(options.paths, what="a table of votes", encoding=options.encoding)
    named = {name: getattr(options, f"{name}_column") for name in MAY_LACK}
    needed = (
        *(options.pair_column, options.choice_column),
        *(column for name, column in named.items() if column != name),  # whoever names one has it
    )
    remedy = "name them with --pair-column, --choice-column and the options of the others"
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
            pair_names(store),
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
    pairs: dict[str, str]
    """Either name of a pair -> its pair_id."""
    votes: Counter[tuple[Any, ...]]
    """How many votes in the store say the same, by what they say."""
    aside: set[tuple[str, int | None, str]]
    rename: Callable[[str], int] | None
    read: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    """The same for the votes of this ingest."""

    def take(self, chunk: list[tuple[str, int, dict[str, Any]]]) -> dict[str, Any]:
        """New votes, and the rows that are none."""
        votes, quarantine = [], []
        for file, number, given in chunk:
            self.summary.read += 1
            pair_id = str(given["pair_id"])
            vote = self._vote(given)
            if isinstance(vote, str):
                self.summary.quarantine(vote)
                if (entry := (pair_id, number, vote)) not in self.aside:
                    self.aside.add(entry)
                    quarantine.append((pair_id, file, number, vote))
            elif self._is_new(vote):
                votes.append(vote)
            else:
                self.summary.duplicate += 1
        new = from_tuples(VOTES, votes)
        self.summary.count_kept(new["choice"])
        return {"quarantine": from_tuples(QUARANTINE, quarantine), "votes": new}

    def _is_new(self, vote: tuple[Any, ...]) -> bool:
        """Whether it is another vote: not one that the store has, nor the same person's at the same
        moment again."""
        self.read[vote] += 1
        if vote[1] is not None and vote[3] is not None:
            return self.read[vote] == 1 and not self.votes[vote]
        return self.read[vote] > self.votes[vote]

    def _vote(self, given: dict[str, Any]) -> tuple[Any, ...] | str:
        """A row of VOTES, or what is wrong with it."""
        if "problem" in given:
            return str(given["problem"])
        pair_id = self.pairs.get(str(given["pair_id"]))
        if pair_id is None:
            return f"the store has no such pair (pair_id {given['pair_id']})"
        choice, both = WORDS.get(str(given["choice"]).strip().lower(), (None, None))
        choice = _number(given["choice"]) if choice is None else choice
        if choice is None or not 0 <= choice <= 1:
            allowed = f"no number from 0 to 1, and none of {', '.join(WORDS)}"
            return f"the choice is {allowed} (it is {given['choice']})"
        stated = _text(given["weight"])
        weight = _number(stated)
        if stated is not None and (weight is None or not 0 <= weight < math.inf):
            return f"the vote's weight is no number of 0 or more (it is {given['weight']})"
        name, axis, grade = (_text(given[name]) for name in ("annotator", "axis", "grade"))
        if name is not None and self.rename is not None:
            name = str(self.rename(name))
        try:
            time = utc(given["time"])
        except OverflowError:
            return f"the time is out of range (it is {given['time']})"
        return (
            pair_id,
            name,
            choice,
            time,
            axis,
            weight,
            grade,
            both,
        )


def _rows(
    tables: Sequence[Table], options: VotesOptions
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for table in tables:
        file = real_path(table.path)
        for number, row in with_problems(table):
            if isinstance(row, str):
                yield file, number, {"pair_id": "?", "problem": row}
                continue
            vote = {
                "pair_id": row[options.pair_column],
                "choice": row[options.choice_column],
                **{name: row.get(getattr(options, f"{name}_column")) for name in MAY_LACK},
            }
            yield file, number, vote


def _text(value: object) -> str | None:
    return None if value is None or value == "" or value != value else str(value)


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
