"""A plan's counts against the run that it foresaw."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.factories import StoreFactory
from toolkit.errors import RecipeError
from training.data import load_pairs
from training.footprints import trainable
from training.loop import train
from training.models import load_models, prepare_trainable
from training.plan import Plan, plan, row_bytes
from training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]


def a_plan(**changes: float) -> Plan:
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
        cache_bytes=1000,
        cache_limit=1000,
        row_bytes=100.0,
        checkpoints=2,
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
    assert a_plan(steps=5).encoded_pairs == 50  # not every pair is met
    assert a_plan().trajectory_bytes == 36_000
    assert a_plan().checkpoint_bytes == (2 * 3 + 3) * 4000


def test_where_the_network_is_divided_others_hold_their_part_of_its_memory() -> None:
    """20 bytes a number (policy, gradient, two moments, reference): 20,000 of 50,000, of which
    four processes hold 5,000 each."""
    assert a_plan(peak_memory=50_000, processes=4).shared_memory == 35_000
    assert a_plan(peak_memory=50_000).shared_memory == 50_000


def test_processes_share_the_encoding_and_take_more_pairs_a_step(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    assert a_plan(processes=5).hours == pytest.approx((72 + 10) / 3600)
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
