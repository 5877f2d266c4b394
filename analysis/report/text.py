"""What the report's sentences are filled with; the sentences are in templates/words.html."""

import shlex
from functools import cache
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa

from analysis.detectors import scores
from analysis.detectors.agreement import Conflicts
from analysis.detectors.consistency import contradictions
from analysis.detectors.data_defects import NEAR
from analysis.run_analysis import Analysis
from analysis.run_checks import Fact
from analysis.trajectory import numbers, window_words
from toolkit.intervals import wilson
from toolkit.labels.flips import planted_count
from toolkit.minority import PRESETS
from toolkit.preference import TIE, is_decided
from toolkit.store.label_sets import label_set_recipe
from toolkit.store.pseudonyms import with_exported_names


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
    return labels_context(analysis) | {
        "objective": objective.get("name") if isinstance(objective, dict) else objective,
        "steps": analysis.digest.steps,
        "models": analysis.digest.models,
        "preset": analysis.metric.preset,
        "window": window_words(analysis.window),
        "own": own if own is not None and own.auroc.value is not None else None,
        "extra": analysis.extra,
        "planted": None if analysis.flipped is None else _planted(analysis),
        "weights": "none" if weight is None else "ones" if np.nanmin(weight) > 0.999 else "line",
        "profile": analysis.profile,
        "noise": analysis.noise,
        "steady": int((strong & (unsteady < 0.5)).sum()),
        "unsteady": int((strong & (unsteady >= 0.5)).sum()),
    }


