"""A plan's counts against the run that it foresaw."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.factories import StoreFactory
from toolkit.errors import RecipeError
from toolkit.store import Store
from toolkit.store.connection import read_pairs
from training.ema import trainable
from training.estimate import Measuring, Plan, plan, row_bytes
from training.latent_cache import Encoded
from training.models import load_models, prepare_trainable
from training.pairs import load_pairs
from training.recipe import Recipe
from training.trainer import train

MakeRecipe = Callable[..., Recipe]


def a_plan(**changes: Any) -> Plan:
    base = Plan(
        device="cpu",
        pairs=100,
        images=150,
        prompts=40,
        steps=36,
        processes=1,
        pairs_per_step=10,
        numbers=1000,
        models=3,
        peak_memory=1,
        step_seconds=2.0,
        encode_seconds=0.5,
        forward_seconds=0.0,
        met=100,
        cache_bytes=1000,
        cache_limit=1000,
        row_bytes=100.0,
        checkpoints=2,
        files=4,
        weights_bytes=4000,
        state_bytes=8000,
    )
    return replace(base, **changes)


def test_hours_count_steps_and_what_must_be_encoded() -> None:
    """360 visits of 100 pairs: 72 s of steps; encoded once 50 s, with a cache of half 115 s."""
    assert a_plan().visits == 3.6
    assert a_plan().pairs_per_second == 5
    assert a_plan().hours == pytest.approx((72 + 50) / 3600)
    assert a_plan(cache_limit=500).encoded_pairs == 100 + 260 / 2
    assert a_plan(cache_limit=500).hours == pytest.approx((72 + 115) / 3600)
    assert a_plan(cache_limit=None).encoded_pairs == 100  # on disk
    assert a_plan(steps=5, met=50).encoded_pairs == 50  # not every pair is met
    assert a_plan().trajectory_bytes == 36_000
    assert a_plan().checkpoint_bytes == 2 * 4 * 4000 + 8000


def test_hours_count_probes_and_held_out_pairs() -> None:
    """At .01 s a pass of three models and the reference: 5 pairs under 4 draws, 3 times, are 240
    passes; 10 under 2, 2 times, are 120 and once more 20 of the reference. 60 rows and 40."""
    probe, held_out = Measuring((*range(5),), 4, 3, False), Measuring((*range(10),), 2, 2, True)
    found = a_plan(probe=probe, held_out=held_out, forward_seconds=0.01, met=110)
    assert found.measuring_seconds == pytest.approx(2.4 + 1.4)
    assert found.hours == pytest.approx((72 + 55 + 3.8) / 3600)
    assert found.visits == 3.6  # of training
    assert (found.measured, found.rows, found.trajectory_bytes) == (100, 460, 46_000)
    assert replace(found, cache_limit=0).encoded_pairs == 460  # each draw encodes again
    assert replace(found, processes=2).measuring_seconds == pytest.approx(1.9)


@pytest.mark.parametrize("preset", ["released", "history"])
def test_rows_and_caches_of_a_real_run_are_foreseen_exactly(
    preset: str, make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    """4 steps of 5 meet 20 of 40 pairs; measured every 3, hence after 3 and 4."""
    store = make_store(pairs=52, held_out=12)
    recipe = recipe_for(
        store,
        steps=4,
        batch_size=5,
        metric={"preset": preset},
        footprints=[] if preset == "history" else [0.9],
        probe={"every": 3, "pairs": 9, "draws": 2},
        held_out={"every": 3, "pairs": 11, "draws": 3},
        samples={"prompts": ["a", "b"], "every": 5, "steps": 1},
        caches={"disk": True},
        checkpoint_every=3,
    )
    found = plan(recipe)
    assert not (store.root / "caches").exists()
    train(recipe)
    run = store.run("r")
    parts = list(run.glob("trajectory/*/*.parquet"))
    kinds = [kind for part in parts for kind in pq.read_table(part)["kind"].to_pylist()]
    assert (found.rows, found.trained) == (len(kinds), kinds.count("train"))
    assert (found.rows, found.trained) == (20 + 2 * 9 * 2 + 2 * 11 * 3, 20)
    images, prompts = _encoded(recipe, store)
    assert 2 * (20 + 11) < images == 2 * found.met  # the probe meets more than training
    assert found.cache_bytes == images * 1048 + prompts * 512
    assert found.samples == len(list(run.glob("samples/*/*.png")))
    files = list(run.glob("checkpoints/*/*.safetensors"))
    assert found.checkpoints * found.files == len(files)
    assert all(0.9 < file.stat().st_size / found.weights_bytes < 1.1 for file in files)
    states = [file.stat().st_size for file in run.glob("checkpoints/*/state/*")]
    assert sum(states) == pytest.approx(found.state_bytes, rel=0.1)


def _encoded(recipe: Recipe, store: Store) -> tuple[int, int]:
    """How many of the store's 104 images and 13 prompts lie in its caches."""
    models, side = load_models(recipe.backbone.path), recipe.backbone.resolution
    shelves = Encoded(store, models, side, memory_gb=0, disk=True)
    rows = read_pairs(store, ["image_0", "image_1", "prompt"]).to_pylist()
    images = shelves.missing_images([row[slot] for row in rows for slot in ("image_0", "image_1")])
    return 104 - len(images), 13 - len(shelves.missing_prompts([row["prompt"] for row in rows]))


