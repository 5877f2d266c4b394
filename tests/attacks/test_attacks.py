"""No random input ends in a traceback, a hang or silence: a few cases here, thousands with
`make attacks` (figures: results.md)."""

import subprocess
import sys

import pytest

from tests.attacks.run import attack

IN_PROCESS = {"conditions": (300, 10_000), "links": (60, 2_000)}
FORKED = {"damages": (12, 600), "commands": (8, 600)}


@pytest.mark.parametrize("kind", IN_PROCESS)
def test_a_few_random_cases(kind):
    assert attack(kind, IN_PROCESS[kind][0], seed=1).failures == []


@pytest.mark.parametrize("kind", FORKED)
def test_a_few_forked_cases(kind):
    run(kind, FORKED[kind][0], seed=1)


@pytest.mark.attacks
@pytest.mark.parametrize("kind", [*IN_PROCESS, *FORKED])
def test_thousands(kind):
    run(kind, (IN_PROCESS | FORKED)[kind][1], seed=0)


def run(kind: str, count: int, seed: int) -> None:
    """In a process of its own, which has used no threads before it forks."""
    words = ["-m", "tests.attacks.run", kind, "--count", str(count), "--seed", str(seed)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
