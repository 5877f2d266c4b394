"""A run read once, in chunks of a million rows by step, so that it need not fit in memory."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from analysis import trajectory as arrays
from analysis.pair_stats import Digest, digest
from analysis.recompute_metric import metric_of, metrics_of
from analysis.trajectory import COLUMNS, LOGGED, Floats, Trajectory, chunk, nothing_left, numbers
from toolkit.errors import StoreError
from toolkit.files.remote import readable
from toolkit.minority import Metric
from toolkit.preference import sign
from toolkit.store import Store
from toolkit.store.runs import run_about
from toolkit.store.trajectory import (
    CaptionDropout,
    Part,
    caption_dropout,
    trajectory_parts,
)

CHUNK = 1_000_000
"""Rows read at a time; a chunk holds about as many, and whole steps."""


@dataclass
class Stream:
    """The rows of a run, to be walked once: `for chunk in stream.chunks()`."""

    parts: Sequence[Part]
    models: tuple[str, ...]
    pair_ids: npt.NDArray[np.str_]
    """(P,) the store's pairs, sorted."""
    sign: Floats
    """(P,) float32: 1, -1, or NaN where the label set states no preference."""
    train_timesteps: int = 1000
    dropout: CaptionDropout | None = None
    """Of captions, where the run's recipe has it."""
    columns: tuple[str, ...] = COLUMNS + LOGGED
    rows: int = CHUNK
    excluded: Counter[str] = field(default_factory=Counter)
    """Rows left out so far, by reason."""

    @property
    def steps(self) -> int:
        """Optimiser steps the run spans."""
        return max(part.last_step for part in self.parts) + 1

    def chunks(self) -> Iterator[Trajectory]:
        """Usable rows in order of step, read ahead by a thread. StoreError where none is usable."""
        find = _Finder(self.pair_ids)
        used = 0
        shared = _shared_steps(self.parts)
        frames = _by_step(self.parts, self.columns, self.rows)
        made = (self._chunk(frame, find, shared) for frame in frames)
        for ready in _ahead(ready for ready in made if ready is not None):
            used += len(ready.pair)
            yield ready
        if not used:
            total = sum(part.rows for part in self.parts)
            raise StoreError(nothing_left(total, self.excluded))

    def _chunk(
        self, frame: pl.DataFrame, find: "_Finder", shared: list[tuple[int, int]]
    ) -> Trajectory | None:
        pair = find(frame["pair_id"])
        if self.dropout is not None and frame["captioned"].null_count():
            frame = pl.DataFrame(self.dropout.filled(frame.to_arrow()))
        table = frame.drop("pair_id").to_arrow()
        table = table.append_column("known", pa.array(pair >= 0))
        table = table.append_column("pair", pa.array(pair))
        table, difference, out = arrays.usable(table, len(self.models))
        self.excluded.update(out)
        use = self._unrepeated(table, shared)
        if use is not None:
            table, difference = table.filter(pa.array(use)), difference[:, use]
        if not table.num_rows:
            return None
        pair = table["pair"].to_numpy()
        return chunk(
            table,
            difference,
            self.models,
            self.pair_ids,
            pair,
            self.sign[pair],
            steps=self.steps,
            excluded={},
            train_timesteps=self.train_timesteps,
        )

    def _unrepeated(
        self, table: pa.Table, shared: list[tuple[int, int]]
    ) -> npt.NDArray[np.bool_] | None:
        """Rows to keep where some were met before: a resumed run writes its last steps again."""
        step = arrays.ints(table, "step")
        low, high = (int(step.min()), int(step.max())) if len(step) else (0, -1)
        doubtful = np.zeros(len(step), bool)
        for first, last in shared:
            if first <= high and last >= low:
                doubtful |= (step >= first) & (step <= last)
        suspects = np.flatnonzero(doubtful)
        if not len(suspects):
            return None
        some = table.take(pa.array(suspects))
        names = ("draw", "visit", "pair")
        train, late = arrays.is_train(some), step[suspects]
        keys = [*(arrays.ints(some, name) for name in names), train, np.where(train, 0, late)]
        kept = arrays.unrepeated(keys, late)
        if len(kept) == len(suspects):
            return None
        use = np.ones(table.num_rows, bool)
        use[suspects] = False
        use[suspects[kept]] = True
        self.excluded["repeated"] += int((~use).sum())
        return use


class _Finder:
    """Positions of ids in a sorted list, by one hash index that is built once."""

    def __init__(self, ids: npt.NDArray[np.str_]) -> None:
        self._index = pd.Index(pl.Series(ids.tolist(), dtype=pl.String).hash().to_numpy())

    def __call__(self, ids: pl.Series) -> npt.NDArray[np.int64]:
        """(N,) position, -1 where unknown. 64-bit hashes: strangers pass once in 1e12 times."""
        return np.asarray(self._index.get_indexer(ids.hash().to_numpy()), np.int64)


