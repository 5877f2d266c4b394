"""What a scorer is: a name, facts about it, and a function that makes it ready to judge.

Everything that scores goes through two steps. `prepare` turns one decoded picture into what the
model wants and runs in threads beside the model; `stream` takes batches of prompts and prepared
pictures and gives their scores in the same order.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from toolkit.store.scores import Identity


@dataclass(frozen=True)
class Batch:
    """Prompts and prepared pictures, (N,) each; prompts are "" for a scorer that sees none."""

    prompts: tuple[str, ...]
    pictures: tuple[Any, ...]


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
    """One RGB picture; called from several threads."""
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
