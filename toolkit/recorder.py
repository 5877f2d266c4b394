"""The trajectory: what a run leaves for every pair it visits, and what writes it.

One row per (run, pair, visit, draw), by image slot rather than by role, so that a flip is a sign
and any label set can be joined later. `toolkit.store.record` makes a run from a training loop of
your own; it counts visits and takes errors by role.
"""

import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from toolkit.errors import StoreError, TrainingError
from toolkit.files.atomic import write_part
from toolkit.files.remote import place
from toolkit.schema import column

ERRORS = pa.list_(pa.float32())

TRAJECTORY = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("visit", pa.int32(), "how often the run visited the pair before", nullable=False),
        column("draw", pa.int32(), "which fixed draw; equals visit where draws are fresh"),
        column("step", pa.int64(), "optimiser steps done before this row", nullable=False),
        column("rank", pa.int32(), "process that computed the row"),
        column("micro", pa.int64(), "micro-batch, counted over the run and rank"),
        column("kind", pa.string(), "train, or probe (fixed draws, no gradient)", nullable=False),
        column("timestep", pa.int32(), "of the noise schedule, shared by both images"),
        column(
            "captioned", pa.bool_(), "false: caption dropout emptied the prompt, so ell is noise"
        ),
        column("err_ref_0", pa.float32(), "reference's mean squared error on image_0"),
        column("err_ref_1", pa.float32(), "the same on image_1"),
        column("err_0", ERRORS, "each model's mean squared error on image_0; order in run.json"),
        column("err_1", ERRORS, "the same on image_1"),
        column("scale", ERRORS, "factor on each model's ell in the metric; NaN: not known yet"),
        column("label", pa.float32(), "the label trained on: 1 image_0, 0 image_1"),
        column("verdict_id", pa.string(), "the verdict that set the label or weight, if one did"),
        column("confidence", pa.float32(), "c of Eq. 11, large = suspicious"),
        column("stability", pa.float32(), "s of Eq. 12, large = unstable"),
        column("minority", pa.float32(), "u = s * c, Eq. 13"),
        column("weight", pa.float32(), "W of Eq. 15 as applied, verdict's factor included"),
        column("margin", pa.float32(), "Gamma of Eq. 16 as applied"),
        column("c2", pa.float32(), "batch constant of Eq. 16"),
        column("loss", pa.float32(), "the pair's loss, weight included"),
    ]
)

_LISTS = ("err_0", "err_1", "scale")
_SCORES = ("confidence", "stability", "minority")


def rows(**columns: Any) -> pa.Table:
    """A trajectory table from arrays: (B,) each, err_0, err_1 and scale (M, B); scalars repeat.

    Absent columns are null (`kind` is "train"). Raises StoreError naming what does not fit.
    """
    unknown = sorted(set(columns) - set(TRAJECTORY.names))
    if unknown:
        raise StoreError(
            f"A trajectory row has no column {', '.join(unknown)}; the columns are "
            f"{', '.join(TRAJECTORY.names)}."
        )
    for name in ("pair_id", "visit", "step"):
        if name not in columns:
            raise StoreError(f"A trajectory row needs {name}; pass it to append({name}=...).")
    columns.setdefault("kind", "train")
    count = len(columns["pair_id"])
    arrays = [_array(field, columns.get(field.name), count) for field in TRAJECTORY]
    return pa.Table.from_arrays(arrays, schema=TRAJECTORY)


def _array(field: pa.Field, value: Any, count: int) -> pa.Array:
    if value is None:
        return pa.nulls(count, field.type)
    if field.name in _LISTS:
        block = np.asarray(value, np.float32)
        if block.ndim != 2 or block.shape[1] != count:
            raise StoreError(f"{field.name} must have shape (models, {count}), not {block.shape}.")
        offsets = np.arange(count + 1, dtype=np.int32) * block.shape[0]
        return pa.ListArray.from_arrays(offsets, np.ascontiguousarray(block.T).ravel())
    if np.ndim(value) == 0:
        return pa.repeat(pa.scalar(value, field.type), count)
    if len(value) != count:
        raise StoreError(f"{field.name} has {len(value)} values for {count} pairs.")
    if isinstance(value, np.ndarray):
        # An unknown score is NaN in the maths and null on disk; an error that is NaN stays NaN.
        return pa.array(value, from_pandas=field.name in _SCORES).cast(field.type)
    return pa.array(value, field.type)


class TrajectoryWriter:
    """Writes trajectory rows in Parquet parts from a background thread.

    `append` costs the caller a queue entry. What the thread cannot write (a full disk) comes back
    as a TrainingError from the next `append`, `flush` or `close`; parts written so far stay.
    """

    def __init__(
        self, folder: Path, models: Sequence[str], *, rank: int = 0, part_rows: int = 50_000
    ) -> None:
        self.folder = place(folder) / "trajectory" / f"rank-{rank}"
        self.models = list(models)
        self.rank = rank
        self._part_rows = part_rows
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=256)
        self._failure: BaseException | None = None
        self._tables: list[pa.Table] = []
        self._thread = threading.Thread(target=self._work, daemon=True, name="outvoted-recorder")
        self._thread.start()

    def append(self, **columns: Any) -> None:
        """Queue the rows of one micro-batch; arguments as of `rows`."""
        self._raise()
        columns.setdefault("rank", self.rank)
        self._queue.put(columns)

    def flush(self) -> None:
        """Return once every row appended so far is on the disk."""
        done = threading.Event()
        self._queue.put(done)
        done.wait()
        self._raise()

    def close(self) -> None:
        """Flush and end the thread."""
        if self._thread.is_alive():
            self.flush()
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if isinstance(item, threading.Event):
                    self._write()
                elif self._failure is None:
                    self._tables.append(rows(**item))
                    if sum(table.num_rows for table in self._tables) >= self._part_rows:
                        self._write()
            except BaseException as failure:  # handed to the training thread, which stops the run
                self._failure = failure
            finally:
                if isinstance(item, threading.Event):
                    item.set()

    def _write(self) -> None:
        if self._tables and self._failure is None:
            table = pa.concat_tables(self._tables)
            # Named by time and chance: a run in training may be probed by another process.
            write_part(self.folder, table)
            self._tables = []

    def _raise(self) -> None:
        failure = self._failure
        if failure is None:
            return
        if isinstance(failure, StoreError):
            raise failure
        raise TrainingError(
            f"The trajectory could not be written to {self.folder} ({failure}); the parts before "
            "it are whole. Free space or fix the folder's permissions, then resume the run."
        ) from failure
