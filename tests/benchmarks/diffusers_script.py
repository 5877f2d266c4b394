"""The public Diffusion-DPO scripts of diffusers, run unchanged and timed step by step.

`train_diffusion_dpo.py` and `train_diffusion_dpo_sdxl.py` are read from a folder that the user
names; they are not part of this project. They read Pick-a-Pic's columns, and a backbone's folder.
"""

import contextlib
import importlib.util
import io
import sys
import types
from pathlib import Path
from typing import Any

from tests.benchmarks.clock import Clock
from toolkit.errors import InputError

SCRIPTS = {"sd": "train_diffusion_dpo.py", "sdxl": "train_diffusion_dpo_sdxl.py"}


def find_script(folder: Path, family: str) -> Path:
    """The script of a family. InputError where the folder does not contain it."""
    path = folder / SCRIPTS[family]
    if not path.is_file():
        raise InputError(
            f"{folder} has no {path.name}; name the folder of diffusers' "
            "examples/research_projects/diffusion_dpo with --rival."
        )
    return path


def run_script(
    script: Path,
    backbone: Path,
    data: Path,
    out: Path,
    clock: Clock,
    *,
    resolution: int,
    precision: str,
    batch: int,
    steps: int,
    workers: int = 0,
    more: tuple[str, ...] = (),
) -> None:
    """Train a LoRA of rank 16 for `steps` steps of the script's own loop.

    `clock` is told of every step. The script's cache of the dataset and what it saves are under
    `out`; what it prints is discarded.
    """
    module = _loaded(script)
    module.tqdm = lambda *_, **__: _Bar(clock, steps)
    module.load_dataset = _without_cache(module.load_dataset, out / "datasets")
    asked = {
        "pretrained_model_name_or_path": backbone,
        "dataset_name": data,
        "dataset_split_name": "train",
        "resolution": resolution,
        "train_batch_size": batch,
        "max_train_steps": steps,
        "output_dir": out / "script",
        "rank": 16,
        "learning_rate": 1e-4,
        "seed": 0,
        "checkpointing_steps": 10**9,
        "report_to": "tensorboard",
        "mixed_precision": "no" if precision == "fp32" else precision,
        "dataloader_num_workers": workers,
    }
    options = [text for name, value in asked.items() for text in (f"--{name}", str(value))]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        module.main(module.parse_args([*options, "--no_hflip", *more]))


def _loaded(script: Path) -> Any:
    # Both scripts import wandb at the top and use it only where it was asked for.
    sys.modules.setdefault("wandb", types.ModuleType("wandb"))
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _without_cache(load: Any, folder: Path) -> Any:
    def loaded(name: str, *_: Any, split: str, **__: Any) -> Any:
        return load("parquet", data_dir=name, split=split, cache_dir=str(folder))

    return loaded


class _Bar:
    """What the scripts use of tqdm's bar."""

    def __init__(self, clock: Clock, steps: int) -> None:
        self._clock, self._steps, self._done = clock, steps, 0
        clock.update("training", 0, steps)

    def update(self, count: int = 1) -> None:
        self._done += count
        self._clock.update("training", self._done, self._steps)

    def set_postfix(self, **_: Any) -> None:
        """Nothing is shown."""