def _by_step(parts: Sequence[Part], columns: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:
    """Frames of whole steps in order of step, all lanes together.

    The lane that is furthest behind is read next. Steps up to the last one that every lane has
    shown are given out; that step itself may continue in a lane's next part.
    """
    waiting = {number: _pieces(lane, rows) for number, lane in enumerate(_lanes(parts))}
    shown = {number: pieces[0][0].first_step for number, pieces in waiting.items()}
    frames: list[pl.DataFrame] = []
    while waiting:
        lane = min(waiting, key=lambda number: shown[number])
        piece = waiting[lane].pop(0)
        frames.extend(_read(part, columns) for part in piece)
        shown[lane] = piece[-1].last_step
        if not waiting[lane]:
            del waiting[lane]
        frame = pl.concat(frames)
        frames = []
        if waiting:
            frame, rest = _cut(frame, min(shown[number] for number in waiting))
            frames = [rest]
        if len(frame):
            yield frame


def _lanes(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts in lanes along which steps never fall: a rank's, or a rank's since it was resumed."""
    lanes: list[list[Part]] = []
    for part in parts:
        last = lanes[-1][-1] if lanes else None
        if last is None or last.rank != part.rank or part.first_step < last.last_step:
            lanes.append([])
        lanes[-1].append(part)
    return lanes


def _pieces(lane: list[Part], rows: int) -> list[list[Part]]:
    """Parts of about `rows` rows together."""
    pieces: list[list[Part]] = []
    size = rows
    for part in lane:
        if size + part.rows > rows:
            pieces.append([])
            size = 0
        pieces[-1].append(part)
        size += part.rows
    return pieces


def _read(part: Part, columns: Sequence[str]) -> pl.DataFrame:
    try:
        there = set(pq.read_schema(readable(part.path)).names)
        absent = [name for name in columns if name == "captioned" and name not in there]
        wanted = [name for name in columns if name not in absent]
        frame = pl.read_parquet(readable(part.path), columns=wanted, glob=False)
        nulls = [pl.lit(None, pl.Boolean).alias(name) for name in absent]
        return frame.with_columns(nulls).select(columns)
    except (OSError, pl.exceptions.PolarsError) as problem:
        raise StoreError(
            f"{part.path} cannot be read as a part of a trajectory ({problem}); restore it from a "
            "copy, or move it out of the run's folder to continue without its rows."
        ) from problem


def _cut(frame: pl.DataFrame, below: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    early = frame["step"] < below
    if frame["step"].is_sorted():
        place = int(early.sum())
        return frame[:place], frame[place:]
    return frame.filter(early), frame.filter(~early)


def _shared_steps(parts: Sequence[Part]) -> list[tuple[int, int]]:
    """Spans of steps, ends included, that two parts of a rank hold: rows may be there twice."""
    shared = []
    for _, own in groupby(parts, lambda part: part.rank):
        reached: int | None = None
        for part in own:
            if reached is not None and part.first_step <= reached:
                shared.append((part.first_step, reached))
            reached = part.last_step if reached is None else max(reached, part.last_step)
    return shared


def _ahead(chunks: Iterator[Trajectory]) -> Iterator[Trajectory]:
    """The same chunks, the next one made while this one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, chunks, None)
        while (ready := coming.result()) is not None:
            coming = pool.submit(next, chunks, None)
            yield ready


def digest_run(
    store: Store, run: str, facts: pa.Table, *, metrics: dict[str, Metric] | None = None
) -> tuple[Digest, dict[str, Any]]:
    """Walk a run's rows once, in bounded memory; and its run.json. `facts`: `pair_facts`.

    StoreError in a sentence where the run, its models or its rows are missing.
    """
    about = run_about(store, run)
    metric = metric_of(about)
    wanted = metrics_of(metric) if metrics is None else metrics
    stream = stream_run(store, run, facts, about)
    own = next((name for name, other in wanted.items() if other == metric), None)
    if stream.dropout is not None and about.get("dropped_captions") != "leave_out":
        own = None  # training scored visits that are left out here
    sums = digest(stream.chunks(), wanted, own=own, beta=_beta(about))
    sums.excluded = dict(+stream.excluded)
    return sums, about


def stream_run(store: Store, run: str, facts: pa.Table, about: dict[str, Any]) -> Stream:
    """A run's rows, to be walked once, under the labels of `facts`."""
    models = tuple(_models(about, run))
    label = numbers(facts["label"])
    return Stream(
        parts=trajectory_parts(store, run),
        models=models,
        pair_ids=np.asarray(facts["pair_id"].to_pylist(), np.str_),
        sign=sign(label).astype(np.float32),
        train_timesteps=timesteps(about),
        dropout=caption_dropout(store, run),
    )


def _models(about: dict[str, Any], run: str) -> list[str]:
    models = about.get("models")
    if not isinstance(models, list) or not models:
        raise StoreError(
            f'run.json of run {run!r} names no models; add "models": ["policy", ...] in the '
            "order in which its rows list their errors."
        )
    return [str(name) for name in models]


def timesteps(about: dict[str, Any]) -> int:
    """Timesteps of the noise schedule that the run trained under."""
    return int(about.get("train_timesteps", 1000))


def _beta(about: dict[str, Any]) -> float | None:
    objective = about.get("objective")
    beta = objective.get("beta") if isinstance(objective, dict) else None
    return float(beta) if isinstance(beta, int | float) and beta > 0 else None
