"""One self-contained page about one run, or about labels and votes without a run, for a reader who
does not know the code."""

import base64
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from analysis import figures
from analysis.evaluate_detectors import RESAMPLES
from analysis.figures.distributions import between
from analysis.ranking_metrics import FIGURES, Detection, Interval, flipped_ratio_table
from analysis.report.plots import drawn
from analysis.report.text import (
    annotator_rows,
    context,
    detector_names,
    environment,
    facts_of_labels,
    labels_context,
    next_steps,
    planting_steps,
    steps_of_labels,
)
from analysis.run_analysis import Analysis, Section
from analysis.trajectory import window_words
from toolkit.errors import InputError
from toolkit.files.atomic import write_text_whole
from toolkit.image_files import decode, thumbnail
from toolkit.minority import PRESETS
from toolkit.preference import TIE, side
from toolkit.store import Store
from toolkit.store.images import ImageReader
from toolkit.store.pseudonyms import with_exported_names

_PLACES = (
    "ratio", "ratio_width", "detectors", "roc", "precision_recall", "calibration", "histogram",
    "ell", "map", "noise", "annotators", "suspect", "votes",
)  # fmt: skip
"""Figures the page has a place for; one that could not be drawn leaves its place empty."""


def write_report(analysis: Analysis, path: str | Path, *, top: int = 24) -> Path:
    """Write the page and return its path. InputError where nothing can be written there."""
    target = Path(path)
    try:
        return write_text_whole(target, render(analysis, top=top))
    except OSError as problem:
        raise InputError(
            f"The report could not be written to {target} ({problem.strerror}); name a file you "
            "may write with --out."
        ) from problem


def render(analysis: Analysis, *, top: int = 24) -> str:
    """The page as text, with plotly.js, figures and images inside: it needs no network."""
    values: dict[str, Any] = {
        "notes": analysis.notes,
        "top": top,
        "settings": _settings(analysis),
        "sections": [_section(section, k) for k, section in enumerate(analysis.sections)],
        "figures": _figures(analysis),
        "pairs": _pairs(analysis, top),
        "plotly_js": Markup(get_plotlyjs()),
        "ink": figures.INK,
        "version": _version(),
    }
    name = "report.html" if analysis.run else "labels.html"
    values |= _of_run(analysis) if analysis.run else _of_labels(analysis)
    return environment().get_template(name).render(values)


def _of_labels(analysis: Analysis) -> dict[str, Any]:
    rows = annotator_rows(analysis)
    return {
        "title": f"Votes and labels of {analysis.store.root.name}",
        "a": labels_context(analysis),
        "facts": facts_of_labels(analysis),
        "annotators": rows,
        "annotators_caption": f"The {len(rows)} annotators with the most votes.",
        "steps": steps_of_labels(analysis),
    }


def _of_run(analysis: Analysis) -> dict[str, Any]:
    names = detector_names(analysis)
    planted = analysis.flipped is not None and bool(analysis.detections)
    values: dict[str, Any] = {
        "title": f"Suspicious labels in run {analysis.run}",
        "facts": analysis.health,
        "interval_words": f"Ranges are 95% intervals from {RESAMPLES} bootstrap resamples of "
        "prompts.",
        "a": context(analysis),
        "planted": planted,
        "planting": planting_steps(analysis),
        "steps": next_steps(analysis),
    }
    if planted:
        values |= _planted(analysis, names)
    return values


