"""Models compared by the scores of their samples, prompt by prompt and seed by seed.

Samples of a prompt go together, so prompts are resampled; two models are compared on the same
noise, so their difference is taken before the mean.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.bootstrap import Interval, mean_interval
from toolkit.schema import column

COMPARISON = pa.schema(
    [
        column("model", pa.string(), "name of the model", nullable=False),
        column("figure", pa.string(), "what was measured; larger is better", nullable=False),
        column("samples", pa.int64(), "images with a value"),
        column("mean", pa.float64(), "mean over samples"),
        column("mean_low", pa.float64(), "its 95 % interval over prompts"),
        column("mean_high", pa.float64(), "upper end"),
        column("gain", pa.float64(), "mean of the difference to the first model, same noise"),
        column("gain_low", pa.float64(), "its 95 % interval"),
        column("gain_high", pa.float64(), "upper end"),
        column("win_rate", pa.float64(), "share of samples above the first model's; ties half"),
        column("win_low", pa.float64(), "its 95 % interval"),
        column("win_high", pa.float64(), "upper end"),
    ]
)

Key = tuple[int, int]


def compare(scores: pa.Table, models: Sequence[str], *, resamples: int = 1000) -> pa.Table:
    """Every model and figure against the first of `models`; schema COMPARISON.

    `scores`: model, prompt_index, seed, figure, value. The first model's own gain is 0 and its win
    rate .5. A model without a common sample has neither.
    """
    values: dict[tuple[str, str], dict[Key, float]] = {}
    for row in scores.to_pylist():
        key = (row["prompt_index"], row["seed"])
        values.setdefault((row["model"], row["figure"]), {})[key] = row["value"]
    figures = list(dict.fromkeys(scores["figure"].to_pylist()))
    rows = []
    for figure in figures:
        first = values.get((models[0], figure), {})
        for name in models:
            mine = values.get((name, figure), {})
            known = sum(not np.isnan(value) for value in mine.values())
            row = {"model": name, "figure": figure, "samples": known}
            rows.append({**row, **_intervals(mine, first, resamples)})
    return pa.Table.from_pylist(rows, schema=COMPARISON)


def by_model(
    comparison: pa.Table, order: Sequence[str]
) -> tuple[list[str], list[tuple[str, list[dict[str, Any] | None]]]]:
    """The comparison as tables of papers have it: the figures of `order` that were measured, and
    for each model its row of COMPARISON under each, None where it has no mean."""
    rows = {(row["figure"], row["model"]): row for row in comparison.to_pylist()}
    figures = [name for name in order if any(figure == name for figure, _ in rows)]
    models = list(dict.fromkeys(comparison["model"].to_pylist()))
    table = []
    for model in models:
        found = [rows.get((figure, model)) for figure in figures]
        table.append((model, [row if row and row["mean"] is not None else None for row in found]))
    return figures, table


def _intervals(
    mine: dict[Key, float], first: dict[Key, float], resamples: int
) -> dict[str, float | None]:
    keys = sorted(mine)
    common = [key for key in keys if key in first]
    gap = np.array([mine[key] - first[key] for key in common])
    won = np.where(np.isnan(gap), np.nan, (np.sign(gap) + 1) / 2)
    return {
        **_named("mean", np.array([mine[key] for key in keys]), keys, resamples),
        **_named("gain", gap, common, resamples),
        **_named("win", won, common, resamples),
    }


def _named(
    name: str, values: np.ndarray, keys: Sequence[Key], resamples: int
) -> dict[str, float | None]:
    if len(values):
        prompts = np.array([prompt for prompt, _ in keys])
        found = mean_interval(values, prompts, resamples=resamples)
    else:
        found = Interval(None, None, None)
    first = "win_rate" if name == "win" else name
    return {first: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
