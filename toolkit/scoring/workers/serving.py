"""The worker's half of a scorer that lives in an environment of its own.

Both ways a line of JSON, then an Arrow stream. In, on standard input: what to load, then batches of
IMAGES. Out, on what was standard output: {"ready": about the model} or {"fault": a sentence},
then a batch of ANSWERS for each, in order.
What packages print goes to standard error. Imports nothing of this project.

The worker ends when its input ends, and also when its parent is no more, whatever it is doing.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Queue
from typing import Any, NoReturn

import pyarrow as pa

IMAGES = pa.schema(
    [
        pa.field("prompt", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("rgb", pa.large_binary()),
    ]
)
ANSWERS = pa.schema(
    [
        pa.field("score", pa.float64()),
        pa.field("truncated", pa.bool_()),
        pa.field("fault", pa.string()),
    ]
)
_AHEAD = 2


@dataclass(frozen=True)
class Model:
    """A loaded model. `judge` gives scores and whether each prompt was cut, (N,) both."""

    version: str
    preprocessing: str
    dtype: str
    prepare: Callable[[Any], Any]
    judge: Callable[[Sequence[str], Sequence[Any]], tuple[list[float], list[bool]]]


def serve(load: Callable[[dict[str, Any]], Model]) -> None:
    """Answer until the input ends. `load` raises ValueError with a sentence."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    setup = json.loads(sys.stdin.buffer.readline() or "null")
    if setup is None:  # nobody is there any more
        return
    threading.Thread(target=_end_with, args=(int(setup["parent"]),), daemon=True).start()
    sys.addaudithook(_no_sockets)
    try:
        model = load(setup)
    except Exception as problem:
        _say(out, {"fault": _sentence(problem)})
        return
    about = {name: getattr(model, name) for name in ("version", "preprocessing", "dtype")}
    _say(out, {"ready": about})
    with pa.ipc.new_stream(out, ANSWERS) as replies:
        for prompts, images in _read_ahead(model):
            replies.write_batch(_answer(model, prompts, images))
            out.flush()


def _say(out: Any, message: dict[str, Any]) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


def _read_ahead(model: Model) -> Any:
    """Batches with their images prepared, in threads, while the model works on earlier ones."""
    ready: Queue[Any] = Queue(_AHEAD)

    def read() -> None:
        with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
            try:
                for batch in pa.ipc.open_stream(sys.stdin.buffer):
                    ready.put((batch["prompt"].to_pylist(), _prepared(batch, model, pool)))
            except (pa.ArrowInvalid, OSError):
                os._exit(0)  # the input broke off inside a batch: nobody waits for an answer
            ready.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (item := ready.get()) is not None:
        yield item


def _prepared(batch: Any, model: Model, pool: ThreadPoolExecutor) -> Any:
    """The batch's images as the model wants them, or the error that one of them raised."""
    sides = zip(*(batch[name].to_pylist() for name in IMAGES.names[1:]), strict=True)
    try:
        return list(pool.map(lambda side: model.prepare(_image(*side)), sides))
    except Exception as problem:
        return problem


def _image(width: int, height: int, rgb: bytes) -> Any:
    from PIL import Image

    return Image.frombytes("RGB", (width, height), rgb)


def _answer(model: Model, prompts: list[str], images: Any) -> pa.RecordBatch:
    try:
        if isinstance(images, Exception):
            raise images
        scores, truncated = model.judge(prompts, images)
        rows = [scores, truncated, [None] * len(scores)]
    except Exception as problem:
        rows = [[None], [None], [_sentence(problem)]]
    return pa.RecordBatch.from_arrays(
        [pa.array(values, field.type) for values, field in zip(rows, ANSWERS, strict=True)],
        schema=ANSWERS,
    )


def _sentence(problem: BaseException) -> str:
    if isinstance(problem, ValueError) and str(problem).endswith("."):
        return str(problem)
    lines = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {lines[0] if lines else ''}"[:300]


def _end_with(parent: int) -> NoReturn:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def _no_sockets(event: str, args: tuple[Any, ...]) -> None:
    """A package that would fetch something on its own is refused, whatever the network."""
    outward = event == "socket.connect" and isinstance(args[1], tuple)
    if outward or event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise ValueError("The package wanted to open a socket; give it every file by its path.")
