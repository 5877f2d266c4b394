"""Human Preference Dataset: HPDv2's train.json and test.json, HPDv3's lists.

train.json lists pairs with one person's choice, test.json lists rankings with every annotator's own
(those become votes). HPDv3 lists pairs whose first path is the preferred image; where `choice_dist`
says how many chose which, their share is the label.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

from toolkit.errors import InputError
from toolkit.ingest.choices import by_counts
from toolkit.ingest.rankings import Ranking, ranked_pairs
from toolkit.ingest.source import (
    AxisLabel,
    ListOptions,
    Opened,
    Source,
    SourceImage,
    SourceRow,
    Vote,
    as_batches,
)
from toolkit.ingest.tabular import (
    Table,
    checked_folder,
    count_rows,
    find_tables,
    path_image,
    records,
)
from toolkit.ingest.writer import open_pairs
from toolkit.store.images import real_path

PERSONAL = ("user_hash",)

Form = Literal["train", "test", "v3"]
Named: TypeAlias = Callable[[str], SourceImage]
"""The image of a path."""
FORMS: dict[Form, tuple[str, ...]] = {
    "train": ("prompt", "file_path", "human_preference"),
    "test": ("prompt", "image_path", "rank"),
    "v3": ("prompt", "path1", "path2"),
}
"""The columns by which a form is known, and which it needs."""

MAX_VOTES = 1000
"""More anonymous votes than this on one pair are not taken for a count."""


def open_hpd(options: ListOptions) -> Opened:
    """Find the files and their forms. InputError on one that has none of the three."""
    tables = find_tables(
        options.paths,
        allowed=("json", "parquet", "arrow"),
        what="HPD's annotation list",
        shard=options.part,
        encoding=options.encoding,
    )
    forms = [(table, _form(table)) for table in tables]
    checked_folder(options.images_dir)
    rankings = any(form == "test" for _, form in forms)  # a ranking gives several pairs
    return open_pairs(
        HPD.name,
        options,
        lambda: as_batches(hpd_rows(forms, options), options),
        rows=None if rankings else count_rows(tables),
        personal=PERSONAL,
        labels_are_votes=all(form == "train" for _, form in forms),
    )


HPD = Source(
    "hpd",
    "HPDv2's train.json and test.json, HPDv3's lists",
    ListOptions,
    open_hpd,
    stored_as="hpd",
    safe_columns=("rank_0", "rank_1"),
    details="every annotator's ranking becomes votes",
    cards=("hpdv2", "hpdv3"),
)


def hpd_rows(tables: Sequence[tuple[Table, Form]], options: ListOptions) -> Iterator[SourceRow]:
    """The pairs of the entries in order, of `options.limit` entries at most."""
    entries = ((table, form, n, row) for table, form in tables for n, row in records(table))
    for table, form, number, row in islice(entries, options.limit):
        folder = Path(options.images_dir or table.path.parent)
        split = options.split or table.split or ("test" if form == "test" else "train")
        image = partial(path_image, folder=folder, outside=options.allow_outside)
        yield from _PAIRS[form](row, image, split, real_path(table.path), number)


def _form(table: Table) -> Form:
    for form, needed in FORMS.items():
        if all(name in table.schema.names for name in needed):
            return form
    forms = "; ".join(", ".join(names) for names in FORMS.values())
    raise InputError(
        f"{table.path} has the columns {', '.join(table.schema.names)}, and none of HPD's forms "
        f"has ({forms}); name HPDv2's train.json or test.json, or a list of HPDv3."
    )


def _train(
    row: dict[str, Any], image: Named, split: str, file: str, number: int
) -> Iterator[SourceRow]:
    paths, choice = row["file_path"], row["human_preference"]
    problem, label = None, None
    if not _paths(paths) or len(paths) != 2:
        problem, paths = "file_path does not name two images", ["?", "?"]
    elif choice not in ([1, 0], [0, 1], [0.5, 0.5]):
        problem = f"human_preference is none of [1, 0] and [0, 1] (it is {choice})"
    else:
        label = float(choice[0])
    user = row.get("user_hash")
    sides = [image(path) for path in paths]
    yield SourceRow(
        prompt=row["prompt"],
        image_0=sides[0],
        image_1=sides[1],
        label=label,
        split=split,
        annotator=None if user is None else str(user),
        extra={name: value for name, value in row.items() if name not in FORMS["train"]},
        distinguishing=(str(user),) if user is not None else (),
        source_file=file,
        source_row=number,
        problem=problem,
    )


def _test(
    row: dict[str, Any], image: Named, split: str, file: str, number: int
) -> Iterator[SourceRow]:
    votes = [vote for vote in _list(row.get("raw_annotations")) if isinstance(vote, dict)]
    voters = [
        (None if (name := vote.get("user_hash")) is None else str(name), _list(vote.get("rank")))
        for vote in votes
    ]
    paths = row["image_path"]
    own = {*FORMS["test"], "raw_annotations"}
    yield from ranked_pairs(
        Ranking(
            prompt=row["prompt"],
            images=[image(path) for path in paths] if _paths(paths) else [],
            ranks=_list(row["rank"]),
            voters=voters,
            split=split,
            extra={name: value for name, value in row.items() if name not in own},
            source_file=file,
            source_row=number,
        )
    )


def _v3(
    row: dict[str, Any], image: Named, split: str, file: str, number: int
) -> Iterator[SourceRow]:
    paths = [row["path1"], row["path2"]]
    label, votes, problem = _counted(row.get("choice_dist"))
    named = _paths(paths)
    problem = problem if named else "path1 and path2 do not name two images"
    sides = [image(path if named else "?") for path in paths]
    models = {f"model_{slot}": row.get(f"model{slot + 1}") for slot in (0, 1)}
    own = {*FORMS["v3"], "model1", "model2"}
    yield SourceRow(
        prompt=row["prompt"],
        image_0=sides[0],
        image_1=sides[1],
        label=label.label,
        label_weight=label.weight,
        split=split,
        votes=votes,
        extra={name: value for name, value in row.items() if name not in own} | models,
        source_file=file,
        source_row=number,
        problem=problem,
    )


def _counted(counts: Any) -> tuple[AxisLabel, tuple[Vote, ...], str | None]:
    """The label from [votes for path1, votes for path2], nameless votes where these are whole
    numbers, and what is wrong. Where it is no such list, path1 was preferred, by nobody knows how
    many."""
    numbers = isinstance(counts, list) and all(type(n) in (int, float) for n in counts)
    if not numbers or len(counts) != 2:
        return AxisLabel(1.0), (), None
    share = by_counts(counts[0], counts[1], ("choice_dist",))
    if share.problem or (share.label is not None and share.label < 0.5):
        against = f"choice_dist prefers path2, and path1 is the preferred ({counts})"
        return AxisLabel(None), (), share.problem or against
    whole = all(float(n).is_integer() for n in counts) and sum(counts) <= MAX_VOTES
    if not whole or share.label is None:
        return AxisLabel(1.0 if share.label is None else share.label), (), None
    votes = (Vote(1.0),) * int(counts[0]) + (Vote(0.0),) * int(counts[1])
    return AxisLabel(share.label, share.weight), votes, None


def _list(value: Any) -> list[Any]:
    """The list; empty where the value is something else."""
    return value if isinstance(value, list) else []


def _paths(paths: Any) -> bool:
    return isinstance(paths, list) and all(isinstance(path, str) and path for path in paths)


_PAIRS: dict[Form, Callable[..., Iterator[SourceRow]]] = {
    "train": _train,
    "test": _test,
    "v3": _v3,
}
