"""One run, every diagnostic: read, recompute, judge, and write down as findings.

What an analysis of a run found, as the report, its words and its figures read it.

What an analysis leaves in the store: findings, and what was computed how.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analysis.cartography_files import write_dynamics, write_metrics
from analysis.detectors import Findings, run_detectors
from analysis.detectors.dataset_profile import Profile, profile
from analysis.detectors.detector import Evidence
from analysis.detectors.image_defects import Look, look
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
)
from analysis.pair_stats import Digest
from analysis.ranking_metrics import Detection
from analysis.recompute_metric import metric_of
from analysis.run_checks import Fact, health, notes_on
from analysis.trajectory import COLUMNS, DEFAULT_WINDOW, Floats, Trajectory, load, numbers
from analysis.trajectory_stream import digest_run, stream_run, timesteps
from toolkit.errors import InputError
from toolkit.files.atomic import write_text_whole
from toolkit.image_files import decode
from toolkit.labels.scorers import votes_of_scorers
from toolkit.minority import PRESETS, Metric
from toolkit.store import Store
from toolkit.store.images import ImageReader
from toolkit.store.label_sets import planted_flips
from toolkit.store.pair_table import pair_facts
from toolkit.store.runs import run_about, write_findings
from toolkit.store.trajectory import read_trajectory, read_votes

Flags = npt.NDArray[np.bool_]

SAMPLE = 20_000
"""Pairs at most whose single visits are drawn."""


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
    """What `analyze_run` found. Arrays and per-pair tables are aligned: row k is pairs' row k."""

    store: Store
    run: str
    about: dict[str, Any]
    """run.json."""
    labels: str
    metric: Metric
    window: str
    digest: Digest
    pairs: pa.Table
    """`pair_facts` of the pairs the run met, by pair_id."""
    found: Findings
    flipped: Flags | None
    """(P,) known flips; None where nobody knows of any."""
    detections: list[Detection]
    extra: tuple[str, ...]
    """Names of the caller's detectors."""
    calibration: Calibration | None
    health: list[Fact]
    notes: list[str]
    """What a reader should know before believing the figures."""
    sections: Sequence[Section] = field(default=())

    @property
    def tables(self) -> dict[str, pa.Table]:
        """Finding's name -> its table."""
        return self.found.tables

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
        rate: NoiseRate | None = self.found.details.get("flip_posterior")
        return rate

    def column(self, finding: str, name: str | None = None) -> Floats:
        """(P,) one score of a finding, NaN where null."""
        return numbers(self.tables[finding][name or finding])

    @property
    def weight(self) -> Floats | None:
        """(P,) mean weight that training logged in the window; None where it logged none."""
        found = self.digest.tallies["weight"].mean(self.window)[self.digest.met]
        return None if np.isnan(found).all() else found

    @property
    def ranking(self) -> str:
        """The score suspicious pairs are listed by: the run's own u, or trajectory_ell without."""
        known = self.tables["minority"]["minority"].null_count < len(self.pairs)
        return "minority" if known else "trajectory_ell"

    def suspicious(self) -> npt.NDArray[np.integer]:
        """Rows of the pairs that have a score, most suspicious first."""
        values = self.column(self.ranking)
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
        ids = self.digest.pair_ids[self.digest.met]
        if len(ids) > SAMPLE:
            drawn = np.random.default_rng(0).choice(len(ids), SAMPLE, replace=False)
            ids = ids[np.sort(drawn)]
        return self.trajectory_of(ids.tolist())


def record(found: Analysis) -> None:
    """Write every table as a finding, and detection.json and dataset.json beside them."""
    shared = {"labels": found.labels, "window": found.window}
    for name in found.tables:
        about: dict[str, Any] = dict(shared)
        if name.startswith("minority"):
            own = name == "minority"
            metric = found.metric if own else PRESETS[name.removeprefix("minority_")]
            about |= {"preset": metric.preset, "metric": asdict(metric)}
        write_findings(found.store, found.run, name, found.found.table(name), about)
    figures = shared | {
        "planted": found.flipped is not None,
        "resamples": RESAMPLES,
        "seed": SEED,
        "intervals": "95 % bootstrap, prompts resampled",
        "detectors": [detection.as_dict() for detection in found.detections],
        "calibration": None if found.calibration is None else asdict(found.calibration),
    }
    noise = found.noise
    overlap = found.found.details.get("overlap")
    shape = shared | {
        "profile": found.profile.as_dict(),
        "noise": None if noise is None else asdict(noise),
        "krippendorff_alpha": None if overlap is None else overlap.alpha,
    }
    for name, values in (("detection", figures), ("dataset", shape)):
        text = json.dumps(values, indent=2, allow_nan=False) + "\n"
        write_text_whole(found.store.findings(found.run) / f"{name}.json", text)


LOOKED_AT = 20_000
"""Pictures up to which all are opened for defects without being asked."""


