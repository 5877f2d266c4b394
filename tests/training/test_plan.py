"""An estimate's counts against the run that it foresaw."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.factories import StoreFactory
from toolkit.errors import RecipeError
from training.ema import trainable
from training.estimate import Estimate, estimate, row_bytes, times_due
from training.models import load_models, prepare_trainable
from training.pairs import load_pairs
from training.recipe import Recipe
from training.trainer import train

MakeRecipe = Callable[..., Recipe]


def an_estimate(**changes: Any) -> Estimate:
    base = Estimate(
        device="cpu",
        pairs=100,
        images=150,
        prompts=40,
        steps=36,
        processes=1,
        pairs_per_step=10,
        trainable=1000,
        models=3,
        peak_memory=1,
        step_seconds=2.0,
        encode_seconds=0.5,
        forward_seconds=0.0,
        cache_bytes=1000,
        cache_limit=1000,
        row_bytes=100.0,
        measured=0,
        checkpoints=2,
        checkpoint_bytes=40_000,
    )
    return replace(base, **changes)


def test_hours_count_steps_and_what_must_be_encoded() -> None:
    """360 visits of 100 pairs: 72 s of steps; encoded once 50 s, without room at each visit 180."""
    assert an_estimate().visits == 3.6
    assert an_estimate().pairs_per_second == 5
    assert an_estimate().hours == pytest.approx((72 + 50) / 3600)
    assert an_estimate(cache_limit=999).hours == pytest.approx((72 + 180) / 3600)
    assert an_estimate(cache_limit=None).encoded == 100  # on disk
    assert an_estimate(steps=5).encoded == 50  # not every pair is visited
    assert an_estimate().trajectory_bytes == 36_000


def test_hours_count_probes_and_held_out_pairs() -> None:
    """100 rows of three models and the reference at .01 s a pass: 4 s."""
    result = an_estimate(measured=100, forward_seconds=0.01)
    assert result.measuring_seconds == pytest.approx(4.0)
    assert result.hours == pytest.approx((72 + 50 + 4) / 3600)
    assert result.visits == 3.6  # of training
    assert (result.rows, result.trajectory_bytes) == (460, 46_000)
    assert replace(result, cache_limit=0).encoded == 460  # each row encodes again
    assert replace(result, processes=2).measuring_seconds == pytest.approx(2.0)


def test_what_is_due_comes_after_every_so_many_steps_and_after_the_last() -> None:
    assert [times_due(4, steps) for steps in (1, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]


@pytest.mark.parametrize("preset", ["released", "history"])
def test_rows_and_files_of_a_real_run_are_foreseen(
    preset: str, make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    """8 steps of 5 visit all 40 pairs; measured every 3, hence after 3, 6 and 8."""
    store = make_store(pairs=52, held_out=12)
    recipe = recipe_for(
        store,
        steps=8,
        batch_size=5,
        metric={"preset": preset},
        footprints=[] if preset == "history" else [0.9],
        probe={"every": 3, "pairs": 9, "draws": 2},
        held_out={"every": 3, "pairs": 11, "draws": 3},
        samples={"prompts": ["a", "b"], "every": 9, "steps": 1},
        caches={"disk": True},
        checkpoint_every=5,
    )
    result = estimate(recipe)
    assert not (store.root / "caches").exists()
    train(recipe)
    run = store.run("r")
    parts = list(run.glob("trajectory/*/*.parquet"))
    kinds = [kind for part in parts for kind in pq.read_table(part)["kind"].to_pylist()]
    assert (result.rows, result.trained) == (len(kinds), kinds.count("train"))
    assert (result.rows, result.trained) == (40 + 3 * 9 * 2 + 3 * 11 * 3, 40)
    assert result.cache_bytes == result.images * 1048 + result.prompts * 512
    assert result.images == 2 * (40 + 11)
    written = sum(p.stat().st_size for p in (store.root / "caches").rglob("*.arrow"))
    assert result.cache_bytes < written < result.cache_bytes + 20_000  # names and headers on top
    assert result.samples == len(list(run.glob("samples/*/*.png")))
    files = [p for p in run.glob("checkpoints/*/**/*") if p.suffix in (".safetensors", ".pt")]
    assert result.checkpoints == len(list(run.glob("checkpoints/*"))) == 2
    assert result.checkpoint_bytes == pytest.approx(sum(p.stat().st_size for p in files), rel=0.15)


def test_where_the_network_is_divided_others_have_their_part_of_its_memory() -> None:
    """20 bytes a number (policy, gradient, two moments, reference): 20,000 of 50,000, of which
    four processes have 5,000 each."""
    assert an_estimate(peak_memory=50_000, processes=4).shared_memory == 35_000
    assert an_estimate(peak_memory=50_000).shared_memory == 50_000


def test_processes_share_the_encoding_and_take_more_pairs_a_step(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    """On disk 100 pairs are encoded once, in .5 s each, by five processes in 10 s. With memory of
    its own each encodes what it visits: at most all 100, and not more than there are rows."""
    assert an_estimate(processes=5, cache_limit=None).hours == pytest.approx((72 + 10) / 3600)
    assert an_estimate(processes=5).encoded == 360
    assert an_estimate(processes=2).encoded == 200
    recipe = recipe_for(make_store(), run=None)
    one, four = estimate(recipe), estimate(recipe, 4)
    assert (four.rows, four.pairs_per_step) == (4 * one.rows, 4 * one.pairs_per_step)
    assert four.checkpoint_bytes == one.checkpoint_bytes


def test_an_estimate_counts_what_is_there_and_writes_nothing(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store()
    recipe = recipe_for(store, accumulation=2, run=None)
    before = sorted(store.root.rglob("*"))
    result = estimate(recipe)
    assert sorted(store.root.rglob("*")) == before
    assert (result.pairs, result.images, result.prompts) == (40, 80, 10)
    assert (result.rows, result.visits, result.models) == (160, 4.0, 3)
    models = load_models(recipe.backbone.path)
    prepare_trainable(models, recipe.backbone)
    assert result.trainable == sum(p.numel() for p in trainable(models.unet).values())
    assert min(result.step_seconds, result.encode_seconds) > 0
    assert result.peak_memory > 50e6
    # 80 images of 2 x 4 x 8 x 8 halves and six time ids, 10 prompts of 16 x 16 halves
    assert result.cache_bytes == 80 * (1024 + 24) + 10 * 512


def test_a_trajectorys_size_is_foreseen_rather_too_large(make_store: StoreFactory) -> None:
    """4,000 rows of three models; here loss, margin and c2 are constant and take nothing."""
    store = make_store(pairs=400, run=True, visits=10)
    pairs = load_pairs(store, labels="original", split="train", verdicts=None)
    files = list(store.run("r").glob("trajectory/*/*.parquet"))
    written = sum(file.stat().st_size for file in files)
    assert len(files) == 1
    assert 1 < row_bytes(pairs.pair_id, 3, 4000) / (written / 4000) < 1.35


def test_checkpoints_are_foreseen(make_store: StoreFactory, recipe_for: MakeRecipe) -> None:
    recipe = recipe_for(make_store(), steps=2, checkpoint_every=1, backbone={"train": "full"})
    result = estimate(recipe)
    train(recipe)
    run = Path(str(recipe.store)) / "runs" / "r"
    files = [p for p in run.glob("checkpoints/*/**/*") if p.is_file()]
    written = sum(p.stat().st_size for p in files)
    assert result.checkpoint_bytes == pytest.approx(written, rel=0.25)  # tiny: headers weigh


def test_more_models_take_more_bytes_a_row(make_store: StoreFactory) -> None:
    pairs = load_pairs(make_store(), labels="original", split="train", verdicts=None)
    one, three = (row_bytes(pairs.pair_id, models, 5000) for models in (1, 3))
    assert three - one == pytest.approx(24, rel=0.2)  # two errors and a scale a model


def test_an_estimate_needs_a_store(recipe_for: MakeRecipe, make_store: StoreFactory) -> None:
    with pytest.raises(RecipeError, match="names no store"):
        estimate(recipe_for(make_store()).model_copy(update={"store": None}))
