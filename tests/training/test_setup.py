"""A backbone is read and hashed once a run, and only by one process."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.factories import StoreFactory
from training.estimate import estimate
from training.precompute import precompute
from training.probe import probe_run
from training.recipe import Recipe
from training.setup import ENCODERS, NETWORK, _shared_hashes
from training.trainer import train

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was hashed, by its folder in the backbone."""
    counts: Counter[str] = Counter()
    real = hashlib.file_digest

    def counting(stream: Any, kind: Any) -> Any:
        file = Path(stream.name)
        if "checkpoints" not in file.parts:  # those are verified by their manifests
            counts[f"{file.parent.name}/{file.name}"] += 1
        return real(stream, kind)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return counts


def folders(hashed: Counter[str]) -> set[str]:
    return {name.partition("/")[0] for name in hashed}


def test_a_run_with_fixed_draws_and_disk_caches_hashes_each_file_once(
    make_store: StoreFactory, recipe_for: MakeRecipe, hashed: Counter[str]
) -> None:
    draws = {"kind": "fixed", "count": 1}
    train(recipe_for(make_store(), steps=1, draws=draws, caches={"disk": True}))
    assert set(hashed.values()) == {1}
    assert folders(hashed) == {"vae", "text_encoder", "tokenizer", "unet", "scheduler"}


def test_caches_probes_and_estimates_hash_what_they_need(
    make_store: StoreFactory, recipe_for: MakeRecipe, hashed: Counter[str]
) -> None:
    store = make_store(pairs=10)
    recipe = recipe_for(store, steps=1)
    estimate(recipe)
    assert hashed == {}
    precompute(recipe)
    assert set(hashed.values()) == {1}
    assert folders(hashed) == {"vae", "text_encoder", "tokenizer"}
    train(recipe)
    hashed.clear()
    probe_run(store, "r", draws=1)
    assert set(hashed.values()) == {1}
    assert folders(hashed) == {"unet", "scheduler"}


def test_other_processes_receive_the_hashes_and_read_nothing(
    sd: Path, monkeypatch: pytest.MonkeyPatch, hashed: Counter[str]
) -> None:
    from training.models import load_models

    class Second:
        is_main_process = False

    sent = {"vae": "a", "unet": "b"}
    monkeypatch.setattr("accelerate.utils.broadcast_object_list", lambda _: [sent])
    models = load_models(str(sd))
    assert _shared_hashes(models, (*ENCODERS, *NETWORK), Second()) == sent
    assert hashed == {}
