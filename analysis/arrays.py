"""Columns of a trajectory table as numpy arrays."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from toolkit.minority import gap

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]


def usable(table: pa.Table, models: int) -> tuple[pa.Table, Floats, dict[str, int]]:
    """The rows that can be used, their `difference`, and how many are left out, by reason.

    Left out are rows of pairs the store does not know (`known`), rows with another number of
    errors than models, and rows with an error that is not finite.
    """
    out: dict[str, int] = {}
    table = keep(table, table["known"], "unknown_pair", out)
    table = keep(table, whole(table, models), "wrong_models", out)
    found = difference(table, models)
    finite = np.isfinite(found).all(axis=0)
    table = keep(table, finite, "not_finite", out)
    return table, found[:, finite] if out["not_finite"] else found, out


def keep(table: pa.Table, mask: pa.ChunkedArray | Mask, why: str, out: dict[str, int]) -> pa.Table:
    """The rows of the mask; how many are left out goes into `out[why]`."""
    held = np.asarray(mask)
    out[why] = int(len(held) - held.sum())
    return table.filter(pa.array(held)) if out[why] else table


def whole(table: pa.Table, models: int) -> pa.ChunkedArray:
    """Which rows hold one error a model, for both images."""
    lengths = [pc.equal(pc.list_value_length(table[n]), models) for n in ("err_0", "err_1")]
    return pc.fill_null(pc.and_(*lengths), False)


def difference(table: pa.Table, models: int) -> Floats:
    """(M, N) float32 by image slot, in the order of operations of `toolkit.minority.gap`."""
    slots = [_flat(table, name).reshape(-1, models).T for name in ("err_0", "err_1")]
    references = [floats(table, name) for name in ("err_ref_0", "err_ref_1")]
    found: Floats = gap(references[0], references[1], slots[0], slots[1])
    return np.ascontiguousarray(found)


def _flat(table: pa.Table, name: str) -> Floats:
    flat = pc.list_flatten(table[name]).cast(pa.float32())
    return np.asarray(flat.to_numpy(), np.float32)


def floats(table: pa.Table, name: str) -> Floats:
    """(N,) float32, null as NaN."""
    return np.asarray(table[name].cast(pa.float32()).to_numpy(), np.float32)


def ints(table: pa.Table, name: str, missing: int = -1) -> Ints:
    """(N,) int64, null as `missing`."""
    return np.asarray(pc.fill_null(table[name].cast(pa.int64()), missing).to_numpy(), np.int64)


def is_train(table: pa.Table) -> Mask:
    """(N,) True for a visit, False for a probe; all True where the table does not say."""
    if "kind" not in table.column_names:
        return np.ones(table.num_rows, bool)
    return np.asarray(pc.equal(table["kind"], "train").to_numpy(), bool)


def numbers(values: pa.ChunkedArray) -> Floats:
    """A column as float64, null as NaN."""
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def coded(table: pa.Table, name: str) -> tuple[npt.NDArray[np.str_], Ints]:
    """The distinct strings of a column, sorted, and each row's position among them."""
    encoded = table[name].combine_chunks().dictionary_encode()
    names = np.asarray(encoded.dictionary.to_pylist(), dtype=np.str_)
    by_name = np.argsort(names)
    place = np.empty(len(names), np.int64)
    place[by_name] = np.arange(len(names))
    return names[by_name], place[np.asarray(encoded.indices.to_numpy(), np.int64)]


def unrepeated(keys: Sequence[npt.NDArray], step: Ints) -> Ints:
    """Rows to keep, ascending: of those alike in every key the one of the latest step."""
    order = np.lexsort((-step, *keys))
    same = np.ones(len(order), bool)
    same[:1] = False
    for key in keys:
        same[1:] &= key[order][1:] == key[order][:-1]
    return np.sort(order[~same])


def as_table(schema: pa.Schema, columns: Sequence[npt.NDArray]) -> pa.Table:
    """Arrays as a table of the schema, NaN as null; two columns at a time."""

    def made(values: npt.NDArray, kind: pa.Field) -> pa.Array:
        return pa.array(values, kind.type, from_pandas=values.dtype.kind == "f")

    with ThreadPoolExecutor(2) as pool:
        arrays = list(pool.map(made, columns, schema))
    if len(columns) != len(schema):
        raise ValueError(f"{len(columns)} columns for a schema of {len(schema)}")
    return pa.Table.from_arrays(arrays, schema=schema)
