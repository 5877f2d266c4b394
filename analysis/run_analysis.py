"""The analysis of a run, or of labels, votes and images alone: run the detectors, evaluate them,
and write findings."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analysis.detectors import Findings, run_detectors
from analysis.detectors.cartography import write_dynamics, write_metrics
from analysis.detectors.data_defects import LOOKS, Look, look, looks_table
from analysis.detectors.detector import Evidence
from analysis.detectors.mixture import NoiseRate
from analysis.evaluate_detectors import (
    RESAMPLES,
    SEED,
    Calibration,
    ExtraDetectors,
    calibrate,
    calibrated_table,
    detections_of,
    leak_warning,
    suspicions,
)
from analysis.pair_stats import Digest
from analysis.ranking_metrics import Detection
from analysis.recompute_metric import metric_of
from analysis.run_checks import Fact, Profile, health, notes_on, profile
from analysis.trajectory import (
    COLUMNS,
    DEFAULT_WINDOW,
    WINDOWS,
    Floats,
    Trajectory,
    load,
    numbers,
)
from analysis.trajectory_stream import digest_run, stream_run, timesteps
from toolkit.errors import InputError
from toolkit.files.atomic import write_json
from toolkit.image_files import decode
from toolkit.labels.scorers import votes_of_scorers
from toolkit.minority import PRESETS, Metric
from toolkit.progress import SILENT, Progress
from toolkit.schema import conform
from toolkit.store import Store
from toolkit.store.connection import effective_labels
from toolkit.store.images import ImageReader, content_hashes
from toolkit.store.label_sets import ORIGINAL, axis_of, label_sets, planted_flips
from toolkit.store.pair_table import pair_facts
from toolkit.store.pseudonyms import exported_ids, with_exported_names
from toolkit.store.runs import run_about, write_findings
from toolkit.store.scores import scorers_in
from toolkit.store.trajectory import read_trajectory, read_votes

Flags = npt.NDArray[np.bool_]

SAMPLE = 20_000
"""Pairs at most whose single visits are drawn."""

RANKINGS = (
    "noisy_bradley_terry", "outvoted", "agreement", "ranking_residual", "cyclic", "contradicted",
)  # fmt: skip
"""What suspicious pairs are listed by without a run: the first score that any pair has."""

FEW_IMAGES = 20_000
"""Images up to which all are opened for defects by default."""


@dataclass(frozen=True)
class Section:
    """A part of the report that the caller adds: plain paragraphs, then a figure, if any."""

    title: str
    paragraphs: Sequence[str] = ()
    figure: Any = None
    """A plotly figure."""
    caption: str = ""


@dataclass(frozen=True)
class Analysis:
    """The result of `analyze_run`. Arrays and tables of pairs are aligned with `pairs`."""

    store: Store
    run: str
    """Empty: labels, votes and images were analyzed without a run."""
    about: dict[str, Any]
    """run.json; empty without a run."""
    labels: str
    window: str
    evidence: Evidence
    pairs: pa.Table
    """`pair_facts` of the pairs the run met, by pair_id; of all pairs without a run."""
    findings: Findings
    flipped: Flags | None
    """(P,) known flips; None where nobody knows of any."""
    sections: Sequence[Section] = ()
    detections: list[Detection] = field(default_factory=list)
    extra: tuple[str, ...] = ()
    """Names of the caller's detectors."""
    calibration: Calibration | None = None
    health: list[Fact] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a reader should know before believing the figures."""

    @property
    def digest(self) -> Digest:
        """The run's sums. AssertionError without a run."""
        return self.evidence.digest

    @cached_property
    def metric(self) -> Metric:
        """The metric that the run was trained with."""
        return metric_of(self.about)

    @property
    def tables(self) -> dict[str, pa.Table]:
        """Finding's name -> its table."""
        return self.findings.tables

    @cached_property
    def profile(self) -> Profile:
        """The dataset as this run saw it."""
        share = numbers(self.tables["consistency"]["contradicted"])
        if (votes := self.tables.get("agreement")) is not None:
            share = np.fmax(share, numbers(votes["against_share"]))
        return profile(self.digest, self.pairs["prompt"].to_pylist(), share)

    @property
    def noise(self) -> NoiseRate | None:
        """The estimated noise rate."""
        rate: NoiseRate | None = self.findings.details.get("flip_posterior")
        return rate

    def column(self, finding: str, name: str | None = None) -> Floats:
        """(P,) one score of a finding, NaN where null."""
        return numbers(self.tables[finding][name or finding])

    @property
    def weight(self) -> Floats | None:
        """(P,) mean weight that training logged in the window; None where it logged none."""
        mean = self.digest.tallies["weight"].mean(self.window)[self.digest.visited]
        return None if np.isnan(mean).all() else mean

    @property
    def ranking(self) -> str:
        """The score suspicious pairs are listed by: with a run its own u, or trajectory_ell where
        that is not known; without one the first of RANKINGS that any pair has; "" if none has."""
        if self.run:
            known = self.tables["minority"]["minority"].null_count < len(self.pairs)
            return "minority" if known else "trajectory_ell"
        return next((name for name in RANKINGS if np.nanmax(self.score(name), initial=0) > 0), "")

    def score(self, name: str) -> Floats:
        """(P,) a detector's score, high = suspicious; NaN where there is none."""
        ids = np.asarray(self.pairs["pair_id"].to_pylist(), np.str_)
        scores = suspicions(self.tables, ids, only=(name,))
        return scores.get(name, np.full(len(self.pairs), np.nan))

    def suspicious(self) -> npt.NDArray[np.integer]:
        """Rows of the pairs that have a score, most suspicious first."""
        values = self.score(self.ranking)
        order = np.argsort(-values, kind="stable")
        return order[~np.isnan(values[order])]

    def trajectory_of(self, pair_ids: Sequence[str]) -> Trajectory:
        """All rows of a few pairs."""
        table = read_trajectory(
            self.store, self.run, COLUMNS, label_set=self.labels, pairs=list(pair_ids)
        )
        return load(
            table,
            self.digest.models,
            train_timesteps=timesteps(self.about),
            steps=self.digest.steps,
        )

    def sample(self) -> Trajectory:
        """All rows of at most SAMPLE pairs drawn at random: what figures of single visits show."""
        ids = self.digest.pair_ids[self.digest.visited]
        if len(ids) > SAMPLE:
            drawn = np.random.default_rng(0).choice(len(ids), SAMPLE, replace=False)
            ids = ids[np.sort(drawn)]
        return self.trajectory_of(ids.tolist())