def _planted(analysis: Analysis, names: Mapping[str, str]) -> dict[str, Any]:
    by_name = {detection.name: detection for detection in analysis.detections}
    own = by_name["minority"]
    first = ["minority", "minority.confidence", "minority.stability", "trajectory_ell"]
    presets_of = tuple(f"minority_{name}" for name in PRESETS)
    others = [
        detection
        for detection in analysis.detections
        if detection.name not in (*first, *analysis.extra)
        and not detection.name.startswith(presets_of)
        and detection.auroc.value is not None
    ]
    others.sort(key=lambda detection: -(detection.auroc.value or 0.0))
    rows = [*(by_name[name] for name in [*first, *analysis.extra]), *others]
    presets = [name for name in PRESETS if PRESETS[name] != analysis.metric]
    matrix = ["minority", *(f"minority_{name}" for name in presets)]
    base = next((d.base_rate for d in analysis.detections if d.base_rate is not None), None)
    return {
        "ratio": _ratio_rows(analysis),
        "base_rate": "unknown" if base is None else f"{base:.1%}",
        "flips": f"{max(d.flipped for d in analysis.detections):,}",
        "detectors": [_detector_row(detection, names, detection is own) for detection in rows],
        "presets": [
            {
                "name": names[finding].removeprefix("u, "),
                "own": finding == "minority",
                "cells": [
                    _cell(by_name[key].auroc, ".3f")
                    for key in (f"{finding}.confidence", f"{finding}.stability", finding)
                ],
            }
            for finding in matrix
        ],
    }


def _detector_row(detection: Detection, names: Mapping[str, str], own: bool) -> dict[str, Any]:
    forms = {"auroc": ".3f", "auprc": ".3f"}
    return {
        "name": names.get(detection.name, detection.name),
        "own": own,
        "pairs": f"{detection.pairs:,}",
        "cells": [_cell(getattr(detection, key), forms.get(key, ".1%")) for key in FIGURES],
    }


def _cell(interval: Interval, form: str) -> dict[str, str]:
    if interval.value is None:
        return {"value": "–", "interval": "not defined"}
    if interval.low is None or interval.high is None:
        return {"value": f"{interval.value:{form}}", "interval": "no interval"}
    return {
        "value": f"{interval.value:{form}}",
        "interval": f"{interval.low:{form}} to {interval.high:{form}}",
    }


def _ratio_rows(analysis: Analysis) -> list[dict[str, str]]:
    assert analysis.flipped is not None
    table = flipped_ratio_table(
        analysis.column(analysis.ranking),
        analysis.flipped,
        groups=analysis.pairs["prompt"].to_pylist(),
    )
    return [
        {
            "between": between(row["low"], row["high"]),
            "count": f"{row['count']:,}",
            "flipped": f"{row['flipped']:,}",
            "share": f"{row['share']:.1%}",
            "interval": f"{row['share_low']:.1%} to {row['share_high']:.1%}",
        }
        for row in table.to_pylist()
        if row["count"]
    ]


def _figures(analysis: Analysis) -> dict[str, Markup]:
    made = drawn(analysis)
    empty = dict.fromkeys(_PLACES, Markup(""))
    return empty | {key: _embedded(figure, key, words) for key, (figure, words) in made.items()}


def _embedded(figure: go.Figure, name: str, caption: str) -> Markup:
    """A figure as HTML without plotly.js; plotly escapes `<` inside its JSON."""
    html = plotly.io.to_html(
        figure,
        include_plotlyjs=False,
        full_html=False,
        div_id=f"figure-{name}",
        default_height=f"{figure.layout.height or 400}px",
        config={"displayModeBar": False, "responsive": True},
    )
    return Markup('<figure role="group">{}<figcaption>{}</figcaption></figure>').format(
        Markup(html), caption
    )


def _section(section: Section, place: int) -> dict[str, Any]:
    shown = Markup("")
    if section.figure is not None:
        shown = _embedded(section.figure, f"extra-{place}", section.caption)
    return {"title": section.title, "paragraphs": section.paragraphs, "figure": shown}


def _pairs(analysis: Analysis, top: int) -> list[dict[str, Any]]:
    gallery = Gallery(analysis.store)
    rows: np.ndarray = analysis.suspicious()[:top]
    return [pair_card(analysis, int(row), gallery) for row in rows]


