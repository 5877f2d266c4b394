"""What the report's sentences are filled with; the sentences are in templates/words.html."""

import shlex
from functools import cache
from typing import Any

import jinja2
import numpy as np

from analysis.detectors.consistency import contradictions
from analysis.run_analysis import Analysis
from analysis.trajectory import numbers, window_words
from toolkit.labels.flips import planted_count
from toolkit.minority import PRESETS
from toolkit.store.label_sets import label_set_recipe


def detector_names(analysis: Analysis) -> dict[str, str]:
    """Score's name -> what the report calls it."""
    symbols = {"confidence": "c", "stability": "s", "minority": "u"}
    names = {"trajectory_ell": "trajectory ell"}
    presets = {"minority": f"{analysis.metric.preset} (the run)"}
    presets |= {f"minority_{name}": name for name in PRESETS}
    for finding, preset in presets.items():
        for column, symbol in symbols.items():
            key = finding if column == "minority" else f"{finding}.{column}"
            names[key] = f"{symbol}, {preset}"
    return names


def headline(analysis: Analysis) -> list[str]:
    """Scores that are shown together: the run's own, the caller's, u under other presets."""
    others = [f"minority_{name}" for name in PRESETS if PRESETS[name] != analysis.metric]
    return ["minority", "minority.confidence", "trajectory_ell", *analysis.extra, *others]


@cache
def environment() -> jinja2.Environment:
    """The templates, with filters for counts (n) and shares (share, share1)."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"n": "{:,}".format, "share": "{:.0%}".format, "share1": "{:.1%}".format}
    return made


def sentence(name: str, analysis: Analysis, *values: Any) -> str:
    """One of the macros of words.html as a line of text."""
    macro = getattr(environment().get_template("words.html").module, name)
    return " ".join(str(macro(context(analysis), *values)).split())


def context(analysis: Analysis) -> dict[str, Any]:
    """The facts that words.html speaks of."""
    objective = analysis.about.get("objective")
    own = next((row for row in analysis.detections if row.name == analysis.ranking), None)
    weight, kinds = analysis.weight, analysis.tables["kinds"]
    strong = numbers(kinds["disagreement"]) > 0.9
    unsteady = numbers(kinds["instability"])
    repeated, contradicted = contradictions(analysis.tables["consistency"])
    cyclic = numbers(analysis.tables["consistency"]["cyclic"])
    return {
        "pairs": len(analysis.pairs),
        "labels": analysis.labels,
        "objective": objective.get("name") if isinstance(objective, dict) else objective,
        "steps": analysis.digest.steps,
        "models": analysis.digest.models,
        "preset": analysis.metric.preset,
        "window": window_words(analysis.window),
        "own": own if own is not None and own.auroc.value is not None else None,
        "ranking": analysis.ranking,
        "suspicious": len(analysis.suspicious()),
        "extra": analysis.extra,
        "planted": None if analysis.flipped is None else _planted(analysis),
        "weights": "none" if weight is None else "ones" if np.nanmin(weight) > 0.999 else "line",
        "profile": analysis.profile,
        "noise": analysis.noise,
        "repeated": repeated,
        "contradicted": contradicted,
        "triangles": int((~np.isnan(cyclic)).sum()),
        "cyclic": int((cyclic > 0).sum()),
        "agreement": _agreement(analysis),
        "overlap": analysis.findings.details.get("overlap"),
        "images": _images(analysis),
        "steady": int((strong & (unsteady < 0.5)).sum()),
        "unsteady": int((strong & (unsteady >= 0.5)).sum()),
    }


def _planted(analysis: Analysis) -> dict[str, Any]:
    recipe = label_set_recipe(analysis.store, analysis.labels)
    assert analysis.flipped is not None
    flipped, labelled = int(analysis.flipped.sum()), len(analysis.flipped)
    if recipe.get("kind") == "planted":
        flipped, labelled = planted_count(analysis.store, analysis.labels)
    return {
        "kind": recipe.get("kind"),
        "flipped": flipped,
        "labelled": labelled,
        "rate": recipe.get("rate", 0),
        "base": recipe.get("base", "original"),
        "seed": recipe.get("seed", 0),
        "gap": recipe.get("gap"),
        "known": recipe.get("labelled", 0),
    }


def _agreement(analysis: Analysis) -> dict[str, Any] | None:
    table = analysis.tables.get("agreement")
    pattern = [] if table is None else [word for word in table["pattern"].to_pylist() if word]
    if not pattern:
        return None
    names = {"with": "all with", "against": "all against", "mixed": "mixed"}
    shares = {key: pattern.count(word) / len(pattern) for key, word in names.items()}
    return {"pairs": len(pattern), **shares}


def _images(analysis: Analysis) -> dict[str, int] | None:
    table = analysis.tables.get("image_defects")
    if table is None:
        return None
    rows = table.to_pylist()
    return {
        "flat": sum(bool(row["flat"]) for row in rows),
        "same": sum(bool(row["identical"]) for row in rows),
        "elsewhere": sum(bool(row["elsewhere"]) for row in rows),
        "unread": table["flat"].null_count,
    }


def next_steps(analysis: Analysis) -> list[dict[str, str]]:
    """What a reader can type now, most useful first."""
    store, run = shlex.quote(str(analysis.store.root)), analysis.run
    planted = analysis.flipped is not None
    labels = " --labels original" if planted else ""
    steps = {
        "Look at the pairs yourself, most suspicious first, and give verdicts: keep, flip, tie, "
        "drop or unsure. Verdicts are stored apart from the labels.": f"outvoted app {store} "
        f"--run {run}",
        "Preview an export with lower weights where u is high and your verdicts applied"
        + (" (and without the planted flips)" if planted else "")
        + "; then write it, with its data card.": f"outvoted export {store} --run {run}{labels} "
        f"--reweight --preview\noutvoted export {store} --run {run}{labels} --reweight "
        "--out curated",
    }
    if planted:
        steps["Score your labels as they are: train without the planted flips, and analyze."] = (
            f"outvoted train RECIPE.yaml --labels original --run {run}-original\n"
            f"outvoted analyze {store} --run {run}-original"
        )
    return [{"text": text, "command": command} for text, command in steps.items()]


def planting_steps(analysis: Analysis) -> str:
    """The commands that make detection measurable."""
    store, name = shlex.quote(str(analysis.store.root)), "flip20"
    return (
        f"outvoted flip {store} --rate 0.2 --seed 0 --name {name}\n"
        f"outvoted train RECIPE.yaml --labels {name} --run {analysis.run}-{name}\n"
        f"outvoted analyze {store} --run {analysis.run}-{name}"
    )