def test_where_the_network_is_divided_others_hold_their_part_of_its_memory() -> None:
    """20 bytes a number (policy, gradient, two moments, reference): 20,000 of 50,000, of which
    four processes hold 5,000 each."""
    assert a_plan(peak_memory=50_000, processes=4).shared_memory == 35_000
    assert a_plan(peak_memory=50_000).shared_memory == 50_000


def test_processes_share_the_encoding_and_take_more_pairs_a_step(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    """On disk 100 pairs are encoded once, in .5 s each. In memory of its own each of 5 processes
    encodes a pair that it meets in one of 3.6 epochs: 1 - .8^3.6 of them do, 2.76 of 5."""
    assert a_plan(processes=5, cache_limit=None).hours == pytest.approx((72 + 10) / 3600)
    apart = a_plan(processes=5, cache_limit=10**9)
    assert apart.encoders == pytest.approx(2.761, abs=1e-3)
    assert apart.hours == pytest.approx((72 + 27.61) / 3600, rel=1e-3)
    half = a_plan(processes=5, cache_limit=276)  # of the 552 bytes that each would hold
    assert half.encoded_pairs == pytest.approx(276.1 + (360 - 276.1) / 2, rel=1e-3)
    recipe = recipe_for(make_store(), run=None)
    one, four = plan(recipe), plan(recipe, 4)
    assert (four.rows, four.pairs_per_step) == (4 * one.rows, 4 * one.pairs_per_step)
    assert four.checkpoint_bytes == one.checkpoint_bytes


def test_a_plan_counts_what_is_there_and_writes_nothing(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store()
    recipe = recipe_for(store, accumulation=2, run=None)
    before = sorted(store.root.rglob("*"))
    found = plan(recipe)
    assert sorted(store.root.rglob("*")) == before
    assert (found.pairs, found.images, found.prompts) == (40, 80, 10)
    assert (found.rows, found.visits, found.models) == (160, 4.0, 3)
    models = load_models(recipe.backbone.path)
    prepare_trainable(models, recipe.backbone)
    assert found.numbers == sum(p.numel() for p in trainable(models.unet).values())
    assert min(found.step_seconds, found.encode_seconds) > 0
    assert found.peak_memory > 50e6
    # 80 images of 2 x 4 x 8 x 8 halves and six time ids, 10 prompts of 16 x 16 halves
    assert found.cache_bytes == 80 * (1024 + 24) + 10 * 512


def test_a_trajectorys_size_is_foreseen_rather_too_large(make_store: StoreFactory) -> None:
    """4,000 rows of three models; here loss, margin and c2 are constant and take nothing."""
    store = make_store(pairs=400, run=True, visits=10)
    pairs = load_pairs(store, labels="original", split="train", rulings=None)
    files = list(store.run("r").glob("trajectory/*/*.parquet"))
    written = sum(file.stat().st_size for file in files)
    assert len(files) == 1
    assert 1 < row_bytes(pairs.pair_id, 3, 4000) / (written / 4000) < 1.35


def test_checkpoints_are_foreseen(make_store: StoreFactory, recipe_for: MakeRecipe) -> None:
    recipe = recipe_for(make_store(), steps=2, checkpoint_every=1, backbone={"train": "full"})
    found = plan(recipe)
    train(recipe)
    run = Path(str(recipe.store)) / "runs" / "r"
    files = [p for p in run.glob("checkpoints/*/**/*") if p.is_file()]
    written = sum(p.stat().st_size for p in files)
    assert found.checkpoint_bytes == pytest.approx(written, rel=0.25)  # tiny: headers weigh


def test_more_models_take_more_bytes_a_row(make_store: StoreFactory) -> None:
    pairs = load_pairs(make_store(), labels="original", split="train", rulings=None)
    one, three = (row_bytes(pairs.pair_id, models, 5000) for models in (1, 3))
    assert three - one == pytest.approx(24, rel=0.2)  # two errors and a scale a model


def test_a_plan_needs_a_store(recipe_for: MakeRecipe, make_store: StoreFactory) -> None:
    with pytest.raises(RecipeError, match="names no store"):
        plan(recipe_for(make_store()).model_copy(update={"store": None}))
