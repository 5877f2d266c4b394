"""A trainer in small: walks steps, ranks and micro-batches, and logs what it scored then.

Written without a look at `analysis`: plain loops and dicts, one scale frozen during a step.
"""

import numpy as np
import pyarrow as pa

from toolkit import minority
from toolkit.minority import Metric, RunningScale, batch_scale, score, timestep_bin
from toolkit.recorder import rows


def simulate(
    metric: Metric,
    *,
    models: int = 3,
    pairs: int = 60,
    steps: int = 40,
    ranks: int = 2,
    micros: int = 2,
    micro_size: int = 4,
    seed: int = 0,
) -> pa.Table:
    """Trajectory rows, as `read_trajectory` gives them, with the scores logged at the time."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"pair-{k:04d}" for k in range(pairs)])
    label = rng.integers(0, 2, pairs).astype(np.float32)
    used = 1 if metric.preset == "history" else models
    state = RunningScale.zeros(np.zeros(1), used, metric)
    met: dict[int, int] = {}
    earlier: dict[int, list[float]] = {}
    tables = []
    for step in range(steps):
        drawn = rng.permutation(pairs)[: ranks * micros * micro_size]
        groups = drawn.reshape(ranks, micros, micro_size)
        total = [np.zeros_like(state.squares), np.zeros_like(state.counts)]
        remember: list[tuple[int, float]] = []
        for rank in range(ranks):
            for micro in range(micros):
                pair = groups[rank, micro]
                ref, err, timestep = _errors(rng, models, len(pair), step)
                first = label[pair] == 1
                chosen = np.where(first, err[0], err[1])
                rejected = np.where(first, err[1], err[0])
                ell = minority.ell(
                    np.where(first, ref[0], ref[1]),
                    np.where(first, ref[1], ref[0]),
                    chosen,
                    rejected,
                )
                bins = timestep_bin(timestep, metric.timestep_bins)
                if metric.preset in ("paper", "released"):
                    scaled = ell * batch_scale(ell, metric)
                else:
                    scaled = ell[:used] * state.scale(bins, metric)
                    for held, part in zip(total, state.sums(ell[:used], bins), strict=True):
                        held += part
                if metric.preset == "history":
                    remember += list(zip(pair.tolist(), scaled[0].tolist(), strict=True))
                    back = metric.window - 1
                    past = [(earlier.get(k, []) + [np.nan] * back)[:back] for k in pair.tolist()]
                    scaled = np.vstack([scaled, np.array(past).T])
                found = score(scaled, metric)
                tables.append(
                    rows(
                        pair_id=ids[pair].tolist(),
                        visit=np.array([met.get(k, 0) for k in pair.tolist()]),
                        draw=np.array([met.get(k, 0) for k in pair.tolist()]),
                        step=step,
                        rank=rank,
                        micro=step * micros + micro,
                        timestep=timestep,
                        err_ref_0=ref[0],
                        err_ref_1=ref[1],
                        err_0=err[0],
                        err_1=err[1],
                        weight=1 / (1 + 10 * np.nan_to_num(found.minority)),
                        label=label[pair],
                        confidence=found.confidence,
                        stability=found.stability,
                        minority=found.minority,
                    )
                )
                for k in pair.tolist():
                    met[k] = met.get(k, 0) + 1
        state.update(total[0], total[1], metric)
        for k, value in remember:
            earlier[k] = [value, *earlier.get(k, [])]
    table = pa.concat_tables(tables)
    shuffled = table.take(rng.permutation(table.num_rows))
    return shuffled.append_column("set_label", shuffled["label"]).append_column(
        "known", pa.array(np.ones(table.num_rows, bool))
    )


def _errors(rng, models: int, size: int, step: int) -> tuple:
    """Reference (2, B) and model errors (2, M, B), float32; ell grows with steps and timestep."""
    timestep = rng.integers(0, 1000, size).astype(np.int32)
    ref = rng.uniform(0.05, 0.3, (2, size)).astype(np.float32)
    spread = 1e-4 * (1 + step) * (0.1 + timestep / 500)
    err = ref[:, None] + spread * rng.normal(0.3, 1, (2, models, size))
    return ref, err.astype(np.float32), timestep
