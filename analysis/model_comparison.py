"""Models compared by the scores of their samples, prompt by prompt and seed by seed.

Samples of a prompt go together, so prompts are resampled; two models are compared on the same
noise, so their difference is taken before the mean. `write_sheet` shows models by scorers, and
their images of a prompt side by side.
"""

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from math import isnan
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa

from analysis.ranking_metrics import Interval, mean_interval
from toolkit.errors import InputError
from toolkit.files.atomic import write_text_whole
from toolkit.image_files import decode, thumbnail
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
        row_of = [rows.get((figure, model)) for figure in figures]
        table.append((model, [row if row and row["mean"] is not None else None for row in row_of]))
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
        mean = mean_interval(values, prompts, resamples=resamples)
    else:
        mean = Interval(None, None, None)
    first = "win_rate" if name == "win" else name
    return {first: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}


def write_sheet(
    path: Path,
    samples: pa.Table,
    scores: pa.Table,
    comparison: pa.Table,
    models: Sequence[str],
    *,
    about: str,
    headings: Mapping[str, str] | None = None,
    rows: int = 24,
) -> Path:
    """One self-contained HTML page, the images in it no larger than thumbnails.

    `headings`: scorer -> its short name, in the order of the table of models; figures of others
    are in the longer table only. `rows`: how many prompts and seeds are shown, a row each, every
    model's image of it with its scores beneath. InputError where the page cannot be written.
    """
    headings = headings or {}
    figures, table = by_model(comparison, list(headings))
    source = files("analysis").joinpath("templates/samples.html").read_text(encoding="utf-8")
    page = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(source)
    text = page.render(
        about=about,
        models=list(models),
        comparison=comparison.to_pylist(),
        figures=figures,
        table=table,
        headings=headings,
        rows=grid(samples, scores, models, headings, rows),
    )
    try:
        return write_text_whole(path, text)
    except OSError as problem:
        raise InputError(
            f"The page could not be written to {path} ({problem.strerror}); name a folder you may "
            "write with --out."
        ) from problem


def grid(
    samples: pa.Table,
    scores: pa.Table,
    models: Sequence[str],
    headings: Mapping[str, str],
    rows: int,
) -> list[dict[str, Any]]:
    """Prompt, seed and a cell a model (None without an image): its image and scores."""
    values: dict[tuple[str, Key], dict[str, float]] = {}
    for row in scores.to_pylist():
        key: Key = (row["prompt_index"], row["seed"])
        values.setdefault((row["model"], key), {})[row["figure"]] = row["value"]
    every = dict.fromkeys([*headings, *scores["figure"].to_pylist()])
    order = samples.sort_by([("prompt_index", "ascending"), ("seed", "ascending")])
    cards: dict[Key, dict[str, Any]] = {}
    for row in order.to_pylist():
        key = (row["prompt_index"], row["seed"])
        if key not in cards and len(cards) == rows:
            break
        shown = cards.setdefault(key, {"prompt": row["prompt"], "seed": row["seed"], "cells": {}})
        mine = values.get((row["model"], key), {})
        listed = [(headings.get(f, f), mine[f]) for f in every if f in mine and not isnan(mine[f])]
        shown["cells"][row["model"]] = {"image": _source(row["png"]), "scores": listed}
    return [
        {**shown, "cells": [shown["cells"].get(model) for model in models]}
        for shown in cards.values()
    ]


def _source(png: bytes) -> str:
    """An image as the source of an img element."""
    small = thumbnail(decode(png).image)
    kind, data = ("jpeg", small) if small else ("png", png)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
