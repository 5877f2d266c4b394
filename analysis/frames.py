"""Anybody's frame: pandas, polars, Arrow and all that speaks the Arrow PyCapsule interface."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.ranking_metrics import Detection, measure
from analysis.trajectory import numbers
from toolkit.errors import InputError


def as_arrow(frame: Any, *needed: str) -> pa.Table:
    """A frame as an Arrow table, without copying where Arrow allows it.

    Args:
        frame: A pandas or polars DataFrame, an Arrow table, anything with `__arrow_c_stream__`, or
            a mapping of column names to arrays.
        needed: Columns that must be there. `variability` may also be called
            `cartography.variability`, as a pair table names the columns of findings.

    Raises:
        InputError: It is no frame, or lacks a column.

        >>> as_arrow({"score": [0.1, 0.9]}, "score").num_rows
        2
    """
    if isinstance(frame, pa.Table):
        table = frame
    elif hasattr(frame, "iloc"):  # pandas; its index is no column
        table = pa.Table.from_pandas(frame, preserve_index=False)
    elif hasattr(frame, "__arrow_c_stream__"):
        table = pa.table(frame)
    elif isinstance(frame, Mapping):
        table = pa.table({name: pa.array(values) for name, values in frame.items()})
    else:
        raise InputError(
            f"{type(frame).__name__} is no frame; pass a pandas or polars DataFrame, an Arrow "
            "table, or a dict of columns."
        )
    for place, field in enumerate(table.schema):  # string views (polars): few kernels take them
        if pa.types.is_string_view(field.type):
            table = table.set_column(place, field.name, table[field.name].cast(pa.string()))
    for name in needed:
        if name in table.column_names:
            continue
        of_findings = [own for own in table.column_names if own.endswith(f".{name}")]
        if len(of_findings) != 1:
            raise InputError(
                f"The frame has no column {name!r} (columns: {', '.join(table.column_names)}); "
                f"this needs {', '.join(needed)}."
            )
        table = table.append_column(name, table[of_findings[0]])
    return table


def detect(
    frame: Any,
    *,
    score: str,
    flipped: str,
    group: str | None = None,
    direction: Literal["high", "low"] = "high",
    resamples: int = 500,
    seed: int = 0,
) -> Detection:
    """How well a score finds the labels that are known to be flipped.

    Args:
        frame: As of `as_arrow`, one row per pair.
        score: The column of scores; null or NaN is no score.
        flipped: The column that says which labels are flipped: booleans, or 0 and 1. Rows with a
            null are left out.
        group: A column whose equal rows go together when intervals are resampled: the prompt.
        direction: Which side of the score is suspicious.
        resamples: Bootstrap resamples behind each interval.
        seed: Of the resamples.

    Returns:
        AUROC, AUPRC, precision among as many top pairs as there are flips, and recall at 5 % false
        positives, each with a 95 % interval; the flipped share by tenths of the score.

    Raises:
        InputError: A column is absent, or is not what it should be.

        >>> found = detect({"u": [0.9, 0.8, 0.2, 0.1], "bad": [True, False, True, False]},
        ...                score="u", flipped="bad")
        >>> found.auroc.value
        0.75
    """
    if direction not in ("high", "low"):
        raise InputError(f"direction is 'high' or 'low', not {direction!r}.")
    needed = [score, flipped, *([] if group is None else [group])]
    table = as_arrow(frame, *needed)
    table = table.filter(pc.is_valid(table[flipped]))
    values = _numbers(table, score)
    marks = _numbers(table, flipped)
    if odd := set(np.unique(marks).tolist()) - {0.0, 1.0}:
        raise InputError(
            f"The column {flipped!r} contains {min(odd):g}; it says which labels are flipped, by "
            "true and false or 1 and 0."
        )
    groups = np.arange(len(marks))
    if group is not None:
        groups = np.asarray(table[group].to_pylist(), np.str_)
    turned = values if direction == "high" else -values
    return measure(score, turned, marks == 1, groups, resamples=resamples, seed=seed)


def _numbers(table: pa.Table, name: str) -> Any:
    kind = table.schema.field(name).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"The column {name!r} contains {kind}; it must contain numbers.")
    column = table[name].cast(pa.int8()) if pa.types.is_boolean(kind) else table[name]
    return numbers(column)
