"""A run read once: its rows under the labels of a set, and what is kept of them."""

from typing import Any

import numpy as np
import pyarrow as pa

from analysis.arrays import numbers
from analysis.compute import metrics_of
from analysis.digest import Digest, digest
from analysis.recompute import metric_of
from analysis.stream import Stream
from toolkit.errors import StoreError
from toolkit.minority import Metric
from toolkit.store import Store
from toolkit.store.runs import run_about
from toolkit.store.trajectories import trajectory_parts


def digest_run(
    store: Store, run: str, facts: pa.Table, *, metrics: dict[str, Metric] | None = None
) -> tuple[Digest, dict[str, Any]]:
    """Walk a run's rows once, in bounded memory; and its run.json. `facts`: `pair_facts`.

    StoreError in a sentence where the run, its models or its rows are missing.
    """
    about = run_about(store, run)
    metric = metric_of(about)
    wanted = metrics_of(metric) if metrics is None else metrics
    stream = stream_run(store, run, facts, about)
    own = next((name for name, other in wanted.items() if other == metric), None)
    found = digest(stream.chunks(), wanted, own=own, beta=_beta(about))
    found.excluded = dict(+stream.excluded)
    return found, about


def stream_run(store: Store, run: str, facts: pa.Table, about: dict[str, Any]) -> Stream:
    """A run's rows, to be walked once, under the labels of `facts`."""
    models = tuple(_models(about, run))
    label = numbers(facts["label"])
    return Stream(
        parts=trajectory_parts(store, run),
        models=models,
        pair_ids=np.asarray(facts["pair_id"].to_pylist(), np.str_),
        sign=np.select([label == 1, label == 0], [1, -1], np.nan).astype(np.float32),
        train_timesteps=timesteps(about),
    )


def _models(about: dict[str, Any], run: str) -> list[str]:
    models = about.get("models")
    if not isinstance(models, list) or not models:
        raise StoreError(
            f'run.json of run {run!r} names no models; add "models": ["policy", ...] in the '
            "order in which its rows list their errors."
        )
    return [str(name) for name in models]


def timesteps(about: dict[str, Any]) -> int:
    """Timesteps of the noise schedule that the run trained under."""
    return int(about.get("train_timesteps", 1000))


def _beta(about: dict[str, Any]) -> float | None:
    objective = about.get("objective")
    beta = objective.get("beta") if isinstance(objective, dict) else None
    return float(beta) if isinstance(beta, int | float) and beta > 0 else None
