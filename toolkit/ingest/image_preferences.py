"""open-image-preferences: the annotators' answers, or the binarised table made from them.

An answer is image_1, image_2, both_good or both_bad, and every one is a vote; the last two are
ties. The pair's label is what most answers say, a tie where they are even; label_weight counts the
answers.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from toolkit.errors import InputError
from toolkit.ingest.chosen_rejected import ChosenRejectedOptions, open_sides
from toolkit.ingest.source import ListOptions, Opened, Source, SourceRow, Vote, as_batches
from toolkit.ingest.tabular import (
    Table,
    cell_image,
    checked_folder,
    count_rows,
    find_tables,
    records,
)
from toolkit.ingest.writer import open_pairs
from toolkit.preference import label_of, lean
from toolkit.store.images import real_path

RESPONSES = ("preference.responses", "responses", "preference")
USERS = (".users", "_users")
ANSWERS: dict[str, tuple[float, Literal["good", "bad"] | None]] = {
    "image_1": (1.0, None),
    "image_2": (0.0, None),
    "both_good": (0.5, "good"),
    "both_bad": (0.5, "bad"),
}
STATUSES = (".status", "_status")


def open_image_preferences(options: ListOptions) -> Opened:
    """Find the tables and their form. InputError on one that has neither."""
    name = IMAGE_PREFERENCES.name
    tables = find_tables(
        options.paths,
        what="a table of image preferences",
        shard=options.part,
        encoding=options.encoding,
    )
    if all({"prompt", "chosen", "rejected"} <= set(table.schema.names) for table in tables):
        return open_sides(name, ChosenRejectedOptions(**vars(options)))
    for table in tables:
        names = table.schema.names
        if not {"prompt", "image_1", "image_2"} <= set(names) or _responses(table) is None:
            raise InputError(
                f"{table.path} has the columns {', '.join(names)}; the results need prompt, "
                f"image_1, image_2 and {RESPONSES[0]}, the binarised form prompt, chosen and "
                "rejected. Name a file that has them."
            )
    checked_folder(options.images_dir)

    def rows() -> Iterator[SourceRow]:
        return islice(preference_rows(tables, options), options.limit)

    return open_pairs(name, options, lambda: as_batches(rows(), options), rows=count_rows(tables))


IMAGE_PREFERENCES = Source(
    "image-preferences",
    "open-image-preferences, as answers or binarised",
    ListOptions,
    open_image_preferences,
    stored_as="image-preferences",
    cards=("open_image_preferences",),
)


def preference_rows(tables: Sequence[Table], options: ListOptions) -> Iterator[SourceRow]:
    """The annotated pairs in order, each with a vote for every answer that was submitted."""
    for table in tables:
        column = _responses(table) or ""
        users, statuses = (_beside(table, column, ends) for ends in (USERS, STATUSES))
        own = {"prompt", "image_1", "image_2", column, users, statuses}
        folder = Path(options.images_dir or table.path.parent)
        for number, row in records(table):
            sides = [
                cell_image(
                    *(table, number, name, row.get(name), folder, options.images),
                    outside=options.allow_outside,
                )
                for name in ("image_1", "image_2")
            ]
            answers = _list(row.get(column))
            votes, problem = _votes(answers, _list(row.get(users)), _list(row.get(statuses)))
            yield SourceRow(
                prompt=row["prompt"],
                image_0=sides[0],
                image_1=sides[1],
                label=majority(votes),
                label_weight=float(len(votes)) if votes else None,
                split=options.split or row.get("split") or table.split,
                votes=votes,
                extra={name: value for name, value in row.items() if name not in own}
                | {"responses": [str(answer) for answer in answers]},
                source_file=real_path(table.path),
                source_row=number,
                problem=problem,
            )


def majority(votes: Sequence[Vote]) -> float | None:
    """What most votes say for image_0; a tie counts half to either side; null without votes."""
    if not votes:
        return None
    return float(label_of(lean([vote.choice for vote in votes]).sum()))


def _votes(
    answers: list[Any], users: list[Any], statuses: list[Any]
) -> tuple[tuple[Vote, ...], str | None]:
    votes = []
    for place, answer in enumerate(answers):
        if place < len(statuses) and statuses[place] in ("draft", "discarded"):
            continue
        if not isinstance(answer, str) or answer not in ANSWERS:
            return (), f"an answer is none of {', '.join(ANSWERS)} (it is {answer!r})"
        user = users[place] if place < len(users) else None
        choice, both = ANSWERS[answer]
        name = None if user is None else str(user)
        votes.append(Vote(choice, name, grade=answer, both_are=both))
    return tuple(votes), None


def _responses(table: Table) -> str | None:
    return next((name for name in RESPONSES if name in table.schema.names), None)


def _beside(table: Table, answers: str, ends: tuple[str, ...]) -> str:
    return next((answers + end for end in ends if answers + end in table.schema.names), "")


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