def _record(analysis: Analysis) -> None:
    """Write every table as a finding, and detection.json and dataset.json with them."""
    shared = {"labels": analysis.labels, "window": analysis.window}
    for name in analysis.tables:
        about: dict[str, Any] = dict(shared)
        if analysis.run and name.startswith("minority"):
            own = name == "minority"
            metric = analysis.metric if own else PRESETS[name.removeprefix("minority_")]
            about |= {"preset": metric.preset, "metric": asdict(metric)}
        write_findings(analysis.store, analysis.run, name, analysis.findings.table(name), about)
    calibration, noise = analysis.calibration, analysis.noise
    overlap = analysis.findings.details.get("overlap")
    detection = shared | {
        "planted": analysis.flipped is not None,
        "resamples": RESAMPLES,
        "seed": SEED,
        "intervals": "95 % bootstrap, prompts resampled",
        "detectors": [detection.as_dict() for detection in analysis.detections],
        "calibration": None if calibration is None else asdict(calibration),
    }
    dataset = shared | {
        "profile": analysis.profile.as_dict() if analysis.run else None,
        "noise": None if noise is None else asdict(noise),
        "krippendorff_alpha": None if overlap is None else overlap.alpha,
    }
    for name, values in (("detection", detection), ("dataset", dataset)):
        write_json(analysis.store.findings(analysis.run) / f"{name}.json", values)


def write_cartography(analysis: Analysis, folder: str | Path) -> list[Path]:
    """A run as training dynamics and cartography's metrics, jsonl files in a folder.

    InputError where the run names no beta (its logits are unknown) or nothing can be written.
    """
    if analysis.digest.beta is None:
        raise InputError(
            f"run.json of run {analysis.run!r} names no objective.beta, so the logits that "
            'training saw are unknown; add "objective": {"beta": ...} to write training dynamics.'
        )
    facts = pair_facts(analysis.store, analysis.labels)
    stream = stream_run(analysis.store, analysis.run, facts, analysis.about)
    rename = exported_ids(analysis.store)
    try:
        files = write_dynamics(stream.chunks(), folder, beta=analysis.digest.beta, rename=rename)
        table = with_exported_names(analysis.store, analysis.tables["cartography"])
        metrics = write_metrics(table, Path(folder) / "td_metrics.jsonl")
    except OSError as problem:
        raise InputError(
            f"Training dynamics could not be written to {folder} ({problem.strerror}); name a "
            "folder you may write."
        ) from problem
    return [*files, metrics]


