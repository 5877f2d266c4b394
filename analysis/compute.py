"""Every table of a run: which detectors can be computed from what there is, and their tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analysis.detectors import (
    agreement,
    annotators,
    cartography,
    consistency,
    minority,
)
from analysis.detectors import (
    noise_type as kinds,
)
from analysis.detectors import (
    trajectory_ell as ell,
)
from analysis.detectors.dataset_profile import Profile, profile
from analysis.detectors.mixture import NoiseRate, flip_posterior, loss_mixture
from analysis.detectors.multi_vote import Overlap, overlap
from analysis.pair_stats import Digest
from analysis.trajectory import Floats, numbers
from toolkit.minority import PRESETS, Metric


@dataclass(frozen=True)
class Evidence:
    """What detectors may look at beside the run's digest."""

    facts: pa.Table
    """`pair_facts` of every pair in the store, by pair_id."""
    votes: pa.Table
    """pair_id, annotator, choice."""
    extra_votes: pa.Table | None = None
    """pair_id, annotator, choice, such as the scorers'."""
    folds: Sequence[Digest] = ()
    """Runs that held a fold of the pairs out of training."""


@dataclass(frozen=True)
class Found:
    """All tables of a run and what was found on the way."""

    tables: dict[str, pa.Table]
    """Finding's name -> table keyed by pair_id, of the pairs the run met."""
    noise: NoiseRate | None
    profile: Profile
    habits: pa.Table
    """Annotators' habits; empty where none is known."""
    overlap: Overlap | None


def metrics_of(own: Metric) -> dict[str, Metric]:
    """Finding's name -> metric: the run's own as `minority`, then the presets it is none of."""
    presets = {f"minority_{name}": metric for name, metric in PRESETS.items() if metric != own}
    return {"minority": own, **presets}


def compute(digest: Digest, evidence: Evidence, window: str) -> Found:
    """Run every detector whose needs are met."""
    met = digest.met
    pairs = evidence.facts.take(pa.array(met))
    prompts = pairs["prompt"].to_pylist()
    people = pairs["annotator"].to_pylist()
    known_people = people if any(name is not None for name in people) else None
    tables = _minority(digest, window)
    tables["trajectory_ell"] = ell.trajectory_ell(digest, window)
    tables["cartography"] = cartography.cartography(digest, window)
    tables["area_under_margin"] = cartography.area_under_margin(digest, window)
    tables["loss_mixture"] = loss_mixture(digest, window)
    tables["flip_posterior"], noise = flip_posterior(digest, window, prompts, known_people)
    folds = ell.out_of_fold(evidence.folds or [digest])
    if folds.num_rows:
        tables["out_of_fold_ell"] = folds
    everywhere = consistency.consistency(evidence.facts)
    tables["consistency"] = everywhere.take(pa.array(met))
    habits = _habits(evidence, tables["minority"], digest)
    if known_people is not None:
        tables["annotator_minority"] = annotators.annotator_minority(pairs, habits)
    split, share = None, numbers(tables["consistency"]["contradicted"])
    if evidence.extra_votes is not None:
        labels = evidence.facts.select(["pair_id", "label"])
        table = agreement.agreement(labels, evidence.extra_votes)
        tables["agreement"] = table.take(pa.array(met))
        against = numbers(tables["agreement"]["against_share"])
        split, share = np.minimum(against, 1 - against), np.fmax(share, against)
    tables["kinds"] = kinds.kinds(digest, window, split)
    shared = overlap(evidence.facts, evidence.votes)
    if shared is not None:
        tables["overlap"] = shared.pairs
    return Found(tables, noise, profile(digest, prompts, share), habits, shared)


def _minority(digest: Digest, window: str) -> dict[str, pa.Table]:
    """One table a preset; that of the run's own metric is the same object under both names."""
    names = ["minority", *(f"minority_{preset}" for preset in PRESETS)]
    tables: dict[str, pa.Table] = {}
    for name in names:
        computed = name in digest.metrics
        tables[name] = minority.minority(digest, name, window) if computed else tables["minority"]
    return tables


def _habits(evidence: Evidence, own: pa.Table, digest: Digest) -> pa.Table:
    """Annotators' habits over the store's votes, with the run's u where it met the pair."""
    u: Floats = np.full(len(digest.pair_ids), np.nan)
    u[digest.met] = numbers(own["minority"])
    return annotators.annotators(evidence.facts, evidence.votes, u)


def sampled(pair_ids: npt.NDArray[np.str_], most: int, seed: int = 0) -> npt.NDArray[np.str_]:
    """At most so many of the pairs, drawn at random, sorted."""
    if len(pair_ids) <= most:
        return pair_ids
    drawn = np.random.default_rng(seed).choice(len(pair_ids), most, replace=False)
    return pair_ids[np.sort(drawn)]


def contradictions(tables: Mapping[str, pa.Table]) -> tuple[int, int]:
    """Pairs whose comparison occurs again, and of these those with an opposite label."""
    share = numbers(tables["consistency"]["contradicted"])
    return int((~np.isnan(share)).sum()), int((share > 0).sum())
