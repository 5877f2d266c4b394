"""Nothing is fetched: not by scorers here, and not by packages in environments of their own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from toolkit import scoring
from toolkit.errors import ScoringError
from toolkit.scoring import Batch
from toolkit.scoring.environments import Environment
from toolkit.scoring.worker_client import Worker, start

HERE = Environment("here", Path(sys.prefix))
"""This very environment: workers need no other for what is looked at."""

SERVING = """
import sys
sys.path.insert(0, {serving!r})
import socket, threading
from serving import Model, serve
def ask():
    socket.create_connection(("127.0.0.1", 9), 1)
{body}
serve(load)
"""

JUDGED = """
import socket, sys
from pathlib import Path
opened = []
OUTWARD = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
sys.addaudithook(lambda event, args: opened.append(event) if event in OUTWARD else None)
from tests.toolkit.scoring import models
from toolkit.scoring import Batch, load
folder = Path(sys.argv[1])
models.config_file(folder)
made = {"clip": models.clip_weights, "head": models.head_weights, "model": models.pickscore_weights}
for scorer in (models.TINY_CLIP_SCORER, models.TINY_AESTHETIC, models.TINY_PICKSCORE_SCORER):
    judge = load(scorer, weights=[f"{n.role}={made[n.role](folder)}" for n in scorer.needs],
                 device="cpu")
    (found,) = judge.stream([Batch(("a fox",), (judge.prepare(models.drawn(1)[0]),))])
    print(scorer.name, len(found.scores))
print("opened", opened)
try:
    socket.create_connection(("127.0.0.1", 9), 1)
except OSError:
    pass
print("control", opened)
"""


def test_scorers_of_this_environment_open_no_socket_while_they_load_and_judge(
    tmp_path: Path,
) -> None:
    """The control shows that a socket would have been seen."""
    done = subprocess.run(
        [sys.executable, "-c", JUDGED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-5:-1] == ["clip 1", "aesthetic 1", "pickscore 1", "opened []"]
    assert "socket.connect" in done.stdout.splitlines()[-1]


@pytest.fixture
def started() -> Iterator[list[Worker]]:
    workers: list[Worker] = []
    yield workers
    for worker in workers:
        worker.close()


def script(folder: Path, body: str) -> Path:
    serving = Path(scoring.__file__).parent / "workers"
    path = folder / "worker.py"
    path.write_text(SERVING.format(serving=str(serving), body=body))
    return path


def batch(count: int = 1) -> Batch:
    return Batch(("a",) * count, (Image.new("RGB", (4, 4), (9, 0, 0)),) * count)


LOADS = """
def load(setup):
    ask()
"""
JUDGES = """
def load(setup):
    return Model("1", "none", "float32", lambda p: p, lambda prompts, images: ask())
"""


def test_a_package_that_reaches_out_is_refused_and_said_to_have(
    tmp_path: Path, started: list[Worker]
) -> None:
    wanted = r"wanted to open a socket; give it every file by its path"
    with pytest.raises(ScoringError, match=wanted):
        start(HERE, script(tmp_path, LOADS), {})
    started.append(start(HERE, script(tmp_path, JUDGES), {}))
    started[0].send(batch())
    with pytest.raises(ScoringError, match=wanted):
        started[0].receive()


AHEAD = """
prepared, later = [], threading.Event()
def prepare(picture):
    prepared.append(threading.current_thread() is threading.main_thread())
    if len(prepared) > 2:
        later.set()
    return picture
def judge(prompts, images):
    print("a package that prints")
    ahead = later.wait(30) and not any(prepared)
    return [float(ahead)] * len(prompts), [False] * len(prompts)
def load(setup):
    return Model("1", "none", "float32", prepare, judge)
"""


def test_pictures_are_prepared_beside_the_model_in_a_worker(
    tmp_path: Path, started: list[Worker]
) -> None:
    """Its first batch of two waits until a picture of the second was prepared by another thread."""
    started.append(start(HERE, script(tmp_path, AHEAD), {}))
    started[0].send(batch(2))
    started[0].send(batch(2))
    assert started[0].receive().scores == (1.0, 1.0)
    assert started[0].receive().scores == (1.0, 1.0)


FAILS = """
def judge(prompts, images):
    raise RuntimeError("the matrix is too large" + chr(10) + "and more")
def load(setup):
    return Model("1", "none", "float32", lambda p: p, judge)
"""


def test_an_error_in_a_batch_is_one_sentence(tmp_path: Path, started: list[Worker]) -> None:
    started.append(start(HERE, script(tmp_path, FAILS), {}))
    started[0].send(batch())
    with pytest.raises(
        ScoringError, match=r"judge a batch: RuntimeError: the matrix is too large$"
    ):
        started[0].receive()
