"""Trains one recipe whole, and again with SIGKILL at random moments, in forked children.

    python -m tests.training.killing RECIPE.yaml KILLS SEED

The parent imports everything and starts nothing, so that a child begins in milliseconds. Runs are
named whole, killed-0, killed-1 ...; each killed run is resumed until it is finished. Prints one
JSON object: how often each run was really killed before its end.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable

import psutil
import torch

from toolkit.store import open_store
from training.recipe import load_recipe
from training.trainer import resume, train


def child(work: Callable[[], object]) -> int:
    """Start `work` in a forked child; its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        torch.set_num_threads(1)
        work()
        os._exit(0)
    except BaseException as problem:
        print(repr(problem), file=sys.stderr, flush=True)
        os._exit(1)


def finish(pid: int) -> float:
    """Wait for a child that must end well; the CPU seconds it took."""
    _, status, used = os.wait4(pid, 0)
    if status != 0:
        raise SystemExit(f"a child ended with status {status}")
    return used.ru_utime + used.ru_stime


def kill_after(pid: int, seconds: float) -> bool:
    """SIGKILL a child once it used so many CPU seconds; False where it ended well before.

    CPU seconds and not the clock: how far a child comes in a second depends on what else runs.
    """
    child_of_ours = psutil.Process(pid)
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended and status != 0:
            raise SystemExit(f"a child ended with status {status}")
        if ended:
            return False
        used = child_of_ours.cpu_times()
        if used.user + used.system >= seconds:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return True
        time.sleep(0.002)


def main(path: str, kills: int, seed: int) -> None:
    recipe = load_recipe(path)
    store = open_store(str(recipe.store))

    def go(run: str) -> Callable[[], object]:
        return lambda: begin_or_resume(run)

    def begin_or_resume(run: str) -> None:
        if (store.run(run) / "run.json").exists():
            resume(store, run)
        else:
            train(recipe.model_copy(update={"run": run}))

    lasts = finish(child(go("whole")))
    rng = random.Random(seed)
    counts = []
    for k in range(kills):
        killed = 0
        for _ in range(rng.choice([1, 1, 2])):
            pid = child(go(f"killed-{k}"))
            if not kill_after(pid, rng.uniform(0.1, 0.95) * lasts):
                break
            killed += 1
        finished = store.run(f"killed-{k}") / "checkpoints" / f"step-{recipe.steps:06d}"
        if not finished.exists():
            finish(child(go(f"killed-{k}")))
        counts.append(killed)
    print(json.dumps({"killed": counts}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
