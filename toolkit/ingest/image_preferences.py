"""open-image-preferences: the annotators' answers, or the binarised table made from them.

An answer is image_1, image_2, both_good or both_bad, and every one is a vote; the last two are
ties. The pair's label is what most answers say, a tie where they are even.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.ingest.chosen_rejected import (
    ChosenRejected,
    Columns,
    ingest_chosen_rejected,
    open_chosen_rejected,
)
from toolkit.ingest.records import SourceRow, Summary, Vote, check_split
from toolkit.ingest.tabular import Table, cell_image, checked_folder, find_tables, records
from toolkit.ingest.writer import ImageMode, ingest_rows
from toolkit.sharding import Shard
from toolkit.store import Store

SOURCE = "image-preferences"
RESPONSES = ("preference.responses", "responses", "preference")
USERS = (".users", "_users")
ANSWERS = {"image_1": 1.0, "image_2": 0.0, "both_good": 0.5, "both_bad": 0.5}
STATUSES = (".status", "_status")


def open_image_preferences(
    paths: Sequence[str | Path],
    images_dir: str | Path | None = None,
    *,
    shard: Shard | None = None,
) -> ChosenRejected:
    """Find the tables and tell their form. InputError on one that has neither."""
    tables = find_tables(paths, what="a table of image preferences", shard=shard)
    if all({"prompt", "chosen", "rejected"} <= set(table.schema.names) for table in tables):
        return open_chosen_rejected(paths, images_dir=images_dir, source=SOURCE, shard=shard)
    for table in tables:
        names = table.schema.names
        if not {"prompt", "image_1", "image_2"} <= set(names) or _responses(table) is None:
            raise InputError(
                f"{table.path} has the columns {', '.join(names)}; the results need prompt, "
                f"image_1, image_2 and {RESPONSES[0]}, the binarised form prompt, chosen and "
                "rejected. Name a file that has them."
            )
    rows = sum(table.rows for table in tables)
    results = Columns(chosen="image_1", rejected="image_2")
    return ChosenRejected(tables, results, checked_folder(images_dir), rows, SOURCE)


def ingest_image_preferences(
    store: Store,
    source: ChosenRejected,
    *,
    images: ImageMode = "copy",
    split: str | None = None,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    pseudonyms: Callable[[str], int] | None = None,
) -> Summary:
    """Add the tables' rows (the first `limit` of them) to the store."""
    if source.columns.chosen == "chosen":
        return ingest_chosen_rejected(
            store,
            source,
            images=images,
            split=split,
            limit=limit,
            progress=progress,
            pseudonyms=pseudonyms,
        )
    check_split(split)
    rows = islice(preference_rows(source, images=images, split=split), limit)
    return ingest_rows(store, SOURCE, rows, images=images, progress=progress, pseudonyms=pseudonyms)


def preference_rows(
    source: ChosenRejected, *, images: ImageMode = "copy", split: str | None = None
) -> Iterator[SourceRow]:
    """The annotated pairs in order, each with a vote for every answer that was handed in."""
    for table in source.tables:
        answers = _responses(table) or ""
        users, statuses = (_beside(table, answers, ends) for ends in (USERS, STATUSES))
        own = {"prompt", "image_1", "image_2", answers, users, statuses}
        folder = source.images_dir or table.path.parent
        for number, row in records(table):
            sides = [
                cell_image(table, number, name, row.get(name), folder, images)
                for name in ("image_1", "image_2")
            ]
            said = _list(row.get(answers))
            votes, problem = _votes(said, _list(row.get(users)), _list(row.get(statuses)))
            yield SourceRow(
                prompt=row["prompt"],
                image_0=sides[0],
                image_1=sides[1],
                label=majority(votes),
                split=split or table.split,
                votes=votes,
                extra={name: value for name, value in row.items() if name not in own}
                | {"responses": [str(answer) for answer in said]},
                source_file=str(table.path.resolve()),
                source_row=number,
                problem=problem,
            )


def majority(votes: Sequence[Vote]) -> float | None:
    """What most votes say for image_0; a tie counts half to either side; null without votes."""
    if not votes:
        return None
    lean = sum(vote.choice - 0.5 for vote in votes)
    return 0.5 if lean == 0 else float(lean > 0)


def _votes(
    said: list[Any], users: list[Any], statuses: list[Any]
) -> tuple[tuple[Vote, ...], str | None]:
    votes = []
    for place, answer in enumerate(said):
        if place < len(statuses) and statuses[place] in ("draft", "discarded"):
            continue
        if answer not in ANSWERS:
            return (), f"an answer is none of {', '.join(ANSWERS)} (it is {answer!r})"
        user = users[place] if place < len(users) else None
        votes.append(Vote(ANSWERS[answer], None if user is None else str(user)))
    return tuple(votes), None


def _responses(table: Table) -> str | None:
    return next((name for name in RESPONSES if name in table.schema.names), None)


def _beside(table: Table, answers: str, ends: tuple[str, ...]) -> str:
    return next((answers + end for end in ends if answers + end in table.schema.names), "")


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
