"""The true architectures with random weights: our batches against each package's own call.

`make test-scorers`; some 12 GB of memory and 10 GB of disk, and minutes for each model.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.toolkit.scoring.packages import Told, told
from toolkit.images import decode
from toolkit.scoring import SCORERS, Batch, Judge, load

pytestmark = [pytest.mark.scorers, pytest.mark.timeout(3600)]
COUNT = 6


@dataclass(frozen=True)
class Case:
    """A scorer and what its package says."""

    name: str
    told: Told


@pytest.fixture(scope="module", params=["hps", "hps_v2.0", "image_reward"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    found = told(request.param, tmp_path_factory.mktemp(request.param), COUNT)
    yield Case(request.param, found)
    found.file.unlink()


def judged(judge: Judge, found: Told, size: int, order: list[int]) -> list[float]:
    """Scores in the pictures' own order, judged in batches of `size` in another one."""
    ready = [judge.prepare(decode(found.images[k].read_bytes()).picture) for k in order]
    words = [found.prompts[k] for k in order]
    batches = [
        Batch(tuple(words[k : k + size]), tuple(ready[k : k + size]))
        for k in range(0, len(order), size)
    ]
    scores = [score for answer in judge.stream(batches) for score in answer.scores]
    return [scores[order.index(k)] for k in range(len(order))]


def test_batched_scores_equal_the_packages_own_call_in_any_batch_and_order(case: Case) -> None:
    told = case.told
    assert max(told.scores) - min(told.scores) > 1e-2, "random weights tell the pictures apart"
    judge = load(SCORERS[case.name], weights=told.weights, device="cpu")
    try:
        together = judged(judge, told, COUNT, list(range(COUNT)))
        apart = judged(judge, told, 1, list(reversed(range(COUNT))))
    finally:
        judge.close()
    assert together == pytest.approx(told.scores, abs=1e-4)
    assert apart == pytest.approx(told.scores, abs=1e-4)
