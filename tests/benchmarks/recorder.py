"""What the recorder costs a step: CPU seconds of runs with it and without it.

    python -m tests.benchmarks.recorder --out tests/benchmarks/results/recorder.md

Runs with and without take turns in one process, on a store whose caches are full. CPU seconds and
not the clock, so that other work on the machine counts little; those of the whole process, hence
of the writer's thread too. Beside that difference, which other work still blurs, stands what the
recorder was seen to use: its calls on the training thread and all of its writer's thread.
"""

import argparse
import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.ranking_metrics import mean_interval
from tests.benchmarks.training import M3, PLAIN, Setting, hardware, recipe_of, recorder_off
from toolkit.miniworld.dataset import ingest_world
from toolkit.recorder import TrajectoryWriter
from toolkit.store import Store, create_store
from training.precompute import precompute
from training.trainer import Trainer, train
from training.trajectory_writer import StepRecorder

MEASURED = {"plain DPO": PLAIN, "Adaptive, running, M = 3": M3}
NAMES = tuple(MEASURED)
CALLS = ("add", "seen", "drain", "flush", "close")


class Used:
    """CPU seconds: of the steps, and of the recorder within them."""

    def __init__(self) -> None:
        self.steps = 0.0
        self.calls = 0.0
        self.thread = 0.0


@contextlib.contextmanager
def watched(used: Used) -> Iterator[None]:
    """Count what runs use from their first step to their last checkpoint."""
    steps, work = Trainer._train, TrajectoryWriter._work
    calls = {n: getattr(StepRecorder, n) for n in CALLS}
    inside = threading.local()

    def timed_steps(*given: Any) -> None:
        began = time.process_time()
        steps(*given)
        used.steps += time.process_time() - began

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any) -> Any:
            if getattr(inside, "counting", False):  # one calls another: counted once
                return call(*given)
            inside.counting, began = True, time.thread_time()
            try:
                return call(*given)
            finally:
                used.calls += time.thread_time() - began
                inside.counting = False

        return counted

    def timed_work(self: TrajectoryWriter) -> None:
        work(self)
        used.thread += time.thread_time()

    Trainer._train = timed_steps  # type: ignore[method-assign, assignment]
    TrajectoryWriter._work = timed_work  # type: ignore[method-assign]
    for name, call in calls.items():
        setattr(StepRecorder, name, timed(call))
    try:
        yield
    finally:
        Trainer._train, TrajectoryWriter._work = steps, work  # type: ignore[method-assign]
        for name, call in calls.items():
            setattr(StepRecorder, name, call)


def measure(setting: Setting, pairs: int, rounds: int) -> dict[str, list[tuple[Used, Used]]]:
    """Per rival and round what a run used with the recorder, and without it; which of the two is
    first changes from round to round."""
    found: dict[str, list[tuple[Used, Used]]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        store = create_store(Path(folder) / "store")
        ingest_world(store, Path(folder) / "truth.parquet", pairs=pairs, seed=0)
        ask = {"caches": {"disk": True}, "log_every": 10}
        precompute(recipe_of(store, setting, "fill", **PLAIN, **ask))
        for name in NAMES:
            _run(store, setting, f"warm-{NAMES.index(name)}", {**MEASURED[name], **ask})
        for turn in range(rounds):
            for number, name in enumerate(NAMES):
                changes = {**MEASURED[name], **ask}
                both: dict[bool, Used] = {}
                for off in (False, True) if turn % 2 else (True, False):
                    run = f"{'off' if off else 'on'}-{number}-{turn}"
                    with recorder_off() if off else contextlib.nullcontext():
                        both[off] = _run(store, setting, run, changes)
                found[name].append((both[False], both[True]))
    return found


def _run(store: Store, setting: Setting, run: str, changes: dict[str, Any]) -> Used:
    used = Used()
    with watched(used):
        train(recipe_of(store, setting, run, **changes))
    return used


def report(setting: Setting, found: dict[str, list[tuple[Used, Used]]], command: str) -> str:
    rounds = len(found[NAMES[0]])
    lines = [
        "# What the recorder costs",
        "",
        f"    {command}",
        "",
        f"{hardware()}; torch {torch.__version__}, {torch.get_num_threads()} thread(s). Backbone "
        f"{setting.backbone}, {setting.resolution} px, LoRA, {setting.precision}, batch "
        f"{setting.batch}, log points every 10 steps, one checkpoint; {rounds} rounds, median "
        "(lowest to highest round); with over without: mean (95 % bootstrap over rounds). CPU "
        "seconds of the whole process from the first step to the "
        "last checkpoint.",
        "",
        "| | CPU ms a pair | the recorder's own calls and thread, of that | with it / without it |",
        "|---|---|---|---|",
    ]
    seen = setting.last * setting.batch
    for name, turns in found.items():
        cost = [(on.calls + on.thread) / on.steps for on, _ in turns]
        ratio = np.array([on.steps / off.steps for on, off in turns])
        mean = mean_interval(ratio, np.arange(len(ratio)), resamples=2000)
        each = [1000 * on.steps / seen for on, _ in turns]
        lines.append(
            f"| {name} | {statistics.median(each):.1f} | {_spread(cost, '.2%')} | "
            f"{mean.value:.3f} ({mean.low:.3f} to {mean.high:.3f}) |"
        )
    return "\n".join([*lines, ""])


def _spread(values: list[float], kind: str) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):{kind}} ({low:{kind}} to {high:{kind}})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.recorder")
    parser.add_argument("--backbone", default="miniature:sd")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=320)
    parser.add_argument("--visits", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    steps = asked.visits * asked.pairs // asked.batch
    setting = Setting(asked.backbone, asked.resolution, asked.precision, asked.batch, 0, steps)
    given = ("backbone", "resolution", "precision", "batch", "pairs", "visits", "rounds")
    options = " ".join(f"--{name} {getattr(asked, name)}" for name in given)
    command = f"python -m tests.benchmarks.recorder {options}"
    text = report(setting, measure(setting, asked.pairs, asked.rounds), command)
    print(text)
    if asked.out is not None:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
