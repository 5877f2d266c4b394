"""Visits whose caption was dropped are marked and have no part in scores; what SDXL is told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from analysis.trajectory_stream import digest_run
from tests.factories import StoreFactory
from toolkit.ids import is_captioned
from toolkit.store import Store
from toolkit.store.pair_table import pair_table
from training.batches import make_batch, size_ids
from training.recipe import Backbone, Recipe
from training.setup import prepare_inputs
from training.trainer import train

MakeRecipe = Callable[..., Recipe]


def trajectory(store: Store) -> pa.Table:
    return pa.concat_tables([pq.read_table(part) for part in store.trajectory("r")])


def test_they_are_marked_and_left_out_also_in_runs_that_did_not_say_so(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store = make_store(pairs=20)
    metric = {"preset": "history", "rms_min_count": 1, "timestep_bins": 2}
    train(recipe_for(store, caption_dropout=0.4, metric=metric, footprints=[], seed=3))
    rows = trajectory(store)
    keys = zip(rows["pair_id"].to_pylist(), rows["draw"].to_pylist(), strict=True)
    assert rows["captioned"].to_pylist() == [is_captioned(3, *key, 0.4) for key in keys]
    dropped = rows.filter(pc.invert(rows["captioned"]))
    assert 0 < len(dropped) < len(rows)
    assert dropped["minority"].null_count == len(dropped)
    assert set(dropped["weight"].to_pylist()) == {1.0}
    facts = pair_table(store, columns=["label"], by_id=True)
    now, _ = digest_run(store, "r", facts)
    assert now.excluded == {"no_caption": len(dropped)}
    assert now.differs < 1e-5  # recomputed from the rows that count, as training did
    for part in store.trajectory("r"):
        pq.write_table(pq.read_table(part).drop_columns(["captioned"]), part)
    old, _ = digest_run(store, "r", facts)
    assert old.excluded == now.excluded
    np.testing.assert_array_equal(old.visits, now.visits)


def test_sdxl_is_given_the_same_size_for_both_images_and_zeros_for_no_prompt(
    make_store: StoreFactory, recipe_for: MakeRecipe, sdxl: Path
) -> None:
    own = torch.tensor([[20, 30, 0, 1, 16, 16], [16, 16, 0, 0, 16, 16], [40, 40, 2, 2, 16, 16]] * 2)
    own[3:] += 100
    section = Backbone(path="x", resolution=16)
    constant = size_ids(section, own, [True, False, True])
    assert constant.tolist() == [[16, 16, 0, 0, 16, 16]] * 6
    pair = size_ids(section.model_copy(update={"time_ids": "pair"}), own, [True, False, True])
    assert torch.equal(pair[:3], torch.stack([own[0], own[4], own[2]]))
    assert torch.equal(pair[:3], pair[3:])
    image = section.model_copy(update={"time_ids": "image"})
    assert size_ids(image, own, [True] * 3) is own

    store = make_store(pairs=20)
    recipe = recipe_for(store, backbone={"path": str(sdxl)}, caption_dropout=0.5)
    source = prepare_inputs(recipe).source
    members = [(k, 0) for k in range(10)]
    zero, encoded = (
        make_batch(replace(source, recipe=recipe.model_copy(update={"empty_prompt": how})), members)
        for how in ("pipeline", "encoded")
    )
    kept = zero.captioned.repeat(2)
    assert 0 < int(kept.sum()) < len(kept)
    for name in ("states", "pooled"):
        values, others = getattr(zero.condition, name), getattr(encoded.condition, name)
        assert not values[~kept].any()
        assert others[~kept].any()
        assert torch.equal(values[kept], others[kept])
