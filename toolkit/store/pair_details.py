"""Everything a store holds about one pair, looked up by its id.

Each function reads the parts it needs and no more; with a million pairs a look-up passes once over
a column of ids. Functions that take a connection take one of `toolkit.store.connect`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit.files.atomic import parts
from toolkit.files.remote import readable
from toolkit.store.connection import Connection, connect, fetch, parquet
from toolkit.store.label_sets import label_set_path, label_sets
from toolkit.store.layout import Store
from toolkit.store.runs import findings
from toolkit.store.scores import scorers_in


@dataclass(frozen=True)
class Value:
    """One number, text or flag that a finding holds about a pair."""

    run: str
    finding: str
    column: str
    value: Any
    lower: float | None
    """Share of the finding's pairs whose value is smaller; None for a text, a flag or a null."""


def pair_row(con: Connection, pair_id: str) -> dict[str, Any] | None:
    """Every column of the pair as its source gave it; None where the store has no such pair."""
    rows = fetch(con, "SELECT * FROM pairs WHERE pair_id = ? LIMIT 1", pair_id).to_pylist()
    return dict(rows[0]) if rows else None


def first_pair(con: Connection) -> str | None:
    """The smallest pair_id; None in an empty store."""
    found = con.execute("SELECT min(pair_id) FROM pairs").fetchall()
    return found[0][0] if found else None


def labels_of_pair(store: Store, pair: dict[str, Any]) -> dict[str, float | None]:
    """The pair's label in every label set, `original` first. `pair`: of `pair_row`."""
    found: dict[str, float | None] = {}
    with connect(store) as con:
        for name in label_sets(store):
            found[name] = pair["label"]
            if name == "original":
                continue
            overlay = parquet([label_set_path(store, name)])
            sql = f"SELECT label FROM {overlay} WHERE pair_id = ?"
            for (label,) in con.execute(sql, [pair["pair_id"]]).fetchall():
                found[name] = label
    return found


def votes_on(con: Connection, pair: dict[str, Any]) -> list[dict[str, Any]]:
    """Votes on the pair, and on others of the same prompt and images, turned to its order.

    Keys: annotator, choice (1, 0 or .5 for this pair's image_0), time, pair_id. At most 200.
    """
    sql = (
        "SELECT v.annotator, CASE WHEN p.image_0 = ? OR v.choice IS NULL THEN v.choice"
        " ELSE 1 - v.choice END AS choice, v.time, v.pair_id FROM votes v"
        " JOIN pairs p USING (pair_id) WHERE p.comparison_id = ?"
        " ORDER BY v.pair_id <> ?, v.time NULLS LAST, v.annotator LIMIT 200"
    )
    keys = (pair["image_0"], pair["comparison_id"], pair["pair_id"])
    return list(fetch(con, sql, *keys).to_pylist())


def siblings(con: Connection, pair: dict[str, Any], limit: int = 12) -> list[dict[str, Any]]:
    """Other pairs of the same prompt: pair_id, label, same_images."""
    sql = (
        "SELECT pair_id, label, comparison_id = ? AS same_images FROM pairs"
        f" WHERE prompt = ? AND pair_id <> ? ORDER BY same_images DESC, pair_id LIMIT {limit}"
    )
    keys = (pair["comparison_id"], pair["prompt"], pair["pair_id"])
    return list(fetch(con, sql, *keys).to_pylist())


@dataclass(frozen=True)
class Scores:
    """A scorer's two scores on a pair; None where there is none, and why."""

    scorer: str
    score_0: float | None
    score_1: float | None
    reason: str


def scores_on(store: Store, pair: dict[str, Any]) -> list[Scores]:
    """What every scorer that left rows in the store says of the pair, by scorer."""
    found = []
    with connect(store) as con:
        for scorer in scorers_in(store):
            files = parquet(parts(store.folder("scores", scorer)))
            sql = (
                f"SELECT image_id, score, reason FROM {files} WHERE image_id IN (?, ?)"
                " AND (prompt IS NULL OR prompt = ?) ORDER BY score IS NOT NULL, score DESC"
            )
            keys = (pair["image_0"], pair["image_1"], pair["prompt"])
            rows = {row["image_id"]: row for row in fetch(con, sql, *keys).to_pylist()}
            sides = [rows.get(pair[slot], {}) for slot in ("image_0", "image_1")]
            reasons = dict.fromkeys(side["reason"] for side in sides if side.get("reason"))
            first, second = (side.get("score") for side in sides)
            found.append(Scores(scorer, first, second, "; ".join(reasons)))
    return found


def findings_on(store: Store, run: str, pair_id: str) -> list[Value]:
    """What every finding of a run says about the pair, in the order of findings and columns.

    Of each only the pair's own row group is read whole, and of the rest the columns that rank it.
    """
    found: list[Value] = []
    row: int | None = None
    for name in findings(store, run):
        with pq.ParquetFile(readable(store.findings(run) / f"{name}.parquet")) as file:
            if "pair_id" in file.schema_arrow.names:
                row, said = _row_of(file, pair_id, row)
                found += _values(file, run, name, said)
    return found


def _row_of(
    file: pq.ParquetFile, pair_id: str, guess: int | None
) -> tuple[int | None, dict[str, Any] | None]:
    """The pair's row and what it says; the guess and None where the finding leaves the pair out.

    analyze writes the same pairs in the same order, so the last finding's row is the first guess.
    """
    if guess is not None and (said := _row_at(file, guess)) and said["pair_id"] == pair_id:
        return guess, said
    place = pc.index(file.read(columns=["pair_id"])[0], pa.scalar(pair_id, pa.string())).as_py()
    return (guess, None) if place < 0 else (place, _row_at(file, place))


def _row_at(file: pq.ParquetFile, row: int) -> dict[str, Any] | None:
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if row < size:
            return dict(file.read_row_group(group).slice(row, 1).to_pylist()[0])
        row -= size
    return None


def _values(file: pq.ParquetFile, run: str, name: str, said: dict[str, Any] | None) -> list[Value]:
    if said is None:
        return []
    row = {column: value for column, value in said.items() if column != "pair_id"}
    schema = file.schema_arrow
    ranked = [column for column in row if _is_score(schema, column) and _known(row[column])]
    lower: dict[str, float] = {}
    for column, values in zip(ranked, file.read(columns=ranked).columns, strict=True):
        scores = values.to_numpy()  # null as NaN, which is neither smaller nor known
        known = len(scores) - int(np.isnan(scores).sum())
        lower[column] = int((scores < row[column]).sum()) / known
    return [
        Value(run, name, column, value if _known(value) else None, lower.get(column))
        for column, value in row.items()
    ]


def _is_score(schema: pa.Schema, column: str) -> bool:
    return bool(pa.types.is_floating(schema.field(column).type))


def _known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and value != value)


def trajectory_bytes(store: Store, run: str) -> int:
    """Size of a run's trajectory on disk."""
    files = store.run(run).glob("trajectory/rank-*/part-*.parquet")
    return sum(file.stat().st_size for file in files)
