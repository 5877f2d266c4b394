"""What a run's files take on disk, counted before there are any."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from toolkit.trajectory import rows

_ENTRY = 270
"""What a tensor takes in torch.save's archive beside its numbers, as it was measured."""


def row_bytes(pair_ids: np.ndarray, models: int, count: int = 20_000) -> float:
    """Bytes a trajectory row takes on disk, from a part of made-up rows of the real shape.

    Errors hardly compress, so numbers at random are as large as real ones. The scale of the
    metric is the same for many rows, as c2 is.
    """
    rng = np.random.default_rng(0)
    names = ("err_ref_0", "err_ref_1", "confidence", "stability", "minority", "weight", "loss")
    some = rng.permutation(np.resize(pair_ids, max(count, len(pair_ids))))[:count]
    table = rows(
        pair_id=some.tolist(),
        visit=rng.integers(0, 3, count),
        draw=rng.integers(0, 3, count),
        step=np.arange(count) // 64,
        rank=0,
        micro=np.arange(count) // 16,
        timestep=rng.integers(0, 1000, count),
        label=rng.integers(0, 2, count).astype(np.float32),
        **{name: rng.random(count, np.float32) for name in names},
        **{name: rng.random((models, count), np.float32) for name in ("err_0", "err_1")},
        scale=np.repeat(rng.random((models, count // 16 + 1), np.float32), 16, axis=1)[:, :count],
        margin=rng.random(count, np.float32),
        c2=np.repeat(rng.random(count // 16 + 1, np.float32), 16)[:count],
    )
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.tell() / count


def weights_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes of a .safetensors file of these in float32: eight, a JSON header, the numbers."""
    begins, header = 0, {}
    for name, tensor in tensors.items():
        ends = begins + 4 * tensor.numel()
        about = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begins, ends]}
        header[name], begins = about, ends
    return 8 + len(json.dumps(header, separators=(",", ":"))) + begins


def state_bytes(state: Any) -> int:
    """Bytes of all tensors in nested mappings and sequences, as torch.save writes them."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size() + _ENTRY
    if isinstance(state, Mapping):
        state = list(state.values())
    return sum(map(state_bytes, state)) if isinstance(state, list | tuple) else 0