def analyze_run(
    store: Store,
    run: str = "",
    *,
    labels: str | None = None,
    window: str = DEFAULT_WINDOW,
    flips: Sequence[str] | None = None,
    extra_votes: pa.Table | None = None,
    folds: Sequence[str] = (),
    windows: bool = False,
    open_images: bool | None = None,
    extra_detectors: ExtraDetectors | None = None,
    extra_sections: Sequence[Section] = (),
    progress: Progress = SILENT,
) -> Analysis:
    """Run every detector on a run and write its findings into the store.

    Without a run, those detectors that look at labels, votes, scores and images alone.

    Args:
        store: An opened store.
        run: The run whose trajectory is read; "" for none.
        labels: The label set that pairs are compared with; by default the run's own, or original.
        window: The part of the run that scores are taken over, one of `WINDOWS`.
        flips: pair_ids known to be flipped; those that the label set planted by default.
        extra_votes: pair_id, annotator, choice; the scores in the store by default.
        folds: Runs that held pairs out of training.
        windows: Evaluate the scores of every window.
        open_images: Open every image to look for defects; by default where there are few.
        extra_detectors: The caller's scores, evaluated with the others.
        extra_sections: The caller's sections of the report.
        progress: Receives what begins.

    Raises:
        InputError: There is no such window.
        StoreError: The run, its models, its rows or the label set are missing.
    """
    if window not in WINDOWS:
        raise InputError(f"{window!r} is no part of a run; choose {', '.join(WINDOWS)}.")
    progress.update("analysis", 0, 4, "reading the trajectory")
    about = run_about(store, run) if run else {}
    labels = labels or str(about.get("labels", ORIGINAL))
    evidence = _read(store, run, labels, extra_votes, folds, open_images)
    window = window if run else ""
    progress.update("analysis", 1, 4, "running the detectors")
    findings = run_detectors(evidence, window)
    progress.update("analysis", 2, 4, "evaluating the detectors")
    analysis = _evaluated(
        Analysis(
            store=store, run=run, about=about, labels=labels, window=window, evidence=evidence,
            pairs=evidence.pairs, findings=findings,
            flipped=_flipped(store, labels, flips, evidence.pairs), sections=extra_sections,
        ),
        dict(extra_detectors or {}),
        windows=windows,
    )  # fmt: skip
    progress.update("analysis", 3, 4, "writing the findings")
    _record(analysis)
    progress.update("analysis", 4, 4)
    return analysis


def _read(
    store: Store,
    run: str,
    labels: str,
    extra_votes: pa.Table | None,
    folds: Sequence[str],
    open_images: bool | None,
) -> Evidence:
    """What the detectors may look at."""
    facts = pair_facts(store, labels)
    digest = digest_run(store, run, facts)[0] if run else None
    pairs = facts if digest is None else facts.take(pa.array(digest.visited))
    if open_images is None:
        open_images = 2 * len(pairs) <= FEW_IMAGES
    extra = judges_of(store, labels) if extra_votes is None else extra_votes
    return Evidence(
        digest,
        facts,
        read_votes(store, labels),
        extra,
        [digest_run(store, name, facts, metrics={})[0] for name in folds],
        look_at(store, pairs, open_them=open_images),
    )


def judges_of(store: Store, labels: str) -> pa.Table | None:
    """Votes of the scorers and of the axes other than `labels`; None where there are neither."""
    axes = [name for name in label_sets(store) if name != labels and axis_of(store, name)]
    tables = [votes_of_scorers(store)] if scorers_in(store) else []
    for axis in axes:
        table = effective_labels(store, axis).select(["pair_id", "label"])
        judge = pa.repeat(axis, len(table))
        tables.append(
            pa.table({"pair_id": table["pair_id"], "annotator": judge, "choice": table["label"]})
        )
    return pa.concat_tables(tables) if tables else None


def _evaluated(analysis: Analysis, extra: ExtraDetectors, *, windows: bool) -> Analysis:
    """With detection where flips are known, calibration, checks of the run, and notes."""
    tables, pairs, window = analysis.tables, analysis.pairs, analysis.window
    others = analysis.findings.by_window if windows else {}
    detections = detections_of(tables, extra, analysis.flipped, pairs, others=others)
    sources = {str(source) for source in pairs["source"].unique().to_pylist()}
    prompts = pairs["prompt"].to_pylist()
    calibration = None
    if analysis.flipped is not None and analysis.ranking:
        score = analysis.score(analysis.ranking)
        result = calibrate(analysis.ranking, score, analysis.flipped, prompts)
        if result is not None:
            calibration, probability = result
            tables["calibrated"] = calibrated_table(pairs, score, probability)
    notes, checks = [], []
    if analysis.run:
        notes = notes_on(analysis.digest, tables, analysis.about, analysis.labels, window)
        checks = health(analysis.digest, tables, analysis.flipped, prompts, window, analysis.noise)
    return replace(
        analysis,
        detections=detections,
        extra=tuple(extra),
        calibration=calibration,
        health=checks,
        notes=notes + leak_warning(detections, set(extra), sources),
    )


def look_at(store: Store, pairs: pa.Table, *, open_them: bool) -> pa.Table:
    """`data_defects.LOOKS` of the pairs' images; without `open_them` the hashes of those whose
    bytes were read before."""
    if not open_them:
        hashes = content_hashes(store)
        return conform(hashes.rename_columns(["image_id", "content"]), LOOKS)
    reader = ImageReader(store)
    seen: dict[str, Look] = {}
    for name in ("image_0", "image_1"):
        for image_id in pairs[name].to_pylist():
            if image_id is None or image_id in seen:
                continue
            try:
                seen[image_id] = look(decode(reader.read(image_id)))
            except InputError:  # the report says which cannot be shown; here it has no score
                continue
    return looks_table(seen)


def _flipped(
    store: Store, labels: str, flips: Sequence[str] | None, pairs: pa.Table
) -> Flags | None:
    known = planted_flips(store, labels) if flips is None else list(flips)
    if known is None:
        return None
    ids = np.asarray(pairs["pair_id"].to_pylist(), np.str_)
    return np.isin(ids, np.asarray(known, np.str_)) if known else np.zeros(len(ids), bool)
