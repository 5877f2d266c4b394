"""Two ranks that divide the network (FSDP2 over gloo, CPU) against two that each hold it whole.

Both kinds take the same pairs and draws; what differs is the order in which sums are rounded: a
divided gradient is summed by reduce-scatter, and its norm part by part.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.factories import StoreFactory
from tests.training.backbones import TINY
from tests.training.conftest import Lines
from tests.training.test_distributed import rows_of
from tests.training.test_resume import assert_same_run, state_of
from toolkit.errors import RecipeError
from toolkit.store import Store
from toolkit.store.runs import run_about
from training.checkpoint import read_log
from training.recipe import Recipe, parse_recipe
from training.trainer import train

MakeRecipe = Callable[..., Recipe]

RATE = 1e-3
FULL: dict[str, Any] = {
    "backbone": {"train": "full"},
    "metric": {"preset": "history", "rms_min_count": 2, "timestep_bins": 1},
    "objective": {"c2": "mean_logit"},
    "footprints": [],
    "optimiser": {"learning_rate": RATE},
}


@dataclass(frozen=True)
class Ran:
    """What `tests.training.sharding_ranks` left."""

    store: Store
    killed_after: int
    ranks: list[dict[str, Any]]


@pytest.fixture(scope="module")
def ran(sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """23 pairs to train on and 9 held out; one draw each, so that the reference's errors are known
    to the rank that met a pair before, and to no other."""
    folder = tmp_path_factory.mktemp("ranks")
    store = StoreFactory(folder)(pairs=32, held_out=9)
    raw = {
        **FULL,
        "store": str(store.root),
        "backbone": {"path": str(sdxl), "resolution": TINY.image, "train": "full"},
        "objective": {"name": "adaptive_dpo", "beta": 300, "c2": "mean_logit"},
        "draws": {"kind": "fixed", "count": 1},
        "steps": 6,
        "batch_size": 2,
        "accumulation": 2,
        "checkpoint_every": 2,
        "log_every": 2,
        "held_out": {"every": 6, "draws": 2},
        "samples": {"prompts": ["a square", "number"], "every": 6, "steps": 2},
    }
    file = folder / "recipe.yaml"
    file.write_text(parse_recipe(raw).to_yaml())
    command = [sys.executable, "-m", "tests.training.sharding_ranks", str(file), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    killed = json.loads(done.stdout.splitlines()[-1])["killed_after"]
    ranks = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    return Ran(store, killed, ranks)


def column(rows: dict[tuple, dict], name: str, order: list[tuple]) -> np.ndarray:
    found = [np.nan if rows[key][name] is None else rows[key][name] for key in order]
    return np.concatenate([np.ravel(value) for value in found]).astype(float)


@pytest.mark.long
def test_a_divided_network_meets_the_same_pairs_with_the_same_errors(ran: Ran) -> None:
    held, divided = (rows_of(ran.store, run) for run in ("held", "whole"))
    assert held.keys() == divided.keys()
    assert [row["rank"] for row in held.values()] == [divided[key]["rank"] for key in held]
    trained = [key for key in held if key[0] == "train"]
    assert len(trained) == 6 * 2 * 2 * 2
    for name in ("err_ref_0", "err_ref_1"):
        np.testing.assert_array_equal(*(column(r, name, list(held)) for r in (held, divided)))
    for name in ("err_0", "err_1"):
        both = [column(r, name, list(held)) for r in (held, divided)]
        np.testing.assert_allclose(*both, rtol=1e-5)
    # ell is a small difference of errors, and its scale and beta multiply what they differ by.
    for name, bound in (("confidence", 1e-3), ("minority", 1e-3), ("weight", 2e-3), ("loss", 1e-2)):
        both = [column(r, name, trained) for r in (held, divided)]
        np.testing.assert_allclose(*both, rtol=0, atol=bound, err_msg=name)
    assert np.nanmax(column(divided, "minority", trained)) > 0.05


def known_ranks(rows: dict[tuple, dict]) -> list[set[int]]:
    """For each round of micro-batches, the ranks that had met all of their pairs before."""
    met: set[tuple[int, str]] = set()
    rounds = []
    micros = sorted({row["micro"] for row in rows.values() if row["kind"] == "train"})
    for micro in micros:
        here = [r for r in rows.values() if r["kind"] == "train" and r["micro"] == micro]
        pairs = {rank: [r["pair_id"] for r in here if r["rank"] == rank] for rank in (0, 1)}
        rounds.append({k for k in pairs if all((k, pair) in met for pair in pairs[k])})
        met |= {(k, pair) for k in pairs for pair in pairs[k]}
    return rounds


@pytest.mark.long
def test_a_cached_error_that_only_one_rank_knows_leaves_none_waiting(ran: Ran) -> None:
    assert {len(ranks) for ranks in known_ranks(rows_of(ran.store, "whole"))} >= {0, 1}


@pytest.mark.long
def test_its_checkpoint_is_that_of_a_network_that_was_never_divided(ran: Ran) -> None:
    """AdamW moves a number by about the rate a step, whatever its gradient's size, so a hundredth
    of the rate is rounding."""
    runs = [ran.store.run(run) for run in ("held", "whole")]
    names = [sorted(str(p.relative_to(r)) for p in r.glob("checkpoints/**/*")) for r in runs]
    assert names[0] == names[1]
    last = [r / "checkpoints" / "step-000006" / "unet" for r in runs]
    assert len({(folder / "config.json").read_text() for folder in last}) == 1
    hashes = {run_about(ran.store, run)["reference"] for run in ("held", "whole")}
    assert len(hashes) == 1
    held, divided = (state_of(ran.store, run) for run in ("held", "whole"))
    assert held.keys() == divided.keys()
    weights = [name for name in held if not name.startswith("metric")]
    for name in weights:
        torch.testing.assert_close(divided[name], held[name], rtol=0, atol=RATE / 100)
    start = load_file(Path(backbone_of(ran)) / "unet" / "diffusion_pytorch_model.safetensors")
    moved = [
        (divided[f"diffusion_pytorch_model.safetensors/{name}"] - value).abs().max()
        for name, value in start.items()
    ]
    assert min(moved) > RATE  # every tensor, by more than one step's worth


def backbone_of(ran: Ran) -> str:
    return str(run_about(ran.store, "whole")["backbone"])


@pytest.mark.long
def test_its_policy_loads_by_diffusers_itself(ran: Ran) -> None:
    from diffusers import UNet2DConditionModel

    folder = ran.store.run("whole") / "checkpoints" / "step-000006" / "unet"
    unet = UNet2DConditionModel.from_pretrained(folder)
    assert type(unet) is UNet2DConditionModel
    saved = load_file(folder / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in unet.state_dict().items())


@pytest.mark.long
def test_a_divided_run_that_was_killed_resumes_to_the_same_bits(ran: Ran) -> None:
    assert 2 <= ran.killed_after < 6
    assert_same_run(ran.store, "whole", "killed")


@pytest.mark.long
def test_held_out_pairs_that_ranks_cannot_share_evenly_are_measured_once_each(ran: Ran) -> None:
    """Nine pairs in batches of two: rank 0 has three batches of them, and rank 1 has two."""
    rows = [r for key, r in rows_of(ran.store, "whole").items() if key[0] == "probe"]
    assert sorted(r["rank"] for r in rows) == [0] * 10 + [1] * 8
    assert len({(r["pair_id"], r["draw"]) for r in rows}) == len(rows) == 9 * 2
    entries = [read_log(ran.store.run(run), "held_out.jsonl") for run in ("held", "whole")]
    assert entries[0] == entries[1] != []


@pytest.mark.long
def test_samples_are_drawn_together_and_written_once(ran: Ran) -> None:
    for step in ("step-000000", "step-000006"):
        folders = [ran.store.run(run) / "samples" / step for run in ("held", "whole")]
        names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
        assert names[0] == names[1] == ["00.png", "01.png", "prompts.txt"]
        for name in ("00.png", "01.png"):
            held, divided = (np.asarray(Image.open(f / name), int) for f in folders)
            assert np.abs(held - divided).max() <= 1  # of 255: rounding of the last digit


@pytest.mark.long
def test_each_rank_holds_half_and_brings_the_whole_gradient_to_its_norm(ran: Ran) -> None:
    """In bf16 with gradient checkpointing; what is held and stepped on is float32. Tensors of an
    odd first side make the halves a little unequal."""
    numbers = ran.ranks[0]["numbers"]
    for rank in ran.ranks:
        assert rank["formats"] == ["torch.float32"]
        for name, times in (("policy", 1), ("reference", 1), ("gradient", 1), ("moments", 2)):
            assert rank["bytes"][name] == pytest.approx(times * 4 * numbers / 2, rel=0.02), name
        assert rank["gradient_norm"] == pytest.approx(0.5, rel=1e-4)
        assert rank["same_errors"]  # policy and reference, before the first step


@pytest.mark.long
def test_what_one_rank_sees_stops_both(ran: Ran) -> None:
    """Before its first step no part has moved; then a number of rank 1 is made infinite."""
    for rank in ran.ranks:
        assert rank["unmoved"].startswith("After 1 steps no trainable tensor has changed")
        assert rank["broken"].startswith("Weights are inf or NaN after step 1;")


def test_in_a_single_process_it_changes_nothing_and_says_so(
    make_store: StoreFactory, recipe_for: MakeRecipe
) -> None:
    store, lines = make_store(), Lines()
    train(recipe_for(store, **FULL, steps=2, run="plain"))
    shard = {"network": {"shard": True}}
    train(recipe_for(store, **FULL, **shard, steps=2, run="alone"), progress=lines)
    assert_same_run(store, "plain", "alone")
    said = "network.shard has no effect in a single process; under `accelerate launch --multi_gpu`"
    assert any(said in line for line in lines.lines)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"backbone": {"train": "lora"}},
            "network.shard: requires full fine-tuning, and backbone.train is lora; remove it: "
            "adapters and a frozen network fit each device.",
        ),
        (
            {"footprints": [0.5]},
            "footprints: each would be one more network to divide, and network.shard keeps none; "
            "write `footprints: []` and metric.preset history.",
        ),
        (
            {"optimiser": {"name": "adamw_8bit"}},
            "optimiser.name: adamw_8bit cannot be divided by network.shard; write adamw.",
        ),
        (
            {"optimiser": {"name": "adafactor"}},
            "optimiser.name: adafactor cannot be divided by network.shard; write adamw.",
        ),
        (
            {"precision": "fp16"},
            "precision: fp16 scales its loss in ways that network.shard does not know; write bf16 "
            "or fp32.",
        ),
        (
            {"network": {"shard": True, "channels_last": True}},
            "network.channels_last: cannot be combined with network.shard; remove one of them.",
        ),
        (
            {"network": {"shard": True, "compile": True}},
            "network.compile: cannot be combined with network.shard; remove one of them.",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused_before_anything_is_read(
    changes: dict[str, Any], sentence: str
) -> None:
    base = {
        "backbone": {"path": "nowhere", "train": "full"},
        "objective": {"name": "diffusion_dpo", "beta": 1},
        "footprints": [],
        "network": {"shard": True},
        "steps": 1,
    }
    parse_recipe(base)
    raw = {**base, **changes, "backbone": {**base["backbone"], **changes.get("backbone", {})}}
    with pytest.raises(RecipeError) as refused:
        parse_recipe(raw)
    assert str(refused.value) == f"The recipe has 1 problem:\n  {sentence}"
