"""What a short lease of a GPU should measure, in one process and one call.

    python -m tests.benchmarks.on_gpu OUT --rival FOLDER --budget 480
    python -m tests.benchmarks.on_gpu OUT --rival FOLDER --budget 300 --mini     (rehearsal, CPU)

Every figure is appended to OUT/results.jsonl as soon as it is known, so that a call that is cut
short has not been in vain; a failed step is a line there, and the next one follows. Backbones of
true size (random weights) are built on the device and saved in memory (/dev/shm), never under OUT.
Nothing is fetched. FOLDER contains diffusers' examples/research_projects/diffusion_dpo.

    bf16     fp32 against bf16: step 0 has the policy equal to its reference, repeats are
             bit-identical, noise in ell
    sd       SD1.5 LoRA at 512 px: the public script, our variants, recorder on and off, memory
    sdxl     SDXL LoRA at 1,024 px, with gradient checkpointing
    tables   cells of table 1, several processes at a time
"""

import argparse
import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

import training.setup
from tests.benchmarks.training import CACHED, M3, SILENT, Bench, Setting, hardware, recipe_of
from tests.training import real_sizes
from toolkit.files.atomic import parts
from training.models import MINIATURES
from training.trainer import train

STEPS = ("bf16", "sd", "sdxl", "tables")
BETA = 2500
"""At which noise in ell is given as noise of a logit."""
CELLS = [
    (method, rate, seed)
    for seed in (1, 2, 0)
    for rate in ("0.1", "0.3", "0.2", "0")
    for method in ("adaptive_history", "diffusion_dpo", "adaptive_running", "adaptive_released")
]


class Call:
    """One call: its budget, where it writes, and the memory it builds in."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.began = time.monotonic()
        self.out: Path = options.out
        self.out.mkdir(parents=True, exist_ok=True)
        shared = Path("/dev/shm")
        self.memory = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))

    def left(self) -> float:
        """Seconds of the budget."""
        return float(self.options.budget - (time.monotonic() - self.began))

    def note(self, what: str, **facts: Any) -> None:
        """Append a line to results.jsonl, and print it."""
        at = round(time.monotonic() - self.began, 1)
        line = json.dumps({"what": what, **facts, "at": at})
        with (self.out / "results.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        print(line, flush=True)

    @contextmanager
    def guarded(self, what: str, **facts: Any) -> Iterator[None]:
        """Without the libraries' own output; a failure is a line, and no more."""
        try:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                yield
        except Exception as problem:
            self.note("failed", step=what, **facts, why=repr(problem)[:400])

    def backbone(self, family: str) -> str:
        """The miniature, or a folder in memory with a backbone of true size."""
        if self.options.mini:
            return f"miniature:{family}"
        folder = self.memory / family
        if not folder.exists():
            build = {"sd": real_sizes.save_sd15, "sdxl": real_sizes.save_sdxl}[family]
            with torch.device("cuda"):
                build(folder)
            self.note("built", family=family)
        return str(folder)

    def setting(self, family: str, **changes: Any) -> Setting:
        """The size of a family's measurements."""
        mini = self.options.mini
        given: dict[str, Any] = {
            "backbone": self.backbone(family),
            "resolution": 64 if mini else {"sd": 512, "sdxl": 1024}[family],
            "precision": "bf16",
            "batch": 4 if mini else {"sd": 16, "sdxl": 4}[family],
            "warm": 1 if mini else 3,
            "steps": 2 if mini else {"sd": 8, "sdxl": 5}[family],
            "workers": 0 if mini else 8,
        }
        if family == "sdxl":
            given["network"] = (("gradient_checkpointing", True),)
        return Setting(**{**given, **changes})


def check_bf16(call: Call) -> None:
    """Two steps of M = 3 in fp32 and twice in bf16, row against row."""
    rows: dict[str, list[dict[Any, Any]]] = {}
    with tempfile.TemporaryDirectory(dir=call.memory) as folder, call.guarded("bf16"):
        bench = Bench.make(Path(folder), call.setting("sd", warm=1, steps=1, batch=4))
        for number, precision in enumerate(("fp32", "bf16", "bf16")):
            training_state_reset()
            changes = {**M3, **CACHED, "precision": precision}
            run = f"check-{number}"
            train(recipe_of(bench.store, bench.setting, run, **changes))
            rows.setdefault(precision, []).append(_rows(bench.store.run(run)))
    if len(rows.get("bf16", ())) == 2:
        call.note("bf16", **_compared(rows["fp32"][0], *rows["bf16"]))


