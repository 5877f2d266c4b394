"""The page of an evaluation: models against scorers, and the images of a prompt side by side."""

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from math import isnan
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa

from analysis.samples import Key, by_model
from toolkit.errors import InputError
from toolkit.images import decode, thumbnail
from toolkit.parts import write_text_whole


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
    stand in the longer table only. `rows`: how many prompts and seeds are shown, a row each, every
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
    """Prompt, seed and a cell a model (None where it drew nothing): picture and scores."""
    values: dict[tuple[str, Key], dict[str, float]] = {}
    for row in scores.to_pylist():
        key: Key = (row["prompt_index"], row["seed"])
        values.setdefault((row["model"], key), {})[row["figure"]] = row["value"]
    every = dict.fromkeys([*headings, *scores["figure"].to_pylist()])
    order = samples.sort_by([("prompt_index", "ascending"), ("seed", "ascending")])
    found: dict[Key, dict[str, Any]] = {}
    for row in order.to_pylist():
        key = (row["prompt_index"], row["seed"])
        if key not in found and len(found) == rows:
            break
        shown = found.setdefault(key, {"prompt": row["prompt"], "seed": row["seed"], "cells": {}})
        mine = values.get((row["model"], key), {})
        told = [(headings.get(f, f), mine[f]) for f in every if f in mine and not isnan(mine[f])]
        shown["cells"][row["model"]] = {"picture": _source(row["png"]), "scores": told}
    return [
        {**shown, "cells": [shown["cells"].get(model) for model in models]}
        for shown in found.values()
    ]


def _source(png: bytes) -> str:
    """A picture as the source of an img element."""
    small = thumbnail(decode(png).picture)
    kind, data = ("jpeg", small) if small else ("png", png)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
