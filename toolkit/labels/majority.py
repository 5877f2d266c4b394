"""Labels by majority: of the votes in the store, or of each label and extra votes.

Extra votes are choices from outside the store, such as scorers' or further people's: a table with
the columns pair_id, annotator and choice (1: image_0, 0: image_1, 0.5: a tie, null: none).
"""

import csv
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit.errors import InputError
from toolkit.labels.maker import LabelMaker, Made, changes_of, write_changes
from toolkit.preference import (
    ALLOWED,
    Floats,
    is_decided,
    is_label,
    label_of,
    lean,
    settle,
    side,
    values_of,
)
from toolkit.schema import missing_columns
from toolkit.store import Store
from toolkit.store.connection import connect, effective_labels, fetch
from toolkit.store.label_sets import ORIGINAL
from toolkit.store.pseudonyms import own_ids

VOTES = ("pair_id", "annotator", "choice")


def majority_of_votes(
    store: Store,
    name: str,
    base: str = ORIGINAL,
    *,
    min_votes: Annotated[int, "Votes that a comparison needs.", (1, 10**6)] = 2,
    axis: Annotated[str | None, "Votes on this axis; else on the overall preference."] = None,
    graded: Annotated[
        bool, "Label by the share of the votes (7 of 10: 0.7), not by their majority."
    ] = False,
    trust: Annotated[bool, "Weigh each vote by its trust, where the source gives one."] = False,
    tie_within: Annotated[float, "A share at most this far from 0.5 is a tie.", (0, 0.5)] = 0.0,
) -> Made:
    """What most votes on a comparison say, whichever way round its pairs show the two images.

    A tie vote counts half for either side, and an even result is a label of 0.5. label_weight is
    the number of votes, or the sum of their trust. Comparisons with fewer than `min_votes` votes
    keep the base's label. InputError where none has as many.
    """
    turned = "CASE WHEN p.image_0 <= p.image_1 THEN {0} ELSE 1 - {0} END"
    weight = "coalesce(v.weight, 1)" if trust else "1.0"
    with connect(store) as con:
        rows = fetch(
            con,
            f"""
            WITH cast_votes AS (
                SELECT p.comparison_id, {turned.format("v.choice")} AS choice, {weight} AS weight
                FROM votes v JOIN pairs p USING (pair_id)
                WHERE v.choice IS NOT NULL AND v.axis IS NOT DISTINCT FROM ?
            ), tally AS (
                SELECT comparison_id, sum(weight * choice) / sum(weight) AS share,
                    sum(weight) AS weight
                FROM cast_votes GROUP BY comparison_id HAVING count(*) >= ? AND sum(weight) > 0
            )
            SELECT p.pair_id, {turned.format("t.share")} AS share, t.weight
            FROM pairs p JOIN tally t USING (comparison_id)
            """,
            axis,
            min_votes,
        )
    if not rows.num_rows:
        on = "" if axis is None else f" on axis {axis!r}"
        raise InputError(
            f"No pair of {store.root} has {min_votes} votes{on}; add some with "
            "`outvoted ingest votes`, or lower --min-votes."
        )
    label = settle(values_of(rows["share"]), tie_within)
    changes = changes_of(
        rows["pair_id"].combine_chunks(), label if graded else side(label), rows["weight"]
    )
    recipe = {"kind": "majority", "min_votes": min_votes}
    given = {"votes_on": axis, "graded": graded, "trust": trust, "tie_within": tie_within}
    recipe |= {option: value for option, value in given.items() if value}
    return write_changes(store, name, base, changes, recipe)


MAJORITY = LabelMaker(
    "majority",
    "What most votes on the same two images say.",
    majority_of_votes,
    "majority",
)


def outvote(
    store: Store, name: str, votes: pa.Table, base: str = ORIGINAL, *, source: str | Path = ""
) -> Made:
    """Add the set of majorities of each label of `base` and the votes on its pair.

    As arXiv 2503.16921 relabels by the human label and four scorers. An even result keeps the
    label, tie votes count for neither side, and a tie or a missing label stays as it is. The
    recipe lists the pairs whose label changed. InputError where no vote is on a pair of the store.
    """
    labels = effective_labels(store, base)
    row, choice = align_votes(votes, labels["pair_id"].to_pylist())
    if not len(row):
        raise InputError(
            f"None of the {votes.num_rows:,} votes is on a pair of {store.root}; their column "
            "pair_id must contain the store's ids."
        )
    label = values_of(labels["label"])
    after, even = majority(label, row, choice)
    changed = np.flatnonzero(is_decided(label) & (after != label))
    ids = labels["pair_id"].take(pa.array(changed)).to_pylist()
    recipe = {
        "kind": "outvote",
        "annotators": sorted(set(votes["annotator"].cast(pa.string()).drop_null().to_pylist())),
        "votes": votes.num_rows,
        "source": str(source),
        "changed": ids,
    }
    note = f"{even:,} votes were even and keep the label"
    pairs = len(np.unique(row[~np.isnan(choice)]))
    changes = changes_of(ids, after[changed])
    return write_changes(store, name, base, changes, recipe, pairs=pairs, note=note)


