"""Optional dependencies: their absence is a sentence, not a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from toolkit.errors import InputError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around the heavy imports of a verb: names the extra to install where one is missing."""
    try:
        yield
    except ModuleNotFoundError as problem:
        top = (problem.name or "").partition(".")[0]
        if top in ("toolkit", "training", "analysis", "app"):
            raise
        raise InputError(
            f"This needs the package {top}, which is not installed; type "
            f"`pip install 'outvoted[{extra}]'`."
        ) from problem
