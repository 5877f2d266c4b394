"""Images that a run draws as it goes on, at every side that a recipe may ask for."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.factories import StoreFactory
from training.recipe import Recipe
from training.trainer import train


@pytest.mark.parametrize(("family", "side"), [("sd", 24), ("sdxl", 40), ("sdxl", 8)])
def test_a_run_trains_and_draws_at_any_multiple_of_eight(
    family: str,
    side: int,
    make_store: StoreFactory,
    recipe_for: Callable[..., Recipe],
    request: pytest.FixtureRequest,
) -> None:
    folder: Path = request.getfixturevalue(family)
    store = make_store()
    drawn = {"prompts": ["a square"], "every": 1, "steps": 1}
    backbone = {"path": str(folder), "resolution": side}
    train(recipe_for(store, steps=1, backbone=backbone, samples=drawn))
    for step in (0, 1):
        with Image.open(store.run("r") / "samples" / f"step-{step:06d}" / "00.png") as image:
            assert image.size == (side, side)
