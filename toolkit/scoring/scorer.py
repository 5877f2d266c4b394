"""What a scorer is: a name, facts about it, and a function that makes it ready to judge.

Everything that scores goes through two steps. `prepare` turns one decoded image into what the
model wants and runs in threads beside the model; `stream` takes batches of prompts and prepared
images and gives their scores in the same order.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from toolkit.errors import InputError
from toolkit.store.scores import Identity


@dataclass(frozen=True)
class Batch:
    """Prompts and prepared images, (N,) each; prompts are "" for a scorer that sees none."""

    prompts: tuple[str, ...]
    images: tuple[Any, ...]


@dataclass(frozen=True)
class Judged:
    """Scores of a batch, (N,), larger is better, and whose prompt was cut at the limit."""

    scores: tuple[float, ...]
    truncated: tuple[bool, ...]


@dataclass(frozen=True)
class Judge:
    """A scorer that is loaded and holds its model until `close`."""

    identity: Identity
    prepare: Callable[[Image.Image], Any]
    """One RGB image; called from several threads."""
    stream: Callable[[Iterable[Batch]], Iterator[Judged]]
    """One Judged a Batch, in order. OutvotedError where it cannot continue."""
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class WeightFile:
    """One thing that a scorer must be given before it can score."""

    role: str
    """What it is called on the command line."""
    about: str
    names: tuple[str, ...] = ()
    """File names it is published under; looked for where a folder is given."""
    repository: str = ""
    """On the hub; empty where it is not published there."""
    published: str = ""
    """Where it is published otherwise."""
    folder: bool = False
    """It is a folder of files and not one file."""


@dataclass(frozen=True)
class Setup:
    """What the user chose for a scorer."""

    weights: Mapping[str, Path] = field(default_factory=dict)
    """Role -> file or folder; checked to exist."""
    device: str = "cpu"
    dtype: str = "auto"
    """auto: what the scorer's own package does on the device; or fp32."""


@dataclass(frozen=True)
class Scorer:
    """An entry of SCORERS."""

    name: str
    about: str
    short: str
    """Heading of its column in a table of models."""
    load: Callable[[Setup], Judge]
    sees_prompt: bool = True
    needs: tuple[WeightFile, ...] = ()
    environment: str = ""
    """Name of the environment of its own that it runs in; empty for this one."""
    trained_on: tuple[str, ...] = ()
    """Sources (as in the pairs' column `source`) whose labels it was trained on."""


def one_by_one(
    judge: Callable[[Batch], Judged],
) -> Callable[[Iterable[Batch]], Iterator[Judged]]:
    """A `stream` from a function of one batch."""

    def stream(batches: Iterable[Batch]) -> Iterator[Judged]:
        for batch in batches:
            yield judge(batch)

    return stream


DTYPES = ("auto", "fp32", "fp16", "bf16")


def device_of(name: str) -> str:
    """cpu, or cuda where there is one; `auto` takes the best. InputError for what is not here."""
    import torch

    has = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if has else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda") or (name.startswith("cuda") and not has):
        here = "cpu or cuda" if has else "cpu"
        raise InputError(f"There is no device {name!r} on this machine; choose {here}, or auto.")
    return name


def autocast(setup: Setup) -> AbstractContextManager[object]:
    """The number format of a model: float32, unless a half format was asked for."""
    import torch

    if setup.dtype in ("auto", "fp32"):
        return nullcontext()
    half = {"fp16": torch.float16, "bf16": torch.bfloat16}[setup.dtype]
    return torch.autocast(setup.device.partition(":")[0], dtype=half)


def forward() -> AbstractContextManager[object]:
    """No gradients."""
    import torch

    return torch.inference_mode()


def dtype_name(setup: Setup) -> str:
    """As a scores table says it."""
    return {"fp16": "autocast float16", "bf16": "autocast bfloat16"}.get(setup.dtype, "float32")
