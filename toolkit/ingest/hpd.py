"""Human Preference Dataset: HPDv2's train.json and test.json, HPDv3's lists.

train.json holds pairs with the choice of one person, test.json holds rankings with every
annotator's own (those become votes), HPDv3 holds pairs whose first path is the preferred one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from toolkit.errors import InputError
from toolkit.ingest.rankings import Ranking, ranked_pairs
from toolkit.ingest.records import SourceRow, Summary, Vote, check_split
from toolkit.ingest.tabular import Kind, Table, checked_folder, find_tables, path_image, records
from toolkit.ingest.writer import ImageMode, ingest_rows
from toolkit.sharding import Shard
from toolkit.store import Store

SOURCE = "hpd"
PERSONAL = ("user_hash",)

Form = Literal["train", "test", "v3"]
FORMS: dict[Form, tuple[str, ...]] = {
    "train": ("prompt", "file_path", "human_preference"),
    "test": ("prompt", "image_path", "rank"),
    "v3": ("prompt", "path1", "path2"),
}
"""The columns by which a form is known, and which it needs."""

MAX_VOTES = 1000
"""More anonymous votes than this on one pair is taken for something else than a count."""


@dataclass(frozen=True)
class HpdFiles:
    """Files whose form is known; nothing was read from them yet."""

    tables: tuple[tuple[Table, Form], ...]
    images_dir: Path | None
    rows: int
    """Entries; a ranking gives several pairs."""

    @property
    def rankings(self) -> bool:
        """Whether any file holds rankings."""
        return any(form == "test" for _, form in self.tables)


def open_hpd(
    paths: Sequence[str | Path],
    images_dir: str | Path | None = None,
    *,
    shard: Shard | None = None,
) -> HpdFiles:
    """Find the files and tell their form. InputError on one that has none of the three."""
    kinds: tuple[Kind, ...] = ("json", "parquet", "arrow")
    tables = find_tables(paths, allowed=kinds, what="HPD's annotation list", shard=shard)
    known = tuple((table, _form(table)) for table in tables)
    return HpdFiles(known, checked_folder(images_dir), sum(table.rows for table in tables))


def ingest_hpd(
    store: Store,
    source: HpdFiles,
    *,
    images: ImageMode = "copy",
    split: str | None = None,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    pseudonyms: Callable[[str], int] | None = None,
) -> Summary:
    """Add the pairs (of the first `limit` entries) to the store."""
    check_split(split)
    return ingest_rows(
        store,
        SOURCE,
        hpd_rows(source, split=split, limit=limit),
        images=images,
        progress=progress,
        pseudonyms=pseudonyms,
        personal=PERSONAL,
    )


def hpd_rows(
    source: HpdFiles, *, split: str | None = None, limit: int | None = None
) -> Iterator[SourceRow]:
    """The entries' pairs in order."""
    entries = ((table, form, n, row) for table, form in source.tables for n, row in records(table))
    for table, form, number, row in islice(entries, limit):
        folder = source.images_dir or table.path.parent
        told = split or table.split or ("test" if form == "test" else "train")
        yield from _PAIRS[form](row, folder, told, str(table.path.resolve()), number)


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
    row: dict[str, Any], folder: Path, split: str, file: str, number: int
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
    sides = [path_image(path, folder) for path in paths]
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
    row: dict[str, Any], folder: Path, split: str, file: str, number: int
) -> Iterator[SourceRow]:
    voters = [
        (None if said.get("user_hash") is None else str(said["user_hash"]), said.get("rank") or ())
        for said in row.get("raw_annotations") or ()
    ]
    paths = row["image_path"]
    own = {*FORMS["test"], "raw_annotations"}
    yield from ranked_pairs(
        Ranking(
            prompt=row["prompt"],
            images=[path_image(path, folder) for path in paths] if _paths(paths) else [],
            ranks=row["rank"] or (),
            voters=voters,
            split=split,
            extra={name: value for name, value in row.items() if name not in own},
            source_file=file,
            source_row=number,
        )
    )


def _v3(
    row: dict[str, Any], folder: Path, split: str, file: str, number: int
) -> Iterator[SourceRow]:
    paths = [row["path1"], row["path2"]]
    problem = None if _paths(paths) else "path1 and path2 do not name two images"
    sides = [path_image(path if not problem else "?", folder) for path in paths]
    models = {f"model_{slot}": row.get(f"model{slot + 1}") for slot in (0, 1)}
    own = {*FORMS["v3"], "model1", "model2"}
    yield SourceRow(
        prompt=row["prompt"],
        image_0=sides[0],
        image_1=sides[1],
        label=None if problem else 1.0,
        split=split,
        votes=_counted(row.get("choice_dist")),
        extra={name: value for name, value in row.items() if name not in own} | models,
        source_file=file,
        source_row=number,
        problem=problem,
    )


def _counted(counts: Any) -> tuple[Vote, ...]:
    """Nameless votes from [votes for path1, votes for path2]; none where it is no such count."""
    if not isinstance(counts, list) or len(counts) != 2:
        return ()
    if not all(isinstance(n, int) or (isinstance(n, float) and n.is_integer()) for n in counts):
        return ()
    if min(counts) < 0 or sum(counts) > MAX_VOTES:
        return ()
    return (Vote(1.0),) * int(counts[0]) + (Vote(0.0),) * int(counts[1])


def _paths(paths: Any) -> bool:
    return isinstance(paths, list) and all(isinstance(path, str) and path for path in paths)


_PAIRS: dict[Form, Callable[..., Iterator[SourceRow]]] = {
    "train": _train,
    "test": _test,
    "v3": _v3,
}