def write_cartography(found: Analysis, folder: str | Path) -> list[Path]:
    """A run as training dynamics and cartography's metrics, jsonl files in a folder.

    InputError where the run names no beta (its logits are unknown) or nothing can be written.
    """
    if found.digest.beta is None:
        raise InputError(
            f"run.json of run {found.run!r} names no objective.beta, so the logits that training "
            'saw are unknown; add "objective": {"beta": ...} to write training dynamics.'
        )
    stream = stream_run(found.store, found.run, pair_facts(found.store, found.labels), found.about)
    try:
        files = write_dynamics(stream.chunks(), folder, beta=found.digest.beta)
        metrics = write_metrics(found.tables["cartography"], Path(folder) / "td_metrics.jsonl")
    except OSError as problem:
        raise InputError(
            f"Training dynamics could not be written to {folder} ({problem.strerror}); name a "
            "folder you may write."
        ) from problem
    return [*files, metrics]


def analyze_run(
    store: Store,
    run: str,
    *,
    labels: str | None = None,
    window: str = DEFAULT_WINDOW,
    flips: Sequence[str] | None = None,
    extra_votes: pa.Table | None = None,
    folds: Sequence[str] = (),
    windows: bool = False,
    look_at_pictures: bool | None = None,
    extra_detectors: ExtraDetectors | None = None,
    extra_sections: Sequence[Section] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Analysis:
    """Run every diagnostic on a run and write it to the store's findings.

    `labels`: the label set pairs are held against, the run's own by default. `flips`: pair_ids
    known to be flipped, those the label set planted by default. `extra_votes`: pair_id,
    annotator, choice; the scorers' votes by default. `folds`: runs that held pairs
    out. `windows`: judge every window's scores too. `look_at_pictures`: open every picture (None:
    where they are few). `progress` is told what begins. StoreError or InputError says in a sentence
    what cannot be read.
    """
    tell = progress or (lambda _: None)
    tell("reading the trajectory")
    labels = labels or str(run_about(store, run).get("labels", "original"))
    facts = pair_facts(store, labels)
    whole, about = digest_run(store, run, facts)
    held_out = [digest_run(store, name, facts, metrics={})[0] for name in folds]
    tell("computing the detectors")
    extra = extra_votes if extra_votes is not None else votes_of_scorers(store)
    open_images = look_at_pictures or (look_at_pictures is None and 2 * len(whole.met) <= LOOKED_AT)
    evidence = Evidence(
        whole,
        facts,
        read_votes(store),
        extra,
        held_out,
        looks=(lambda: look_at(store, evidence.pairs)) if open_images else None,
    )
    found = run_detectors(evidence, window)
    tell("measuring detection")
    result = _judged(
        Read(store, run, about, labels, window, whole, evidence.pairs, found),
        _flipped(store, labels, flips, evidence.pairs),
        dict(extra_detectors or {}),
        tuple(extra_sections or ()),
        windows,
    )
    tell("writing findings")
    record(result)
    return result


class Read(NamedTuple):
    """A run as read and scored, before anyone judges it; names as of `Analysis`."""

    store: Store
    run: str
    about: dict[str, Any]
    labels: str
    window: str
    digest: Digest
    pairs: pa.Table
    found: Findings


def _judged(
    read: Read,
    flipped: Flags | None,
    extra: ExtraDetectors,
    sections: tuple[Section, ...],
    windows: bool,
) -> Analysis:
    """Detection where flips are known, calibration, health and notes."""
    whole, tables, pairs = read.digest, read.found.tables, read.pairs
    detections = detections_of(
        tables, extra, flipped, pairs, others=read.found.by_window if windows else {}
    )
    sources = {str(source) for source in pairs["source"].unique().to_pylist()}
    notes = notes_on(whole, tables, read.about, read.labels, read.window)
    notes += leak_warning(detections, set(extra), sources)
    prompts = pairs["prompt"].to_pylist()
    return Analysis(
        **read._asdict(),
        metric=metric_of(read.about),
        flipped=flipped,
        detections=detections,
        extra=tuple(extra),
        calibration=_calibrated(read.found, flipped, pairs),
        health=health(
            whole, tables, flipped, prompts, read.window, read.found.details.get("flip_posterior")
        ),
        notes=notes,
        sections=sections,
    )


def look_at(store: Store, pairs: pa.Table) -> dict[str, Look]:
    """image_id -> Look of every picture of the pairs that can be read."""
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
    return seen


def _flipped(
    store: Store, labels: str, flips: Sequence[str] | None, pairs: pa.Table
) -> Flags | None:
    known = planted_flips(store, labels) if flips is None else list(flips)
    if known is None:
        return None
    ids = np.asarray(pairs["pair_id"].to_pylist(), np.str_)
    return np.isin(ids, np.asarray(known, np.str_)) if known else np.zeros(len(ids), bool)


def _calibrated(found: Findings, flipped: Flags | None, pairs: pa.Table) -> Calibration | None:
    """Calibrates the run's own u, or trajectory_ell without it, and adds finding `calibrated`."""
    if flipped is None:
        return None
    own = found.tables["minority"]["minority"]
    name = "minority" if own.null_count < len(own) else "trajectory_ell"
    scores = numbers(found.tables[name][name])
    result = calibrate(name, scores, flipped, pairs["prompt"].to_pylist())
    if result is None:
        return None
    curve, probability = result
    found.tables["calibrated"] = calibrated_table(pairs, scores, probability)
    return curve
