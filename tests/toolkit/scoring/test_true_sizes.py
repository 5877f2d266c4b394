"""The true architectures with random weights: our batches against each package's own call.

`make test-scorers`; some 12 GB of memory and 10 GB of disk, and minutes for each model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.toolkit.scoring.packages import (
    bert,
    call,
    hub_with_hps,
    med_config,
    pictures,
    prompts,
)
from toolkit.images import decode
from toolkit.scoring import SCORERS, Batch, Judge, load
from toolkit.scoring.making import install

pytestmark = [pytest.mark.scorers, pytest.mark.timeout(3600)]
COUNT = 6


@dataclass(frozen=True)
class Case:
    """A scorer's weights on disk and what its package says of the pictures."""

    name: str
    weights: list[str]
    images: list[Path]
    prompts: list[str]
    told: list[float]


@pytest.fixture(scope="module", params=["hps", "hps_v2.0", "image_reward"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp(request.param)
    entry = SCORERS[request.param]
    install(entry.environment)
    images, words = pictures(folder, COUNT), list(prompts(COUNT))
    path = folder / entry.needs[0].names[0]
    asked = {"path": str(path), "images": [str(p) for p in images], "prompts": words, "seed": 0}
    if entry.environment == "hps":
        call("hps", "hps_weights", asked)
        hub = hub_with_hps(folder / "hf", path, path.name)
        version = "v2.1" if entry.name == "hps" else "v2.0"
        told = call("hps", "hps_score", {**asked, "version": version}, HF_HOME=str(hub))
        weights = [f"model={path}"]
    else:
        vocabulary = bert(folder)
        asked |= {"bert_parent": str(folder), "med_config": str(med_config(folder))}
        call("image_reward", "image_reward_weights", asked)
        told = call("image_reward", "image_reward_score", asked)
        weights = [f"model={path}", f"tokenizer={vocabulary}"]
    yield Case(entry.name, weights, images, words, told["scores"])
    path.unlink()  # gigabytes


def judged(judge: Judge, case: Case, size: int, order: list[int]) -> list[float]:
    """Scores in the pictures' own order, judged in batches of `size` in another one."""
    ready = [judge.prepare(decode(case.images[k].read_bytes()).picture) for k in order]
    words = [case.prompts[k] for k in order]
    batches = [
        Batch(tuple(words[k : k + size]), tuple(ready[k : k + size]))
        for k in range(0, len(order), size)
    ]
    found = [score for answer in judge.stream(batches) for score in answer.scores]
    return [found[order.index(k)] for k in range(len(order))]


def test_batched_scores_equal_the_packages_own_call_in_any_batch_and_order(case: Case) -> None:
    assert max(case.told) - min(case.told) > 1e-2, "random weights tell the pictures apart"
    judge = load(SCORERS[case.name], weights=case.weights, device="cpu")
    try:
        together = judged(judge, case, COUNT, list(range(COUNT)))
        apart = judged(judge, case, 1, list(reversed(range(COUNT))))
    finally:
        judge.close()
    assert together == pytest.approx(case.told, abs=1e-4)
    assert apart == pytest.approx(case.told, abs=1e-4)