def majority(label: Floats, row: npt.NDArray[np.int64], choice: Floats) -> tuple[Floats, int]:
    """Each label after the vote of itself and the choices on its pair; how many votes were even.

    `label`: (pairs,). `row`, `choice`: (votes,), the position of each vote's pair and its choice.
    """
    voted = ~np.isnan(choice)
    total = lean(label) + np.bincount(row[voted], lean(choice)[voted], len(label))
    even = is_decided(label) & (total == 0)
    outvoted = is_decided(label) & ~even & (np.sign(total) != lean(label))
    return np.where(outvoted, label_of(total), label), int(even.sum())


def align_votes(votes: pa.Table, pair_ids: list[str]) -> tuple[npt.NDArray[np.int64], Floats]:
    """(row, choice) of each vote: the position of its pair in `pair_ids`, and what it chose.

    Votes on other pairs are left out; several of one annotator on a pair all count. InputError
    where a column is missing, or a choice is no number from 0 to 1 and not null.
    """
    missing = [name for name in VOTES if name not in votes.column_names]
    if missing:
        raise InputError(
            f"The table of votes has no column {', '.join(missing)} (it has "
            f"{', '.join(votes.column_names)}); it needs {', '.join(VOTES)}."
        )
    choice = values_of(votes["choice"])
    wrong = choice[~is_label(choice)]
    if len(wrong):
        raise InputError(
            f"A vote's choice is {ALLOWED} or empty, not {wrong[0]:g}; a score is no choice: give "
            "the image with the higher score."
        )
    place = pc.index_in(votes["pair_id"].cast(pa.string()), value_set=pa.array(pair_ids))
    known = place.is_valid().to_numpy()
    return place.drop_null().to_numpy().astype(np.int64), choice[known]


def read_votes(path: str | Path, store: Store | None = None) -> pa.Table:
    """Votes from a Parquet or CSV file with the columns of VOTES; the annotator may be absent.

    With a store, its pairs may be named as in its exports, and get their own ids.
    `voice`, as earlier versions called the annotator, is accepted too. InputError where the file
    cannot be read, lacks a column or contains another choice.
    """
    rows = read_rows(path, "pair_id", "choice")
    name = "voice" if rows and "voice" in rows[0] else "annotator"
    try:
        choice = [
            None if row["choice"] in (None, "") else float(str(row["choice"])) for row in rows
        ]
    except ValueError as problem:
        raise InputError(
            f"{path} contains a choice that is no number ({problem}); write {ALLOWED} or nothing."
        ) from problem
    names = [str(row["pair_id"]) for row in rows]
    own = own_ids(store, names) if store else {}
    return pa.table(
        {
            "pair_id": pa.array([own.get(name, name) for name in names], pa.string()),
            "annotator": pa.array(
                [None if row.get(name) in (None, "") else str(row[name]) for row in rows],
                pa.string(),
            ),
            "choice": pa.array(choice, pa.float64()),
        }
    )


def read_rows(path: str | Path, *needed: str) -> list[dict[str, object]]:
    """Rows of a Parquet or CSV file that has these columns. InputError else."""
    place = Path(path)
    words = ", ".join(needed)
    try:
        if place.suffix == ".parquet":
            table = pq.read_table(place)
            rows, columns = table.to_pylist(), table.column_names
        else:
            with place.open(newline="", encoding="utf-8-sig") as lines:
                reader = csv.DictReader(lines)
                rows, columns = list(reader), list(reader.fieldnames or [])
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as problem:
        raise InputError(
            f"{place} cannot be read ({problem}); name a Parquet or CSV file with columns {words}."
        ) from problem
    if missing := missing_columns(columns, needed):
        raise InputError(
            f"{place} has no column {', '.join(missing)} (it has {', '.join(columns) or 'none'}); "
            f"it needs {words}."
        )
    return rows


def _from_file(
    store: Store,
    name: str,
    base: str = ORIGINAL,
    *,
    votes: Annotated[str, "A Parquet or CSV file with pair_id, annotator, choice (1, 0, 0.5)."],
) -> Made:
    return outvote(store, name, read_votes(votes, store), base, source=votes)


OUTVOTE = LabelMaker(
    "outvote", "The majority of the label and extra votes from a file.", _from_file, "outvoted"
)
