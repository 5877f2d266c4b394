"""The report's sentences that depend on what was found.

The report's sentences about the dataset as a whole: profile, noise, voices, kinds, pictures.
"""

import shlex
from typing import Any

import numpy as np

from analysis.detectors.consistency import contradictions
from analysis.run_analysis import Analysis
from analysis.trajectory import numbers, window_words
from toolkit.labels.flips import planted_count
from toolkit.minority import PRESETS
from toolkit.store.label_sets import label_set_recipe


def detector_names(analysis: Analysis) -> dict[str, str]:
    """Detector's key -> what a reader calls it."""
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
    """Detectors that stand side by side: the run's own, the caller's, u under other presets."""
    others = [f"minority_{name}" for name in PRESETS if PRESETS[name] != analysis.metric]
    return ["minority", "minority.confidence", "trajectory_ell", *analysis.extra, *others]


def subtitle(analysis: Analysis) -> str:
    """What was looked at, in one line."""
    said = analysis.about
    objective = said.get("objective")
    name = objective.get("name") if isinstance(objective, dict) else objective
    trained = f", trained with {name}" if name else ""
    models = len(analysis.digest.models)
    return (
        f"{len(analysis.pairs):,} pairs under label set {analysis.labels}{trained}; "
        f"{analysis.digest.steps:,} steps; {models} model{'s' if models > 1 else ''} recorded "
        f"({', '.join(analysis.digest.models)}); metric preset {analysis.metric.preset}."
    )


def lead(analysis: Analysis) -> str:
    """What was measured, and the answer if there is one."""
    began = (
        "While the model trained, it left for every pair how well it predicted both images, "
        "beside a reference that did not train. From these errors each pair gets a score for how "
        "much its label goes against what the other labels taught the model. "
    )
    own = next((found for found in analysis.detections if found.name == analysis.ranking), None)
    if own is None or own.auroc.value is None:
        return began
    span = ""
    if own.auroc.low is not None:
        span = f" ({own.auroc.low:.2f} to {own.auroc.high:.2f})"
    return began + (
        f"Of {own.pairs:,} labels {own.flipped:,} were flipped on purpose: a flipped pair "
        f"ranks above one that was not with a chance of {own.auroc.value:.2f}{span}; "
        "guessing is 0.50."
    )


def planted_words(analysis: Analysis) -> str:
    """What was planted."""
    recipe = label_set_recipe(analysis.store, analysis.labels)
    known = (
        "so here the truth is known. If the score works, few flips lie on the left and many on "
        "the right."
    )
    if recipe.get("kind") != "planted":
        assert analysis.flipped is not None
        count, of = int(analysis.flipped.sum()), len(analysis.flipped)
        return f"Which labels are flipped was handed in ({count:,} of {of:,} pairs), {known}"
    flipped, labelled = planted_count(analysis.store, analysis.labels)
    rate, base = f"{recipe.get('rate', 0):.0%}", recipe.get("base", "original")
    begun, seed = f"Label set {analysis.labels} flips", f"seed {recipe.get('seed', 0)}"
    if gap := recipe.get("gap"):
        return (
            f"{begun} {flipped:,} of the {labelled:,} labels of {base} ({seed}): {rate} of the "
            f"{recipe.get('labelled', 0):,} whose gap in {_gap_name(gap)} is known, drawn the more "
            f"often the smaller the gap, {known} Where a small gap means that two images are "
            "nearly level, such flips are a harder prey than flips drawn at random."
        )
    return (
        f"{begun} a random {rate} of the labels of {base} ({flipped:,} of {labelled:,}, {seed}), "
        f"{known} Flips drawn at random are an easier prey than the doubtful labels of real people."
    )


def _gap_name(gap: dict[str, Any]) -> str:
    """The column that flips by gap went by, with its run where it is a finding's."""
    of = f" of run {gap['run']}'s finding {gap['finding']}" if gap.get("run") else ""
    return f"{gap['column']}{of}"


def unknown_words(analysis: Analysis) -> str:
    """Why there is nothing to check against, and how to get it."""
    return (
        f"This cannot be said: nobody knows which labels of set {analysis.labels} are wrong, so "
        "detection figures are left out. To learn how far the scores can be trusted on your data, "
        "flip a known share of labels, train under that label set, and analyze the new run:"
    )


