"""A small table run for real on a tiny random backbone: cell by cell, interrupted, resumed."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.benchmarks.paper_tables import cells as module
from tests.benchmarks.paper_tables.cells import Scale
from tests.benchmarks.paper_tables.curves import held_out_curve
from tests.benchmarks.paper_tables.run import run_table
from tests.benchmarks.paper_tables.tables import (
    DPO,
    HELD_OUT,
    HISTORY,
    TABLES,
    VOTE,
    Cell,
    Method,
    Table,
)
from tests.training.backbones import TINY, tiny_sd
from toolkit.errors import InputError
from toolkit.store import open_store
from toolkit.store.label_sets import label_set_recipe, planted_flips
from toolkit.store.runs import run_about
from training.trainer import Trainer

pytestmark = pytest.mark.long

CHOICES = tuple(
    Method(
        f"poly-{alpha}",
        {"objective": {"name": "poly_dpo", "beta": 300.0, "alpha": alpha}, **HISTORY},
    )
    for alpha in (0.0, 4.0)
)
BROKEN = Method(
    "broken",
    {
        "objective": {"name": "diffusion_dpo", "beta": 300.0},
        **HISTORY,
        "optimiser": {"learning_rate": 1e9},
    },
)
SMALL = Table("Small", "?", (DPO, Method("poly", {}, CHOICES), BROKEN), rates=(0.2,), seeds=(0,))
VOTED = Table("Voted", "?", (VOTE,), rates=(0.2,), seeds=(0,))


@pytest.fixture
def scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scale:
    monkeypatch.setitem(TABLES, "small", SMALL)
    return Scale(
        backbone=str(tiny_sd(tmp_path / "sd")),
        resolution=TINY.image,
        pairs=20,
        held_out=20,
        steps=12,
        every=4,
        batch_size=5,
        rank=4,
        draws=1,
        prompts=2,
        sampler_steps=2,
    )


def make(out: Path, scale: Scale, limit: int | None = None) -> str:
    page = run_table("small", out, scale, limit=limit)
    return page.read_text()


def test_a_table_grows_cell_by_cell_and_a_cell_goes_on_where_it_was(
    tmp_path: Path, scale: Scale, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tables"
    text = make(out, scale, limit=0)
    assert "0 of 3 cells are there" in text
    text = make(out, scale, limit=1)
    assert "1 of 3 cells are there" in text
    assert re.search(r"\| diffusion_dpo \| 1/1 \| best \| -?\d", text)
    assert "| poly | 0/1 | last | – |" in text
    assert f"{scale.steps} steps of {scale.batch_size}" in text

    store = open_store(out / "store")
    first = Cell(DPO, 0.2, 0)
    saved = json.loads((out / "cells" / f"{first.name}.json").read_text())
    assert [point["step"] for point in saved["curve"]] == [4, 8, 12]
    assert saved["curve"] == held_out_curve(store, first)
    assert saved["best_step"] in (4, 8, 12)
    assert run_about(store, first.name)["pairs"] == 20
    assert 0 < len(planted_flips(store, "flip20-seed0") or []) < 20

    # killed between training and the end of the cell: it is not trained again
    trained: list[str] = []
    real_train, real_evaluate = module.train, module.evaluate

    def training(recipe: Any, **rest: Any) -> str:
        trained.append(recipe.run)
        return real_train(recipe, **rest)

    def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train", training)
    monkeypatch.setattr(module, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        make(out, scale, limit=3)  # two choices, then their row
    monkeypatch.setattr(module, "evaluate", real_evaluate)
    text = make(out, scale)
    assert sorted(trained) == sorted(set(trained))
    assert "2 of 3 cells are there, 1 failed" in text
    assert "Failed: broken-flip20-seed0: The loss became" in text
    assert re.search(r"\| poly \(poly-[04].0\) \| 1/1 \| last \|", text)
    for guidance in ("guidance-1", "guidance-3"):
        named = pq.read_table(out / "samples" / guidance / "samples")["model"].to_pylist()
        assert set(named) >= {"pretrained", f"{first.name}/12"}
        assert not any("seed100" in name for name in named), "a choice is made by its curve"
    assert len(trained) == 4  # two choices, the chosen one, the broken one
    make(out, scale)
    assert len(trained) == 4


def test_a_cell_stopped_in_training_goes_on_from_its_checkpoint(
    tmp_path: Path, scale: Scale, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "whole", scale, limit=1)
    real = Trainer.save

    def stop(trainer: Trainer) -> None:
        real(trainer)
        if trainer.done == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "parts", scale, limit=1)
    monkeypatch.setattr(Trainer, "save", real)
    monkeypatch.setattr(module, "train", None)  # only resume may be called now
    make(tmp_path / "parts", scale, limit=1)
    name = f"{Cell(DPO, 0.2, 0).name}.json"
    saved = [
        json.loads((tmp_path / folder / "cells" / name).read_text())
        for folder in ("whole", "parts")
    ]
    assert saved[0]["curve"] == saved[1]["curve"]


def test_no_held_out_pair_is_ever_trained_on(tmp_path: Path, scale: Scale) -> None:
    from toolkit.store.connection import read_pairs
    from toolkit.store.trajectory import read_trajectory

    out = tmp_path / "tables"
    make(out, scale, limit=1)
    store = open_store(out / "store")
    table = read_pairs(store, ["pair_id", "split"]).to_pylist()
    aside = {row["pair_id"] for row in table if row["split"] == HELD_OUT}
    name = Cell(DPO, 0.2, 0).name
    trained = read_trajectory(store, name, ["pair_id"], kind="train")["pair_id"].to_pylist()
    probed = read_trajectory(store, name, ["pair_id"], kind="probe")["pair_id"].to_pylist()
    assert len(aside) == 20
    assert set(probed) == aside
    assert not aside & set(trained)


def test_a_disk_that_is_full_is_not_a_methods_failure(
    tmp_path: Path, scale: Scale, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.errors import TrainingError

    def full(*_: Any, **__: Any) -> str:
        raise TrainingError("The trajectory could not be written (No space left on device)")

    monkeypatch.setattr(module, "train", full)
    with pytest.raises(TrainingError, match="No space left"):
        make(tmp_path / "tables", scale)
    assert not (tmp_path / "tables" / "cells").exists()


def test_only_the_rows_that_were_asked_for_are_made(tmp_path: Path, scale: Scale) -> None:
    out = tmp_path / "tables"
    page = run_table("small", out, scale, methods=["poly"])
    assert "1 of 3 cells are there" in page.read_text()
    made = {path.stem for path in (out / "cells").iterdir()}
    assert len(made) == 3  # both choices on the tuning seed, and the row
    assert not any(name.startswith(("diffusion_dpo", "broken")) for name in made)
    with pytest.raises(InputError, match="methods diffusion_dpo, poly, broken"):
        run_table("small", out, scale, methods=["dpo"])


def test_another_row_can_be_the_one_that_others_are_held_against(
    tmp_path: Path, scale: Scale
) -> None:
    ask = ("small", tmp_path / "out", scale)
    own = run_table(*ask, methods=[DPO.name, "poly"])
    other = run_table(*ask, limit=0, rival="poly")
    assert (own.name, other.name) == ("table-small.md", "table-small-over-poly.md")
    assert "`over poly` is the difference" in other.read_text()
    assert "`over" not in own.read_text()
    found = [
        line.split(" | ")[7] for line in other.read_text().splitlines() if " | last | " in line
    ]
    assert found[0].startswith(("+", "-"))  # of plain DPO; poly has none over itself
    assert found[1] == "–"
    with pytest.raises(InputError, match=r"no row 'sgd'; choose diffusion_dpo, poly, broken for"):
        run_table(*ask, limit=0, rival="sgd")


def test_what_is_not_in_the_table_is_refused(tmp_path: Path, scale: Scale) -> None:
    with pytest.raises(InputError, match="choose 1, 2, 3, 8, 5, 6, 7, G"):
        run_table("4", tmp_path / "t", scale, limit=0)
    with pytest.raises(InputError, match=r"rates 0.2; seeds 0"):
        run_table("small", tmp_path / "t", scale, rates=[0.5])


def test_the_vote_of_scorers_and_flipped_labels_is_a_row(
    tmp_path: Path, scale: Scale, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLES, "voted", VOTED)
    page = run_table("voted", tmp_path / "out", scale, limit=1)
    assert "vote_diffusion_dpo" in page.read_text()
    store = open_store(tmp_path / "out" / "store")
    run = run_about(store, "vote_diffusion_dpo-flip20-seed0")
    assert run["labels"] == "vote-flip20-seed0"
    recipe = label_set_recipe(store, "vote-flip20-seed0")
    assert recipe["base"] == "flip20-seed0"
    assert recipe["annotators"] == sorted(VOTE.voters)
    flipped = set(planted_flips(store, "flip20-seed0") or [])
    undone = flipped & set(recipe["changed"])
    assert len(undone) > 0.3 * len(flipped), "scorers that mostly see right undo flips"
