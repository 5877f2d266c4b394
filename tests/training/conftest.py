"""One tiny backbone a session, and a recipe that trains it in seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.backbones import TINY, tiny_sd, tiny_sdxl
from toolkit.store import Store
from training.recipe import Recipe, parse_recipe


class Lines:
    """A progress that keeps the sentences it receives."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def update(self, task: str, done: int, total: int | None = None, note: str = "") -> None:
        """Bars are not kept."""


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sd(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture
def recipe_for(sd: Path) -> Callable[..., Recipe]:
    """A recipe for a store: `backbone`, `objective` and `metric` are merged, the rest replaces."""

    def make(store: Store, **changes: Any) -> Recipe:
        backbone = {"path": str(sd), "resolution": TINY.image, "lora": {"rank": 4}}
        raw: dict[str, Any] = {
            "store": str(store.root),
            "run": "r",
            "backbone": {**backbone, **changes.pop("backbone", {})},
            "objective": {"name": "adaptive_dpo", "beta": 300, **changes.pop("objective", {})},
            "metric": {"preset": "released", **changes.pop("metric", {})},
            "optimiser": {"learning_rate": 1e-3},
            "steps": 8,
            "batch_size": 10,
            **changes,
        }
        return parse_recipe(raw)

    return make
