"""The main process's half of a scorer that lives in an environment of its own.

It starts the worker, keeps a batch in its pipe while the last one is judged, and starts it once
more where it was killed, with the batches it had not answered. See `toolkit.scoring.workers`.
"""

import contextlib
import json
import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
from PIL import Image

from toolkit.errors import ScoringError
from toolkit.scoring.checkpoints import sha256_of
from toolkit.scoring.environments import Environment, ready
from toolkit.scoring.scorer import Batch, Judge, Judged, Scorer, Setup, WeightFile
from toolkit.scoring.workers.serving import IMAGES
from toolkit.store.scores import Identity

_IN_FLIGHT = 2
_PATIENCE = 10.0
"""Seconds that a worker is given to end by itself."""


class WorkerLost(Exception):
    """The worker ended without an answer; its text says how."""


@dataclass
class Worker:
    """A running worker process and its two streams."""

    process: subprocess.Popen[bytes]
    requests: Any
    log: IO[bytes]
    about: dict[str, Any] = field(default_factory=dict)
    replies: Any = None

    def send(self, batch: Batch) -> None:
        """Put a batch into the pipe. WorkerLost where nobody reads it."""
        sides = [image.size for image in batch.images]
        columns = [
            list(batch.prompts),
            [width for width, _ in sides],
            [height for _, height in sides],
            [image.tobytes() for image in batch.images],
        ]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, IMAGES, strict=True)]
        try:
            self.requests.write_batch(pa.RecordBatch.from_arrays(arrays, schema=IMAGES))
            cast(IO[bytes], self.process.stdin).flush()
        except (OSError, pa.ArrowException) as problem:
            raise self.lost() from problem

    def receive(self) -> Judged:
        """The next answer. ScoringError for a fault it tells, WorkerLost where none comes."""
        try:
            if self.replies is None:  # its schema comes with the first answer
                self.replies = pa.ipc.open_stream(cast(IO[bytes], self.process.stdout))
            batch = self.replies.read_next_batch()
        except (StopIteration, OSError, pa.ArrowException) as problem:
            raise self.lost() from problem
        columns = batch.to_pydict()
        if columns["fault"] and columns["fault"][0] is not None:
            raise ScoringError(f"The scorer could not judge a batch: {columns['fault'][0]}")
        return Judged(tuple(columns["score"]), tuple(columns["truncated"]))

    def lost(self) -> WorkerLost:
        """How the worker ended, as a clause."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_PATIENCE)
        code = self.process.poll()
        if code is not None and code < 0:
            hint = " (often for want of memory: lower --batch)" if code == -9 else ""
            return WorkerLost(f"was ended by signal {-code}{hint}")
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        last = f", saying {lines[-1][:200]!r}" if lines else ""
        return WorkerLost(f"ended with status {code}{last}")

    def close(self) -> None:
        """End it: by closing its input, and by force where that takes too long. Twice is once."""
        if self.log.closed:
            return
        with contextlib.suppress(OSError, pa.ArrowException):
            self.requests.close()
        with contextlib.suppress(OSError):
            cast(IO[bytes], self.process.stdin).close()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        cast(IO[bytes], self.process.stdout).close()
        self.log.close()


def start(environment: Environment, script: Path, setup: Mapping[str, Any]) -> Worker:
    """Start a worker and wait until its model is loaded. ScoringError where it cannot be."""
    log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
    process = subprocess.Popen(
        [str(environment.python), "-s", str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=_surroundings(),
    )
    source, sink = cast(IO[bytes], process.stdout), cast(IO[bytes], process.stdin)
    worker = Worker(process, pa.ipc.new_stream(sink, IMAGES), log)
    with contextlib.suppress(OSError):  # that nobody answers is seen in the next line
        sink.write(json.dumps({**setup, "parent": os.getpid()}).encode() + b"\n")
        sink.flush()
    answer = json.loads(source.readline() or "null")
    if answer is None:
        how = worker.lost()
        worker.close()
        raise ScoringError(
            f"The worker of {environment.name} {how}; if it does so again, remove its environment "
            f"({environment.folder}) and type `outvoted scorers install {environment.name}`."
        )
    if "fault" in answer:
        worker.close()
        raise ScoringError(answer["fault"])
    worker.about = answer["ready"]
    return worker


def _surroundings() -> dict[str, str]:
    """The worker's environment: nothing of this one's packages, and the hub shut."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONNOUSERSITE": "1"}