def spread_words(analysis: Analysis) -> str:
    """What the histogram and ell's figure show."""
    if analysis.weight is None:
        weights = "The run logged no weights, so none are drawn."
    elif float(np.nanmin(analysis.weight)) > 0.999:
        weights = "Every weight was 1: this run did not act on the score."
    else:
        weights = "The line is the mean weight W training gave the pairs there."
    return (
        "A long tail on the right is where to look; one narrow peak means the score tells pairs "
        f"hardly apart. {weights}"
    )


def extra_words(analysis: Analysis) -> str:
    """Where the caller's detectors come from; empty without any."""
    if not analysis.extra:
        return ""
    names = ", ".join(f"“{name}”" for name in analysis.extra)
    return (
        f"{names}: handed in from outside for comparison, not computed from this run; an oracle "
        "knows what no detector of real data can know."
    )


def preset_words(analysis: Analysis) -> str:
    """What recomputing is, and what null means here."""
    text = (
        "The errors on disk allow every definition of the score to be recomputed without training "
        "again. The presets differ in the scale on which ell enters, and in which models, or "
        "visits, are compared. Scores are reported apart since a pair that all models reject "
        "with equal force has s near 0: u misses it and c does not."
    )
    if len(analysis.digest.models) == 1:
        text += " This run recorded one model: where models are compared, s and u do not exist."
    return text


def pairs_words(analysis: Analysis, top: int) -> str:
    """How the gallery is ordered."""
    count = min(top, len(analysis.suspicious()))
    by = "the run’s own minority score u" if analysis.ranking == "minority" else "trajectory_ell"
    return (
        f"The {count} pairs with the highest score, by {by}, images in the source’s order. "
        "u = minority score, c = confidence, s = stability (all three: high = suspicious), ell in "
        "standard deviations of its timestep (below 0: the model agrees less with this label than "
        "with others), and visits the means are taken over."
    )


def method_words(analysis: Analysis) -> str:
    """The equations in words."""
    return (
        "ell is the reference’s error on the chosen image less that on the rejected one, less the "
        "same difference of the trained model; above 0 the model agrees with the label. c is 1 "
        "less the mean over models of sigmoid(rho ell); s is the spread of ell over models; "
        f"u = s c. Each is computed for every visit and averaged {window_words(analysis.window)}; "
        "at the start of a run the model has hardly left its reference. A pair without a visit "
        "there has no score."
    )


