"""Waiting for something that another process or thread does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 600.0
"""Seconds after which a wait counts as hung. Not even a busy machine needs them."""


def wait_for(condition: Callable[[], T], what: str) -> T:
    """Poll until `condition()` is true; its value. Fails with `what` after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:.0f} s"
        time.sleep(0.02)
    return value
