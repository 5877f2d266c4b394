"""Score arrays of another trainer's processes (one .npy each), as a finding of a run of their own.

Files are taken in the order of the number in their names. With an index of the same length (row
numbers in the store's order, or the source's own __index_level_0__, or pair_ids) every value is
joined to its pair; several values of a pair are averaged and counted as visits. Without an index
nothing says which pair a value belongs to: the values are kept beside the run, unjoined.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from toolkit.errors import InputError
from toolkit.files.atomic import write_whole
from toolkit.ingest.source import Opened, Options, Source
from toolkit.schema import SOURCE_PREFIX
from toolkit.store import Store
from toolkit.store.connection import connect, fetch, read_pairs
from toolkit.store.label_sets import ORIGINAL, label_set_recipe
from toolkit.store.pseudonyms import own_ids
from toolkit.store.runs import must_be_free, start_run, write_findings

By = Literal["row", "source-row", "pair_id"]
Column = Literal["minority", "confidence", "stability", "ell", "loss"]
SOURCE_ROW = SOURCE_PREFIX + "__index_level_0__"


@dataclass(frozen=True)
class ReleasedOptions(Options):
    """Options of `outvoted ingest released-npy`."""

    paths: Annotated[Sequence[str | Path], ".npy files, or folders of them."]
    _: KW_ONLY
    run: Annotated[str, "Name of the run to make."]
    column: Annotated[
        Column, "What the values are: minority, confidence, stability, ell or loss."
    ] = "minority"
    index: Annotated[Sequence[str | Path], ".npy files with the pair of each value."] = ()
    by: Annotated[
        By, "What the index contains: rows of the store, the source's rows, or pair_ids."
    ] = "row"
    labels: Annotated[str, "Label set that the other trainer used."] = ORIGINAL


@dataclass(frozen=True)
class ReleasedArrays:
    """Values of all processes, concatenated, and what each belongs to."""

    values: npt.NDArray[np.float64]
    index: npt.NDArray[Any] | None
    files: tuple[str, ...]


@dataclass(frozen=True)
class Joined:
    """What became of the values."""

    values: int
    joined: int
    pairs: int
    run: str

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        if not self.joined:
            return [
                f"read {self.values:,} values; no index was given, so they are kept beside run "
                f"{self.run} (values.parquet) and belong to no pair"
            ]
        return [
            f"read {self.values:,} values, joined {self.joined:,} to {self.pairs:,} pairs: finding "
            f"of run {self.run}"
        ]


def open_released_npy(options: ReleasedOptions) -> Opened:
    """Read the arrays (1 axis, numbers) and their index. InputError says what does not fit."""
    files = _files(options.paths)
    values = [_numbers(file) for file in files]
    index = None
    if options.index:
        index = np.concatenate([_loaded(file) for file in _files(options.index)])
        if index.ndim != 1 or len(index) != sum(map(len, values)):
            raise InputError(
                f"The index holds {index.size:,} entries and the arrays hold "
                f"{sum(map(len, values)):,} values; give --index as many, in the same order."
            )
    arrays = ReleasedArrays(np.concatenate(values), index, tuple(map(str, files)))
    return Opened(lambda store, _: _add(store, arrays, options), len(arrays.values))


RELEASED_NPY = Source(
    "released-npy",
    "Score arrays (.npy) of another trainer, as a run",
    ReleasedOptions,
    open_released_npy,
    details="what each of its processes left, with an index of pairs where there is one",
)


_NO_RECIPE = "# imported: there is no recipe\n"


def _add(store: Store, arrays: ReleasedArrays, options: ReleasedOptions) -> Joined:
    """Make the run. InputError where an entry of the index names no pair, or several."""
    if options.labels != ORIGINAL:
        label_set_recipe(store, options.labels)
    run, column = options.run, options.column
    joined = None if arrays.index is None else _by_pair(store, arrays, column, options.by)
    about: dict[str, Any] = {
        "models": ["policy"],
        "labels": options.labels,
        "origin": "released-npy",
        "files": list(arrays.files),
        "column": column,
    }
    about |= {"finished": True, "values": len(arrays.values)}
    must_be_free(store, run)
    # run.json last: what a killed ingest leaves is no run yet, and is written again.
    if joined is None:
        write_whole(store.run(run) / "values.parquet", pa.table({column: arrays.values}))
        start_run(store, run, about, _NO_RECIPE)
        return Joined(len(arrays.values), 0, 0, run)
    write_findings(store, run, column, joined, {"labels": options.labels, "origin": "released-npy"})
    start_run(store, run, about, _NO_RECIPE)
    return Joined(len(arrays.values), len(arrays.values), joined.num_rows, run)


def _by_pair(store: Store, arrays: ReleasedArrays, column: str, by: By) -> pa.Table:
    assert arrays.index is not None
    names = read_pairs(store, ["pair_id"])[0].to_pylist()
    places = _places(store, arrays.index, by, names)
    known = ~np.isnan(arrays.values)
    sums = np.bincount(places[known], arrays.values[known], minlength=len(names))
    counts = np.bincount(places[known], minlength=len(names))
    seen = np.flatnonzero(counts)
    return pa.table(
        {
            "pair_id": pa.array([names[row] for row in seen.tolist()], pa.string()),
            "visits": pa.array(counts[seen], pa.int32()),
            column: pa.array(sums[seen] / counts[seen], pa.float32()),
        }
    ).sort_by("pair_id")


def _places(
    store: Store, index: npt.NDArray[Any], by: By, names: list[str]
) -> npt.NDArray[np.int64]:
    """The row of the pair that each entry names, in the store's order."""
    if by == "row":
        if index.dtype.kind not in "iu" or (len(index) and not index.min() >= 0):
            raise InputError("The index holds no row numbers; see --by.")
        if len(index) and index.max() >= len(names):
            raise InputError(
                f"The index names row {index.max():,}, and the store has {len(names):,} pairs; "
                "name the store that was made from the same source, or see --by."
            )
        return index.astype(np.int64)
    keys: list[Any] = names
    entries = [_key(entry) for entry in index.tolist()]
    if by == "pair_id":
        own = own_ids(store, entries)
        entries = [own.get(entry, entry) for entry in entries]
    if by == "source-row":
        if SOURCE_ROW not in _columns(store):
            raise InputError(
                "The store's pairs have no column __index_level_0__ of their source; use --by row "
                "or --by pair_id."
            )
        keys = read_pairs(store, [SOURCE_ROW])[0].to_pylist()
    return _named(keys, entries)