def next_steps(analysis: Analysis) -> list[dict[str, str]]:
    """What a reader can type now, most useful first."""
    store, run = shlex.quote(str(analysis.store.root)), analysis.run
    planted = analysis.flipped is not None
    labels = " --labels original" if planted else ""
    steps = {
        "Look at the pairs yourself, most suspicious first, and give verdicts: keep, flip, tie, "
        "drop or unsure. Verdicts are kept apart from the labels.": f"outvoted app {store} "
        f"--run {run}",
        "See what an export would hold, weighted down where u is high, with your verdicts applied"
        + (" and the planted flips left behind" if planted else "")
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


_KINDS = {
    "conflicting": "conflicting: many labels go against what the others teach",
    "balanced": "balanced: neither full of contradictions nor learned at a glance",
    "over-simple": "over-simple: the labels are learned early and almost without doubt",
    "not trained enough": "not to be told yet: the model has hardly learned to side with the "
    "labels, so this run says nothing about the dataset",
}


def dataset_words(analysis: Analysis) -> list[str]:
    """Paragraphs: the profile, the noise rate, and labels that contradict each other."""
    found = analysis.profile
    against = found.against
    span = "" if against.low is None else f" ({against.low:.0%} to {against.high:.0%})"
    share = "an unknown share" if against.value is None else f"{against.value:.0%}{span}"
    early = (
        "p never rose"
        if found.half_by is None
        else f"half of the rise was there after {found.half_by:.0%} of the run"
    )
    words = [
        f"This run reads the dataset as {_KINDS[found.kind]}. At the end the model gives the "
        f"label a probability of {found.final:.2f} on average, is sure of it (above .9) at "
        f"{found.sure:.0%} of the visits, and sides against it on {share} of the pairs; {early}."
        + _alpha_words(found.alpha)
    ]
    if analysis.noise is not None and analysis.noise.rate.value is not None:
        rate = analysis.noise.rate
        span = "" if rate.low is None else f", 95% interval {rate.low:.0%} to {rate.high:.0%}"
        words.append(
            f"Read as a mixture of right and reversed labels, the margins put the share of "
            f"reversed ones at {rate.value:.0%}{span}. The margin of a right label is "
            f"{analysis.noise.margin:.2f} times its usual size, its spread "
            f"{analysis.noise.spread:.2f}: the smaller the first beside the second, the less the "
            "estimate means."
        )
    elif analysis.noise is not None:
        words.append(
            "How many labels are reversed cannot be told: the margin of a typical label is "
            f"{analysis.noise.margin:.2f} times its usual size and its spread "
            f"{analysis.noise.spread:.2f}, so right and reversed labels form one heap."
        )
    return words + _consistency_words(analysis) + _voice_words(analysis)


def _alpha_words(alpha: float | None) -> str:
    if alpha is None:
        return ""
    return (
        f" For the objective poly_dpo that suggests alpha = {alpha:g}, the value ViPO (arXiv "
        "2604.24953) reports for such data; the thresholds are this project's."
    )


def _consistency_words(analysis: Analysis) -> list[str]:
    repeated, against = contradictions(analysis.tables["consistency"])
    cyclic = numbers(analysis.tables["consistency"]["cyclic"])
    words = []
    if repeated:
        words.append(
            f"{repeated:,} pairs show two images that were judged more than once under the same "
            f"prompt; {against:,} of these are contradicted by another label."
        )
    if (~np.isnan(cyclic)).any():
        words.append(
            f"{int((cyclic > 0).sum()):,} of {int((~np.isnan(cyclic)).sum()):,} pairs that share "
            "a third image lie on a circle (A beats B, B beats C, C beats A)."
        )
    if (table := analysis.tables.get("agreement")) is not None:
        pattern = table["pattern"].to_pylist()
        heard = sum(word is not None for word in pattern)
        if heard:
            shares = {w: pattern.count(w) / heard for w in ("all with", "mixed", "all against")}
            words.append(
                f"Of {heard:,} pairs with further voices, {shares['all with']:.1%} have all of "
                f"them with the label, {shares['all against']:.1%} all against it, and "
                f"{shares['mixed']:.1%} are mixed."
            )
    return words


def _voice_words(analysis: Analysis) -> list[str]:
    shared = analysis.found.details.get("overlap")
    if shared is None:
        return []
    return [
        f"{shared.comparisons:,} comparisons have votes of several annotators: Krippendorff's "
        f"alpha is {shared.alpha:.2f} (1: agreement, 0: chance)."
    ]


def kinds_words(analysis: Analysis) -> str:
    """What the reading of slips and tastes says, and how little."""
    table = analysis.tables["kinds"]
    away, unsteady = numbers(table["disagreement"]), numbers(table["instability"])
    strong = away > 0.9
    steady = int((strong & (unsteady < 0.5)).sum())
    loose = int((strong & (unsteady >= 0.5)).sum())
    return (
        f"Of the tenth of pairs the model rejects most, {steady:,} are rejected steadily (more "
        f"like a slip) and {loose:,} are fought over (more like a matter of taste). This is a "
        "reading, not a measurement: on simulated annotators, where both kinds are known, it "
        "ranked slips above tastes little better than chance, and a taste that few share looks "
        "like a slip."
    )


def picture_words(analysis: Analysis) -> str:
    """Defects of pictures that were found; empty where none was looked for."""
    table = analysis.tables.get("pictures")
    if table is None:
        return ""
    flat = sum((value or 0) > 0 for value in table["flat"].to_pylist())
    same = sum(bool(value) for value in table["identical"].to_pylist())
    elsewhere = sum((value or 0) > 0 for value in table["elsewhere"].to_pylist())
    unread = table["flat"].null_count
    return (
        f"Pictures: {flat:,} pairs hold a flat one, {same:,} the same picture twice, and "
        f"{elsewhere:,} a picture that also stands under another prompt"
        + (f"; {unread:,} pairs have one that could not be read." if unread else ".")
    )