def _settings(analysis: Analysis) -> list[tuple[str, str]]:
    if not analysis.run:
        tables = ", ".join(analysis.tables)
        about = {
            "store": str(analysis.store.root),
            "label set": analysis.labels,
            "findings": tables,
        }
        return list(about.items())
    return list(
        {
            "store": str(analysis.store.root),
            "run": analysis.run,
            "label set": analysis.labels,
            "models": ", ".join(analysis.digest.models),
            "window": f"{analysis.window}: {window_words(analysis.window)}",
            "steps": f"{analysis.digest.steps:,}",
            **{name: str(value) for name, value in asdict(analysis.metric).items()},
        }.items()
    )


def _version() -> str:
    try:
        return version("outvoted")
    except PackageNotFoundError:
        return ""


_SMALL = 160
"""Images of at most this side in pixels are scaled up with their edges kept."""
_MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}


class Gallery:
    """Images of a store as data addresses, right-sized."""

    def __init__(self, store: Store) -> None:
        self._thumbnails = ImageReader(store, "thumbnails")
        self._images = ImageReader(store)

    def image(self, image_id: str | None) -> dict[str, Any]:
        """source (None where it cannot be shown), small, and the problem in words."""
        try:
            if image_id is None:
                raise InputError("the pair names no image")
            reader = self._thumbnails if image_id in self._thumbnails else self._images
            data = reader.read(image_id)
            decoded = decode(data)
        except InputError as problem:
            return {"source": None, "small": False, "problem": str(problem)}
        kind = _MIME.get(decoded.format)
        if (small := thumbnail(decoded.image)) is not None:
            data, kind = small, "image/jpeg"
        elif kind is None:
            return {"source": None, "small": False, "problem": f"{decoded.format} is not shown"}
        address = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        return {"source": address, "small": max(decoded.image.size) <= _SMALL, "problem": ""}


def pair_card(analysis: Analysis, row: int, gallery: Gallery) -> dict[str, Any]:
    """What the report shows of one pair: images as the source ordered them, label, scores."""
    pair = with_exported_names(analysis.store, analysis.pairs.slice(row, 1)).to_pylist()[0]
    sides = []
    for slot in (0, 1):
        chosen = bool(side(pair["label"]) == 1 - slot)
        sides.append(
            {
                **gallery.image(pair[f"image_{slot}"]),
                "chosen": chosen,
                "role": "✓ label’s choice" if chosen else "not chosen",
                "alt": f"image {slot} of pair {pair['pair_id']}"
                + (", the label's choice" if chosen else ""),
            }
        )
    return {
        "pair_id": pair["pair_id"],
        "prompt": pair["prompt"],
        "sides": sides,
        "flipped": bool(analysis.flipped is not None and analysis.flipped[row]),
        "scores": _scores(analysis, row),
    }


def _scores(analysis: Analysis, row: int) -> list[dict[str, str]]:
    if not analysis.run:
        return _scores_of_labels(analysis, row)
    shown = {
        "u": analysis.column("minority")[row],
        "c": analysis.column("minority", "confidence")[row],
        "s": analysis.column("minority", "stability")[row],
        "ell": -analysis.column("trajectory_ell")[row],
    }
    visits = analysis.tables["minority"]["visits"][row].as_py()
    cells = [
        {"name": name, "value": "–" if np.isnan(value) else f"{value:.3g}".replace("-", "−")}
        for name, value in shown.items()
    ]
    return [*cells, {"name": "visits", "value": str(visits)}]


def _scores_of_labels(analysis: Analysis, row: int) -> list[dict[str, str]]:
    cells: list[dict[str, str]] = []
    pair_id = analysis.pairs["pair_id"][row].as_py()
    split = analysis.tables.get("vote_split")
    if split is not None:
        votes, ties, against = (split[name][row].as_py() for name in ("votes", "ties", "against"))
        decided = analysis.pairs["label"][row].as_py() not in (None, TIE)
        words = f"{votes - ties - against} : {against}" if decided else f"{votes - ties}"
        cells += [{"name": "with : against", "value": words}, {"name": "ties", "value": str(ties)}]
    if analysis.ranking:
        value = f"{analysis.score(analysis.ranking)[row]:.2f}"
        cells.append({"name": analysis.ranking, "value": value})
    return cells or [{"name": "pair", "value": pair_id}]
