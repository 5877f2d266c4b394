"""The true sizes, a few steps each: minutes and gigabytes, so not in `make test`."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from diffusers import UNet2DConditionModel

from tests.factories import StoreFactory
from tests.training.real_sizes import save_sd15, save_sdxl, sd15_unet, sdxl_unet
from toolkit.files.atomic import parts
from training.recipe import Recipe
from training.trainer import train

MakeRecipe = Callable[..., Recipe]


def parameters(make: Callable[[], UNet2DConditionModel]) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in make().parameters())


def test_the_builders_have_the_published_numbers_of_parameters() -> None:
    assert parameters(sd15_unet) == 859_520_964
    assert parameters(sdxl_unet) == 2_567_463_684


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sd15_with_adapters_and_two_footprints_trains_on_a_cpu(
    make_store: StoreFactory, recipe_for: MakeRecipe, tmp_path: Path
) -> None:
    store = make_store(pairs=4)
    folder = save_sd15(tmp_path / "sd15")
    recipe = recipe_for(
        store,
        steps=2,
        batch_size=2,
        backbone={"path": str(folder), "resolution": 128, "lora": {"rank": 16}},
    )
    train(recipe)
    check(store.run("r"), rows=4, models=3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("family", "side"), [(save_sd15, 512), (save_sdxl, 1024)])
def test_the_true_sizes_train_on_a_gpu_in_bf16(
    family: Callable[[Path], Path],
    side: int,
    make_store: StoreFactory,
    recipe_for: MakeRecipe,
    tmp_path: Path,
) -> None:
    store = make_store(pairs=8)
    backbone = {"path": str(family(tmp_path / "model")), "resolution": side}
    train(recipe_for(store, steps=3, batch_size=4, backbone=backbone, precision="bf16"))
    check(store.run("r"), rows=12, models=3)


def check(run: Path, *, rows: int, models: int) -> None:
    """At the first step policy and reference agree to the bit; at the last they do not."""
    table = [r for p in parts(run / "trajectory" / "rank-0") for r in pq.read_table(p).to_pylist()]
    assert len(table) == rows
    assert {len(row["err_0"]) for row in table} == {models}
    first = [row for row in table if row["step"] == 0]
    last = [row for row in table if row["step"] == max(r["step"] for r in table)]
    assert all(error == row["err_ref_0"] for row in first for error in row["err_0"])
    assert all(row["err_0"][0] != row["err_ref_0"] for row in last)
