"""A run's trajectory: its parts for streaming, and single pairs' rows with their labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from toolkit.errors import StoreError
from toolkit.files.remote import readable
from toolkit.ids import is_captioned
from toolkit.store.connection import add_labels, add_trajectory, connect, fetch, quoted
from toolkit.store.label_sets import ORIGINAL, axis_of
from toolkit.store.layout import Store
from toolkit.store.runs import run_about


@dataclass(frozen=True)
class Part:
    """One file of a run's rows, of one rank, with the steps it spans."""

    path: Path
    rank: str
    rows: int
    first_step: int
    last_step: int


def trajectory_parts(store: Store, run: str) -> list[Part]:
    """A run's parts, rank by rank, in the order they were written; only footers are read.

    StoreError where the run is absent, left no rows, or left a part that cannot be read.
    """
    run_about(store, run)
    filled = [part for part in map(_part, store.trajectory(run)) if part.rows]
    if not filled:
        raise StoreError(_no_rows(store, run))
    return filled


def _part(path: Path) -> Part:
    try:
        about = pq.read_metadata(readable(path))
        place = about.schema.names.index("step")
    except (OSError, pa.ArrowInvalid, ValueError) as problem:
        raise StoreError(
            f"{path} cannot be read as a part of a trajectory ({problem}); restore it from a copy, "
            "or move it out of the run's folder to continue without its rows."
        ) from problem
    groups = [about.row_group(k).column(place).statistics for k in range(about.num_row_groups)]
    if about.num_rows and not all(group is not None and group.has_min_max for group in groups):
        steps = pq.read_table(readable(path), columns=["step"])["step"].to_numpy()
        return Part(path, path.parent.name, about.num_rows, int(steps.min()), int(steps.max()))
    first = min((group.min for group in groups), default=0)
    last = max((group.max for group in groups), default=0)
    return Part(path, path.parent.name, about.num_rows, first, last)


@dataclass(frozen=True)
class CaptionDropout:
    """What a run's recipe says of dropped captions. Rows of older versions do not say it, but it
    follows from the pair and the draw."""

    seed: int
    share: float

    def filled(self, table: pa.Table) -> pa.Table:
        """A table of rows (pair_id, draw, kind, captioned) whose `captioned` has no null."""
        column = table["captioned"]
        if not column.null_count:
            return table
        known, kinds = column.to_pylist(), table["kind"].to_pylist()
        keys = zip(table["pair_id"].to_pylist(), table["draw"].to_pylist(), strict=True)
        values = [
            noted
            if noted is not None
            else kind != "train" or is_captioned(self.seed, *key, self.share)
            for noted, kind, key in zip(known, kinds, keys, strict=True)
        ]
        place = table.column_names.index("captioned")
        return table.set_column(place, "captioned", pa.array(values, pa.bool_()))


def caption_dropout(store: Store, run: str) -> CaptionDropout | None:
    """Of a run whose recipe drops captions; None of any other."""
    try:
        recipe = yaml.safe_load((store.run(run) / "recipe.yaml").read_text(encoding="utf-8"))
        seed, share = int(recipe.get("seed", 0)), float(recipe.get("caption_dropout", 0))
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError):
        return None  # a run of somebody's own loop
    return CaptionDropout(seed, share) if share else None


def read_trajectory(
    store: Store,
    run: str,
    columns: Sequence[str],
    *,
    label_set: str = ORIGINAL,
    pairs: Sequence[str] | None = None,
    kind: str | None = None,
) -> pa.Table:
    """These columns of a run's rows, of all pairs or some, with the pairs' labels as of now.

    `kind`: train or probe; both where it is None.

    Adds `set_label` (the pair's label in `label_set`) and `known` (false where the store has no
    such pair). Without `pairs` every row is read: for small runs only. StoreError where the run is
    absent or has no such rows. Rows are in no order.
    """
    wanted = ", ".join(f"t.{quoted(name)}" for name in columns)
    with connect(store) as con:
        add_trajectory(con, store, run)
        add_labels(con, store, label_set)
        among = ""
        if pairs is not None:
            con.register("__wanted", pa.table({"pair_id": pa.array(list(pairs), pa.string())}))
            among = "SEMI JOIN __wanted w ON t.pair_id = w.pair_id"
        table = fetch(
            con,
            f"SELECT {wanted}, l.label AS set_label, l.pair_id IS NOT NULL AS known "
            f"FROM trajectory t {among} LEFT JOIN labelled l ON t.pair_id = l.pair_id "
            "WHERE t.kind = coalesce(?, t.kind)",
            kind,
        )
    if table.num_rows == 0 and pairs is None:
        raise StoreError(_no_rows(store, run))
    asked = {"pair_id", "draw", "kind", "captioned"} <= set(columns)
    dropout = caption_dropout(store, run) if asked else None
    return table if dropout is None else dropout.filled(table)


def _no_rows(store: Store, run: str) -> str:
    return (
        f"Run {run!r} has no trajectory rows, so there is nothing to analyze; train it with the "
        f"recorder on (`outvoted train RECIPE`) or name another run ({', '.join(store.runs())})."
    )


def read_votes(store: Store, labels: str | None = None) -> pa.Table:
    """pair_id, annotator and choice (0 to 1, .5 a tie, or null) of every vote.

    `labels`: only votes on what this label set is about: an axis, or which image is preferred.
    """
    columns, values = "pair_id, annotator, CAST(choice AS DOUBLE) choice", []
    among = ""
    if labels is not None:
        among, values = " WHERE axis IS NOT DISTINCT FROM ?", [axis_of(store, labels)]
    with connect(store) as con:
        return fetch(con, f"SELECT {columns} FROM votes{among}", *values)
