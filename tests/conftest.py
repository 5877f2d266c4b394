"""Shared stores for the tests: real ones, made in tmp_path, never mocks."""

import os
from pathlib import Path

# Before numpy or torch is imported, and for every process that a test starts: one thread each.
# Tests run beside each other (make test), and threads that spin while they wait for one another
# cost eight times the CPU seconds on a busy machine, so those that a test asks for sleep.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest

from tests.factories import StoreFactory


@pytest.fixture
def make_store(tmp_path: Path) -> StoreFactory:
    """Call it for a small store with drawn images, labels, votes and, if asked, a run."""
    return StoreFactory(tmp_path)