def training_state_reset() -> None:
    """Let one process train in several number formats."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)


def _rows(run: Path) -> dict[Any, Any]:
    tables = [pq.read_table(part) for part in parts(run / "trajectory" / "rank-0")]
    return {(row["pair_id"], row["step"]): row for table in tables for row in table.to_pylist()}


def _compared(full: dict[Any, Any], half: dict[Any, Any], again: dict[Any, Any]) -> dict[str, Any]:
    def ell(row: dict[str, Any]) -> float:
        reference = row["err_ref_0"] - row["err_ref_1"]
        return float(reference - (row["err_0"][0] - row["err_1"][0]))

    at_start = [row for (_, step), row in half.items() if step == 0]
    later = [key for key in half if key[1] > 0 and key in full]
    both = [key for key in half if key in full]
    noise = [ell(full[key]) - ell(half[key]) for key in later]
    return {
        "policy_equals_reference_at_step_0": all(
            error == row["err_ref_0"] for row in at_start for error in row["err_0"]
        ),
        "repeats_bit_for_bit": all(half[key]["err_0"] == again[key]["err_0"] for key in half),
        "reference_error_relative": float(
            np.mean([abs(half[k]["err_ref_0"] / full[k]["err_ref_0"] - 1) for k in both])
        ),
        f"logit_noise_rms_at_beta_{BETA}": float(BETA * np.sqrt(np.mean(np.square(noise)))),
        f"logit_rms_at_beta_{BETA}": float(
            BETA * np.sqrt(np.mean([ell(full[key]) ** 2 for key in later]))
        ),
        "rows": len(later),
    }


def measure_speed(call: Call, family: str) -> None:
    """The script and our variants in turn, as many rounds as the budget allows."""
    rounds = 1 if call.options.mini or family == "sdxl" else 2
    with tempfile.TemporaryDirectory(dir=call.memory) as folder:
        bench = None
        with call.guarded(family):
            bench = Bench.make(Path(folder), call.setting(family), call.options.rival)
        if bench is None:
            return
        variants = _variants(bench, family, call.options.mini)
        for turn, (name, run) in itertools.product(range(rounds), variants.items()):
            if call.left() < 25:
                call.note("out of time", step=family)
                return
            with call.guarded(family, name=name):
                taken = run()
                facts = {"family": family, "name": name, "round": turn}
                speeds = {"pairs_per_second": round(1 / taken.clock, 3), "gb": taken.gigabytes}
                with redirect_stdout(sys.__stdout__):
                    call.note("speed", **facts, **speeds, cpu_seconds=round(taken.cpu, 4))


def _variants(bench: Bench, family: str, mini: bool) -> dict[str, Callable[[], Any]]:
    """What is compared; on the GPU also what it alone makes fast."""
    variants = bench.all()
    if family == "sdxl":
        del variants[SILENT]
    elif not mini:
        for name, network in (("channels_last", {"channels_last": True}),
                              ("compile", {"compile": True})):  # fmt: skip
            run = functools.partial(bench.ours, "Adaptive, M = 3, cached", network=network)
            variants[f"Adaptive, M = 3, cached, {name}"] = run
    return variants


def run_tables(call: Call) -> None:
    """Cells of table 1, some at a time, each in a folder of its own; finished ones count."""
    at_once = call.options.cells
    waiting, running = CELLS[: 2 * at_once], []
    small = ["--steps", "4", "--pairs", "60"] if call.options.mini else []
    log = (call.out / "tables.log").open("a", encoding="utf-8")
    while (waiting or running) and call.left() > 8:
        while waiting and len(running) < at_once:
            cell = waiting.pop(0)
            running.append((cell, _start_cell(call.memory, cell, small, log)))
        for cell, process in [one for one in running if one[1].poll() is not None]:
            running.remove((cell, process))
            call.note("cell", cell=cell, status=process.returncode)
        time.sleep(0.5)
    for cell, process in running:
        process.kill()
        process.wait()
        call.note("cell", cell=cell, status="out of time")
    log.close()
    with tarfile.open(call.out / "tables.tgz", "w:gz") as archive:
        for part in sorted(call.memory.glob("cell-*/*")):
            if part.name in ("cells", "samples"):
                archive.add(part, arcname=f"{part.parent.name}/{part.name}")


def _start_cell(
    memory: Path, cell: tuple[str, str, int], small: list[str], log: Any
) -> "subprocess.Popen[bytes]":
    method, rate, seed = cell
    command = [sys.executable, "-m", "tests.benchmarks.paper_tables", "1", "--method", method]
    command += ["--rate", rate, "--seed", str(seed), "--device", "auto", *small]
    command += ["--out", str(memory / f"cell-{method}-{rate}-{seed}")]
    # Only the clock and the GPU are shared: the processes would fight for the cores otherwise.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.on_gpu")
    parser.add_argument("out", type=Path, help="folder of results.jsonl")
    parser.add_argument("--rival", type=Path, help="folder of diffusers' diffusion_dpo scripts")
    parser.add_argument("--budget", type=float, default=480, help="seconds for all of it")
    parser.add_argument("--mini", action="store_true", help="miniatures, also without a GPU")
    parser.add_argument("--cells", type=int, default=12, help="table cells at a time")
    parser.add_argument("--skip", action="append", default=[], choices=STEPS, help="leave out")
    options = parser.parse_args(arguments)
    if not options.mini and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; type --mini to rehearse on a CPU")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure what the budget allows, in the order of STEPS."""
    warnings.filterwarnings("ignore")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    options = _options(arguments)
    call = Call(options)
    # Every run starts from the same folders: hash them once.
    hashed = training.setup.hash_parts
    training.setup.hash_parts = _once(hashed)  # type: ignore[assignment]
    try:
        call.note("here", torch=torch.__version__, device=hardware(), mini=options.mini)
        steps: dict[str, Callable[[], None]] = {
            "bf16": lambda: check_bf16(call),
            "sd": lambda: measure_speed(call, "sd"),
            "sdxl": lambda: measure_speed(call, "sdxl"),
            "tables": lambda: run_tables(call),
        }
        for name, step in steps.items():
            if name not in options.skip and call.left() > 25:
                step()
                # SD1.5 makes room for SDXL.
                shutil.rmtree(call.memory / name, ignore_errors=True)
    finally:
        training.setup.hash_parts = hashed
        shutil.rmtree(call.memory, ignore_errors=True)
    call.note("end")


def _once(hash_parts: Callable[..., dict[str, str]]) -> Callable[..., dict[str, str]]:
    known: dict[Any, dict[str, str]] = {}

    def hashed(models: Any, names: Any = None) -> dict[str, str]:
        key = (models.path, None if names is None else tuple(names))
        if key not in known:
            known[key] = hash_parts(models, names)
        return known[key]

    return hashed


if __name__ == "__main__":
    assert MINIATURES.exists()
    main()