def _named(keys: list[Any], entries: list[Any]) -> npt.NDArray[np.int64]:
    """The one row whose key is the entry. A key that is null is no name.

    Parts of one source (train and validation, say) may each count their rows from 0, so a row
    number alone can name several pairs.
    """
    place = {key: row for row, key in enumerate(keys) if key is not None}
    strangers = [entry for entry in entries if entry not in place]
    if strangers:
        raise InputError(
            f"The index names {strangers[0]!r}, which no pair of the store has"
            + (f" (and {len(strangers) - 1:,} more)" if len(strangers) > 1 else "")
            + "; see --by."
        )
    times = Counter(keys)
    several = list(dict.fromkeys(entry for entry in entries if times[entry] > 1))
    if several:
        raise InputError(
            f"The index names {several[0]!r}, which names {times[several[0]]:,} pairs of the "
            "store"
            + (f" (and {len(several) - 1:,} more such entries)" if len(several) > 1 else "")
            + "; use --by pair_id, or --by row with row numbers of the store."
        )
    return np.array([place[entry] for entry in entries], np.int64)


def _columns(store: Store) -> list[str]:
    with connect(store) as con:
        return list(fetch(con, "SELECT * FROM pairs LIMIT 0").column_names)


def _key(entry: Any) -> Any:
    return entry.decode() if isinstance(entry, bytes) else entry


def _files(paths: Sequence[str | Path]) -> list[Path]:
    """The files named, and those of folders, by the last number in their names."""
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path} does not exist; name .npy files or a folder of them.")
        files += [path] if path.is_file() else [p for p in path.iterdir() if p.suffix == ".npy"]
    if not files:
        raise InputError(f"The folder {paths[0]} holds no .npy file; name one that does.")
    return sorted(
        files, key=lambda file: ([int(n) for n in re.findall(r"\d+", file.stem)][-1:], file.name)
    )


def _loaded(file: Path) -> npt.NDArray[Any]:
    try:
        return np.asarray(np.load(file, allow_pickle=False))
    except (ValueError, OSError, EOFError) as problem:
        raise InputError(
            f"{file} cannot be read as a .npy array ({str(problem).splitlines()[0]}); name the "
            "array itself."
        ) from problem


def _numbers(file: Path) -> npt.NDArray[np.float64]:
    values = _loaded(file)
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise InputError(
            f"{file} holds an array of shape {values.shape} and type {values.dtype}, where one "
            "axis of numbers is needed; name another file."
        )
    return values.astype(np.float64)