def load_remote(
    setup: Setup, *, environment: str, worker: str, version: str = "", **options: Any
) -> Judge:
    """A Judge whose model lives in `environment` and is served by workers/WORKER.py.

    InputError where the environment is not ready, ScoringError where the model cannot be loaded.
    """
    place = ready(environment)
    script = Path(__file__).parent / "workers" / f"{worker}.py"
    asked = {
        "weights": {role: str(path.resolve()) for role, path in setup.weights.items()},
        "device": setup.device,
        "dtype": setup.dtype,
        "version": version,
        **options,
    }
    line = _Line(place, script, asked, start(place, script, asked))
    about = line.worker.about
    identity = Identity(
        about["version"], sha256_of(setup.weights), about["preprocessing"], about["dtype"]
    )
    return Judge(identity, _as_it_is, line.stream, line.close)


def _as_it_is(image: Image.Image) -> Image.Image:
    """The package's own preprocessing runs in the worker."""
    return image


@dataclass
class _Line:
    """A worker that may be replaced once."""

    environment: Environment
    script: Path
    setup: Mapping[str, Any]
    worker: Worker
    restarted: bool = False

    def stream(self, batches: Iterable[Batch]) -> Iterator[Judged]:
        """Answers in order. What was sent and not answered is sent again to a new worker."""
        flying: deque[Batch] = deque()
        for batch in batches:
            flying.append(batch)
            self._again(flying, lambda: self.worker.send(flying[-1]))
            while len(flying) >= _IN_FLIGHT:
                yield self._answer(flying)
        while flying:
            yield self._answer(flying)

    def _answer(self, flying: deque[Batch]) -> Judged:
        while True:
            try:
                judged = self.worker.receive()
            except WorkerLost as problem:
                self._restart(problem, flying)
                continue
            flying.popleft()
            return judged

    def _again(self, flying: deque[Batch], send: Any) -> None:
        try:
            send()
        except WorkerLost as problem:
            self._restart(problem, flying)

    def _restart(self, problem: WorkerLost, flying: deque[Batch]) -> None:
        self.worker.close()
        if self.restarted:
            raise ScoringError(
                f"The worker of {self.environment.name} {problem}; it crashed again after one "
                "restart. Scores so far are saved; run the same command again to continue."
            ) from problem
        self.restarted = True
        self.worker = start(self.environment, self.script, self.setup)
        for batch in flying:
            try:
                self.worker.send(batch)
            except WorkerLost as again:
                self._restart(again, flying)

    def close(self) -> None:
        """End the worker."""
        self.worker.close()


def _hps(name: str, short: str, version: str, file: str) -> Scorer:
    return Scorer(
        name,
        f"HPS {version}, ViT-H/14, through hpsv2",
        short,
        partial(load_remote, environment="hps", worker="hps", version=version),
        needs=(WeightFile("model", f"HPS {version}'s checkpoint", (file,), "xswu/HPSv2"),),
        environment="hps",
        trained_on=("hpd",),
    )


HPS = _hps("hps", "HPS", "v2.1", "HPS_v2.1_compressed.pt")
HPS_V20 = _hps("hps_v2.0", "HPS 2.0", "v2.0", "HPS_v2_compressed.pt")
IMAGE_REWARD = Scorer(
    "image_reward",
    "ImageReward v1.0, BLIP-L, through image-reward",
    "IR",
    partial(load_remote, environment="image_reward", worker="image_reward"),
    needs=(
        WeightFile(
            "model", "ImageReward v1.0's checkpoint", ("ImageReward.pt",), "THUDM/ImageReward"
        ),
        WeightFile(
            "tokenizer",
            "a folder with bert-base-uncased's vocab.txt",
            ("bert-base-uncased",),
            "google-bert/bert-base-uncased",
            folder=True,
        ),
    ),
    environment="image_reward",
    trained_on=("imagereward",),
)
