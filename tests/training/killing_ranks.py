"""Trains on two ranks (gloo, CPU), kills one of them with SIGKILL, resumes, and probes.

    python -m tests.training.killing_ranks RECIPE.yaml

Run `whole` is left alone. Of run `killed` first rank 1 and then rank 0 is killed after a
checkpoint, and the other left to notice. Then two ranks probe `whole`, and one probes `killed`.
The parent imports everything and starts nothing, so that children begin in milliseconds; the
launchers set the same variables. Prints one JSON object: the steps whose checkpoints were there
when a rank was killed.
"""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

from tests.training.killing import child, finish
from toolkit.store import Store, open_store
from training.checkpoint import checkpoints
from training.probe import probe_run
from training.recipe import Recipe, load_recipe
from training.trainer import resume, train

PATIENCE = 600.0
"""Seconds that a rank is given to notice that the other is gone."""


def two(work: Callable[[], object]) -> list[int]:
    """Start `work` on two ranks; their process ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [child(lambda rank=rank: _as_rank(rank, port, work)) for rank in (0, 1)]


def _as_rank(rank: int, port: int, work: Callable[[], object]) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    os.environ.update({name: str(value) for name, value in {**place, **where}.items()})
    work()


def kill_one(store: Store, rank: int, after: int, ranks: list[int]) -> int:
    """SIGKILL one rank once the checkpoint of step `after` is there; the newest one's step."""
    folder = store.run("killed")
    while max(checkpoints(folder), default=0) < after:
        for pid in ranks:
            if os.waitpid(pid, os.WNOHANG)[0]:
                raise SystemExit("a rank ended before it was killed")
        time.sleep(0.002)
    os.kill(ranks[rank], signal.SIGKILL)
    os.waitpid(ranks[rank], 0)
    _must_fail(ranks[1 - rank])
    return max(checkpoints(folder))


def _must_fail(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            if status == 0:
                raise SystemExit("the other rank went on alone")
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise SystemExit("the other rank did not notice")


def main(path: str) -> None:
    recipe = load_recipe(path)
    store = open_store(str(recipe.store))

    def begin(run: str) -> Callable[[], object]:
        named: Recipe = recipe.model_copy(update={"run": run})
        return lambda: train(named)

    def finish_both(work: Callable[[], object]) -> None:
        for pid in two(work):
            finish(pid)

    def go_on() -> None:
        resume(store, "killed")

    finish_both(begin("whole"))
    first = kill_one(store, 1, recipe.checkpoint_every, two(begin("killed")))
    second = kill_one(store, 0, first + recipe.checkpoint_every, two(go_on))
    finish_both(go_on)
    finish_both(lambda: probe_run(store, "whole", draws=2))
    finish(child(lambda: probe_run(store, "killed", draws=2)))
    print(json.dumps({"killed_after": [first, second]}))


if __name__ == "__main__":
    main(sys.argv[1])
