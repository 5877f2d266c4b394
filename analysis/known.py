"""How well a dataset lets itself be cleaned: known flips, from a file or planted on purpose."""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import InputError

RATE = 0.05
"""Share of labels that a self-check flips: enough to measure, few enough to train on."""


def read_flips(path: str | Path, known: set[str]) -> list[str]:
    """pair_ids known to be flipped, from a Parquet or CSV file with a column pair_id.

    A column `flipped` (true, 1 or yes) says which rows count where there is one; else all do.
    InputError where the file cannot be read, has no pair_id, or names no pair of `known`.
    """
    rows = read_rows(path, "pair_id")
    chosen = [
        str(row["pair_id"])
        for row in rows
        if str(row.get("flipped", True)).strip().lower() in ("true", "1", "1.0", "yes")
    ]
    inside = sorted(set(chosen) & known)
    if not inside:
        raise InputError(
            f"{path} names {len(chosen):,} flipped pairs, none of which this run met; its column "
            "pair_id must hold the store's ids."
        )
    return inside


def read_ballots(path: str | Path) -> pa.Table:
    """Voices from a Parquet or CSV file with columns pair_id, voice and choice (1, 0, .5).

    InputError where the file cannot be read, lacks a column or holds another choice.
    """
    rows = read_rows(path, "pair_id", "voice", "choice")
    try:
        choice = [
            None if row["choice"] in (None, "") else float(str(row["choice"])) for row in rows
        ]
    except (TypeError, ValueError) as problem:
        raise InputError(
            f"{path} holds a choice that is no number ({problem}); write 1 (image_0), 0 (image_1), "
            ".5 (tie) or nothing."
        ) from problem
    names = [[str(row[key]) for row in rows] for key in ("pair_id", "voice")]
    return pa.table(
        {
            "pair_id": pa.array(names[0], pa.string()),
            "voice": pa.array(names[1], pa.string()),
            "choice": pa.array(choice, pa.float64()),
        }
    )


def read_rows(path: str | Path, *needed: str) -> list[dict[str, object]]:
    """Rows of a Parquet or CSV file that has these columns. InputError otherwise."""
    place = Path(path)
    try:
        if place.suffix == ".parquet":
            rows = pq.read_table(place).to_pylist()
            columns = pq.read_schema(place).names
        else:
            with place.open(newline="", encoding="utf-8-sig") as lines:
                reader = csv.DictReader(lines)
                rows, columns = list(reader), list(reader.fieldnames or [])
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as problem:
        raise InputError(
            f"{place} cannot be read ({problem}); name a Parquet or CSV file with columns "
            f"{', '.join(needed)}."
        ) from problem
    missing = [name for name in needed if name not in columns]
    if missing:
        raise InputError(
            f"{place} has no column {', '.join(missing)} (it has {', '.join(columns) or 'none'}); "
            f"it needs {', '.join(needed)}."
        )
    return rows