def labels_context(analysis: Analysis) -> dict[str, Any]:
    """What words.html says of labels, votes and images, with or without a run."""
    repeated, contradicted = contradictions(analysis.tables["consistency"])
    cyclic = numbers(analysis.tables["consistency"]["cyclic"])
    conflicts = analysis.findings.details.get("agreement")
    habits = analysis.tables.get("annotators")
    _, score = scores().get(analysis.ranking, (None, None))
    return {
        "pairs": len(analysis.pairs),
        "prompts": len(analysis.pairs["prompt"].unique()),
        "labels": analysis.labels,
        "ranking": analysis.ranking,
        "ranking_formula": score.formula if score else "",
        "ranking_assumption": score.assumption if score else "",
        "suspicious": len(analysis.suspicious()),
        "votes": analysis.evidence.votes.num_rows,
        "people": 0 if habits is None else habits.num_rows,
        "split": _split(analysis),
        "judges": conflicts.judges if conflicts and conflicts.pairs else [],
        "patterns": conflicts.patterns if conflicts else {},
        "agreement": _agreement(conflicts),
        "overlap": analysis.findings.details.get("overlap"),
        "repeated": repeated,
        "contradicted": contradicted,
        "triangles": int((~np.isnan(cyclic)).sum()),
        "cyclic": int((cyclic > 0).sum()),
        "images": _images(analysis),
        "leaks": _leaks(analysis),
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


def _split(analysis: Analysis) -> dict[str, Any] | None:
    table = analysis.tables.get("vote_split")
    if table is None:
        return None
    votes, share = table["votes"].to_numpy(), numbers(table["against_share"])
    agreement, ties = numbers(table["agreement"]), table["ties"].to_numpy()
    several = votes > 1
    return {
        "several": int(several.sum()),
        "single": int((votes == 1).sum()),
        "agreement": float(np.nanmean(agreement)) if several.any() else np.nan,
        "unanimous": int((agreement == 1).sum()),
        "even": int((several & (2 * _first(analysis, table) == votes - ties)).sum()),
        "known": int((~np.isnan(share)).sum()),
        "against": int((share > 0.5).sum()),
        "doubtful": int((numbers(table["outvoted"]) > 0.3).sum()),
    }


def _first(analysis: Analysis, table: pa.Table) -> Any:
    """(P,) votes for one of the two images; -1 where the label prefers none."""
    decided = is_decided(numbers(analysis.pairs["label"]))
    return np.where(decided, table["against"].to_numpy(), -1)


def _agreement(conflicts: Conflicts | None) -> dict[str, Any] | None:
    if not conflicts or not conflicts.pairs:
        return None
    names = {"with": "all with", "against": "all against", "mixed": "mixed"}
    shares = {key: conflicts.share(word) for key, word in names.items()}
    return {"pairs": conflicts.pairs, **shares}


def _images(analysis: Analysis) -> dict[str, int] | None:
    table = analysis.tables.get("image_defects")
    if table is None:
        return None
    columns = {name: numbers(table[name]) for name in table.column_names[1:]}
    opened = ~np.isnan(columns["distance"])
    return {
        "same": int((columns["identical"] == 1).sum()),
        "elsewhere": int((columns["elsewhere"] > 0).sum()),
        "copies": int((columns["copies"] > 0).sum()),
        "opened": int(opened.sum()),
        "unread": int((~opened).sum()) if opened.any() else 0,
        "flat": int((columns["flat"] > 0).sum()),
        "near": int(((columns["distance"] <= NEAR) & (columns["flat"] == 0)).sum()),
        "near_copies": int((columns["near_copies"] > 0).sum()),
    }


def _leaks(analysis: Analysis) -> dict[str, int] | None:
    table = analysis.tables.get("split_leaks")
    if table is None:
        return None
    names = {"comparison": "same_comparison", "reversed": "reversed", "image": "same_image"}
    return {key: int((numbers(table[name]) > 0).sum()) for key, name in names.items()}


def facts_of_labels(analysis: Analysis) -> list[Fact]:
    """What there is, in figures, for a report without a run."""
    a = labels_context(analysis)
    label = numbers(analysis.pairs["label"])
    decided = is_decided(label)
    ties = f"{int((label == TIE).sum()):,} ties, {int(np.isnan(label).sum()):,} without a label"
    facts = [
        Fact("Labelled pairs", f"{int(decided.sum()):,}", ties, f"Of {a['pairs']:,} in the store."),
    ]
    if a["votes"]:
        per = a["votes"] / max(1, a["pairs"])
        facts.append(Fact("Votes a pair", f"{per:.1f}", f"{a['votes']:,} votes", "Ties included."))
    if a["overlap"]:
        meaning = "Krippendorff's alpha: 1 all agree, 0 as by chance."
        facts.append(Fact("Agreement of voters", f"{a['overlap'].alpha:.2f}", "", meaning))
    if a["split"] and a["split"]["known"]:
        outvoted, known = a["split"]["against"], a["split"]["known"]
        facts.append(
            _counted("Outvoted labels", outvoted, known, "Most votes are for the other image.")
        )
    if a["repeated"]:
        meaning = "Of the pairs whose comparison occurs again."
        facts.append(_counted("Contradicted labels", a["contradicted"], a["repeated"], meaning))
    if a["triangles"]:
        meaning = "Of the pairs that share a third image: A over B, B over C, C over A."
        facts.append(_counted("Labels in a cycle", a["cyclic"], a["triangles"], meaning))
    return facts


def _counted(name: str, count: int, total: int, meaning: str) -> Fact:
    low, high = (float(end) for end in wilson(count, total))
    return Fact(name, f"{count / total:.1%}", f"{low:.1%} to {high:.1%}; {count:,} pairs", meaning)


def annotator_rows(analysis: Analysis, most: int = 20) -> list[dict[str, Any]]:
    """The annotators with the most votes, with habits and what the models say of them."""
    habits = analysis.tables.get("annotators")
    if habits is None:
        return []
    overlap = analysis.findings.details.get("overlap")
    voters = {} if overlap is None else {r["annotator"]: r for r in overlap.voters.to_pylist()}
    rows = []
    busy = habits.sort_by([("votes", "descending")]).slice(0, most)
    shown = with_exported_names(analysis.store, busy)["annotator"].to_pylist()
    for row, name in zip(busy.to_pylist(), shown, strict=True):
        known = voters.get(row["annotator"], {})
        shares = [row[name] for name in ("agreement", "left_share", "tie_rate")]
        models = [known.get(name) for name in ("dawid_skene", "glad", "noisy_bradley_terry")]
        cells = ["–" if value is None else f"{value:.0%}" for value in shares]
        cells += ["–" if value is None else f"{value:.2f}" for value in models]
        rows.append({"name": name, "cells": [f"{row['votes']:,}", *cells]})
    return rows


def steps_of_labels(analysis: Analysis) -> list[dict[str, str]]:
    """What a reader can type after a report without a run."""
    store, ranking = shlex.quote(str(analysis.store.root)), analysis.ranking
    steps = {
        "Look at the pairs yourself and give verdicts: keep, flip, tie, drop or unsure. In the "
        "Queue, “Order by” lists every column of this report.": f"outvoted app {store}",
    }
    if ranking:
        detector, score = scores()[ranking]
        column = f"{detector.finding}.{score.column}"
        steps[
            "Preview an export without the most doubtful labels; then write it, with its data card."
        ] = (
            f"outvoted export {store} --drop '{column} > 0.4' --preview\n"
            f"outvoted export {store} --drop '{column} > 0.4' --out curated"
        )
    steps["Ask a model too: train it and see which labels it rejects."] = (
        f"outvoted train RECIPE.yaml --run first\noutvoted analyze {store} --run first"
    )
    return [{"text": text, "command": command} for text, command in steps.items()]


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
