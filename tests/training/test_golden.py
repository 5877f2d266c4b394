"""Golden runs: training today gives the bits that the recorded version gave.

Every metric preset with LoRA and full fine-tuning on both miniatures, every objective, fixed draws
with disk caches, probes, held-out pairs, and a run resumed from a checkpoint, each for a few steps
on one small store of the mini world. `golden.json` holds a hash of every tensor file that a run
leaves, of its trajectory rows, and the facts in its run.json.

Hashes are compared where torch, its CPU capability and the processor are those of the recording.
Elsewhere kernels may round differently, and summary numbers (norms and sums) are compared with a
tolerance; the facts are the same everywhere.

    python -m tests.training.test_golden    # records again; only for an intended change
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from toolkit.miniworld.dataset import ingest_world
from toolkit.store import Store, create_store, open_store
from training.probe import probe_run
from training.recipe import parse_recipe
from training.trainer import resume, train

GOLDEN = Path(__file__).with_name("golden.json")

FACTS = (
    "models",
    "pairs",
    "pairs_content",
    "labels_content",
    "weights_content",
    "encoders_content",
    "backbone_content",
    "left_out",
    "metric",
    "objective",
    "reference",
    "pairs_per_step",
    "planned_steps",
    "steps",
)
"""Of run.json: what a resumed run is compared with, and what analysis reads."""

EXACT = ("visit", "draw", "step", "rank", "micro", "timestep", "label")
APPROXIMATE = ("err_ref_0", "err_ref_1", "err_0", "err_1", "loss", "weight")

TOLERANCE = 0.05
"""Relative, of summary numbers under other kernels: a few steps of Adam turn on signs."""


def _preset(preset: str, train: str, path: str = "miniature:sd", **more: Any) -> dict[str, Any]:
    """Adaptive-DPO under a metric preset; tiny counts, so that a running scale is known early."""
    footprints: list[Any] = [] if preset == "history" else [0.9999, {"decay": 0.5, "ramp": 2}]
    metric: dict[str, Any] = {"preset": preset}
    if preset in ("running", "history"):
        metric |= {"rms_min_count": 1, "timestep_bins": 2}
    backbone = {"path": path, "train": train, "resolution": 64, "lora": {"rank": 4}}
    return {
        # As recorded: before sizes were the same for all images, and dropped captions left out.
        "backbone": {**backbone, "time_ids": "image"},
        "empty_prompt": "encoded",
        "dropped_captions": "count",
        "objective": {"name": "adaptive_dpo", "beta": 300},
        "metric": metric,
        "footprints": footprints,
        **more,
    }


def _objective(name: str, **settings: Any) -> dict[str, Any]:
    return {**_preset("history", "lora"), "objective": {"name": name, **settings}, "steps": 2}


CELLS: dict[str, dict[str, Any]] = {
    **{
        f"sd_{kind}_{preset}": _preset(preset, kind)
        for kind in ("lora", "full")
        for preset in ("paper", "released", "running", "history")
    },
    **{
        f"sdxl_{kind}_{preset}": _preset(preset, kind, "miniature:sdxl", steps=3)
        for kind in ("lora", "full")
        for preset in ("released", "history")
    },
    "diffusion_dpo": _objective("diffusion_dpo", beta=300),
    "ipo": _objective("ipo", tau=100),
    "cdpo": _objective("cdpo", beta=300, a=0.1),
    "robust_dpo": _objective("robust_dpo", beta=300, a=0.2),
    "poly_dpo": _objective("poly_dpo", beta=300, alpha=8),
    "sft": _objective("sft"),
    "simpo_margin": _objective("simpo_margin", beta=300),
    "diffusion_kto": _objective("diffusion_kto", beta=300),
    "adaptive_ipo_paper": _objective("adaptive_ipo", form="paper"),
    "adaptive_ipo_released": _objective("adaptive_ipo", form="released"),
    # Fixed draws come round again, so errors of the reference are read back from the disk.
    "fixed_draws": _preset(
        "running",
        "lora",
        steps=6,
        draws={"kind": "fixed", "count": 1},
        caches={"disk": True},
        caption_dropout=0.3,
        probe={"every": 4, "pairs": 3, "draws": 2},
        held_out={"every": 3, "draws": 2},
    ),
    "resumed": _preset(
        "history",
        "lora",
        steps=4,
        accumulation=2,
        backbone={
            "path": "miniature:sd",
            "resolution": 64,
            "lora": {"rank": 4, "dropout": 0.1},
        },
        optimiser={"learning_rate": 1e-3, "warmup_steps": 2, "grad_norm": 0.5},
    ),
}

RESUMED_AT = 2


def make_world(folder: Path) -> Store:
    """Ten pairs to train on and four that are held out."""
    store = create_store(folder / "store")
    ingest_world(store, folder / "truth.parquet", pairs=10, seed=0)
    ingest_world(store, folder / "aside.parquet", pairs=4, seed=1, split="validation")
    return store


def run_cell(store: Store, name: str) -> None:
    """Train a cell; `resumed` in two calls, and measured again under its last checkpoint."""
    raw = {
        "store": str(store.root),
        "run": name,
        "optimiser": {"learning_rate": 1e-3},
        "steps": 4,
        "batch_size": 4,
        **CELLS[name],
    }
    if name != "resumed":
        train(parse_recipe(raw))
        return
    train(parse_recipe({**raw, "steps": RESUMED_AT}))
    resume(store, name, steps=raw["steps"])
    probe_run(store, name, draws=2)


def measure(store: Store, name: str, like: dict[str, Any] | None = None) -> dict[str, Any]:
    """Hashes, summaries and facts of a finished run; only of the files and columns that an earlier
    measurement has, if given."""
    run = store.run(name)
    about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (newest,) = sorted((run / "checkpoints").glob("step-*"))[-1:]
    tensors, norms = {}, {}
    for file in sorted(newest.rglob("*.safetensors")):
        where = file.relative_to(newest).as_posix()
        if like is not None and where not in like["tensors"]:
            continue
        values = load_file(file)
        tensors[where] = _tensors_hash(values)
        norms[where] = float(sum(v.double().square().sum() for v in values.values()) ** 0.5)
    rows = _rows(run)
    rows = rows.select(rows.column_names if like is None else like["columns"])
    return {
        "facts": {key: about[key] for key in FACTS},
        "tensors": tensors,
        "rows": hashlib.sha256(repr(rows.to_pylist()).encode()).hexdigest(),
        "log": _log_hash(run),
        "norms": norms,
        "sums": _sums(rows),
        "columns": rows.column_names,
    }


def _tensors_hash(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _rows(run: Path) -> pa.Table:
    parts = sorted(run.glob("trajectory/rank-*/part-*.parquet"))
    table = pa.concat_tables([pq.read_table(part) for part in parts])
    keys = ("kind", "step", "visit", "pair_id", "draw", "micro")
    return table.sort_by([(key, "ascending") for key in keys])


def _log_hash(run: Path) -> str:
    """Of the logged figures but for the speed, which is the machine's."""
    entries = []
    for file in sorted((run / "metrics").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            entry.pop("pairs_per_second", None)
            entries.append([file.name, entry])
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def _sums(rows: pa.Table) -> dict[str, float]:
    """Sum of every column of numbers."""
    sums = {}
    for name in rows.column_names:
        kind = rows.schema.field(name).type
        column = rows[name].combine_chunks()
        if pa.types.is_list(kind):
            column = column.flatten()
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            sums[name] = float(np.nansum(column.drop_null().to_numpy().astype(float)))
    return sums


def machine() -> dict[str, str]:
    """What decides how kernels round."""
    cpu = ""
    if (info := Path("/proc/cpuinfo")).exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    return {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cpu": cpu,
    }


def record() -> None:
    """Write golden.json from what training gives here and now."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = make_world(Path(folder))
        cells = {}
        for name in CELLS:
            run_cell(store, name)
            cells[name] = measure(store, name)
    text = json.dumps({"machine": machine(), "cells": cells}, indent=1)
    GOLDEN.write_text(text + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_world(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", list(CELLS))
def test_training_gives_the_recorded_bits(name: str, world: Store) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    want = golden["cells"][name]
    run_cell(world, name)
    # Columns and files that a later version adds are not compared.
    got = measure(open_store(world.root), name, want)
    assert got["facts"] == want["facts"]
    assert got["norms"] == pytest.approx(want["norms"], rel=TOLERANCE)
    for column in EXACT:
        assert got["sums"][column] == want["sums"][column]
    for column in APPROXIMATE:
        assert got["sums"][column] == pytest.approx(want["sums"][column], rel=TOLERANCE)
    if machine() == golden["machine"]:
        assert got == want


if __name__ == "__main__":
    record()
