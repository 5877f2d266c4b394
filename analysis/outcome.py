"""What an analysis of a run found, as the report, its words and its figures read it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analysis.arrays import Floats, numbers
from analysis.compute import Found, sampled
from analysis.detection import Detection
from analysis.detectors.mixture import NoiseRate
from analysis.detectors.profile import Profile
from analysis.digest import Digest
from analysis.health import Fact
from analysis.judging import Calibration
from analysis.trajectories import COLUMNS, Trajectory, load
from analysis.walking import timesteps
from toolkit.minority import Metric
from toolkit.store import Store
from toolkit.store.trajectories import read_trajectory

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
    found: Found
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

    @property
    def profile(self) -> Profile:
        """The dataset as this run saw it."""
        return self.found.profile

    @property
    def noise(self) -> NoiseRate | None:
        """The estimated noise rate."""
        return self.found.noise

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
        met = self.digest.pair_ids[self.digest.met]
        return self.trajectory_of(sampled(met, SAMPLE).tolist())
