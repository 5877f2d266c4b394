"""Runs of known content: ell drawn for every pair and visit, flips among them."""

import numpy as np
import pyarrow as pa

from analysis.pair_stats import Digest, digest
from analysis.trajectory import Trajectory, load
from toolkit.minority import PRESETS
from toolkit.recorder import rows


def trajectory_of(ell, *, label=None, step=None, visit=None, kind="train", timestep=500, ids=None):
    """Rows of one model whose ell under the label is (V, P) `ell`, a step a visit."""
    ell = np.atleast_2d(np.asarray(ell, float))
    visits, pairs = ell.shape
    label = np.ones(pairs) if label is None else np.asarray(label, float)
    sign = np.where(label == 1, 1.0, -1.0)
    ids = np.array([f"p{k:04d}" for k in range(pairs)]) if ids is None else np.asarray(ids)
    steps = np.arange(visits) if step is None else np.asarray(step)
    tables = []
    for place in range(visits):
        table = rows(
            pair_id=ids.tolist(),
            visit=place if visit is None else int(visit[place]),
            draw=place,
            step=int(steps[place]),
            micro=int(steps[place]),
            kind=kind if isinstance(kind, str) else kind[place],
            timestep=np.full(pairs, timestep, np.int32),
            err_ref_0=np.zeros(pairs, np.float32),
            err_ref_1=np.zeros(pairs, np.float32),
            err_0=(-sign * ell[place])[None].astype(np.float32),
            err_1=np.zeros((1, pairs), np.float32),
        )
        tables.append(table.append_column("set_label", pa.array(label, pa.float32())))
    whole = pa.concat_tables(tables)
    return load(whole.append_column("known", pa.array(np.ones(whole.num_rows, bool))), ["policy"])


def digest_of(trajectory: Trajectory, beta: float | None = 1.0) -> Digest:
    return digest([trajectory], {"minority": PRESETS["paper"]}, beta=beta)


def planted(
    pairs=1000, visits=8, margin=1.0, noise=1.0, rate=0.2, seed=0, spread=0.0
) -> tuple[Digest, np.ndarray]:
    """A digest of ell ~ N(+-(margin + spread z), noise), and which pairs are flipped."""
    rng = np.random.default_rng(seed)
    flipped = np.zeros(pairs, bool)
    flipped[rng.permutation(pairs)[: round(rate * pairs)]] = True
    true = margin + spread * rng.normal(size=pairs)
    ell = np.where(flipped, -1, 1) * true + noise * rng.normal(size=(visits, pairs))
    return digest_of(trajectory_of(ell, label=rng.integers(0, 2, pairs))), flipped
