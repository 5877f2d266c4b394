"""Two real processes (gloo, CPU) against one with the doubled batch, by `accelerate launch`.

With --multi_gpu it starts processes by itself, on CPUs where ACCELERATE_USE_CPU asks for them;
with --cpu it would want MPI.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.factories import StoreFactory
from tests.training.test_resume import state_of
from toolkit.files.atomic import parts
from toolkit.store import Store
from training.checkpoint import read_log
from training.precompute import precompute
from training.recipe import Recipe
from training.trainer import train

pytestmark = pytest.mark.long
MakeRecipe = Callable[..., Recipe]

SHARED = {
    "steps": 6,
    "metric": {"preset": "running", "rms_min_count": 4},
    "objective": {"c2": "mean_logit"},
    "held_out": {"every": 3, "draws": 2},
    "log_every": 2,
    "optimiser": {"learning_rate": 1e-2},
}


def launch(command_name: str, recipe: Path, processes: int = 2) -> str:
    script = Path(sys.executable).parent
    command = [script / "accelerate", "launch", "--multi_gpu", "--num_machines=1"]
    about = [f"--num_processes={processes}", "--mixed_precision=no", "--dynamo_backend=no"]
    done = subprocess.run(
        [*map(str, command), *about, str(script / "outvoted"), command_name, str(recipe)],
        capture_output=True,
        text=True,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def rows_of(store: Store, run: str) -> dict[tuple, dict]:
    found = {}
    for rank in sorted(store.run(run).glob("trajectory/rank-*")):
        for part in parts(rank):
            for row in pq.read_table(part).to_pylist():
                found[row["kind"], row["step"], row["pair_id"], row["visit"], row["draw"]] = row
    return found


def test_two_processes_train_on_the_pairs_and_scores_of_one_with_the_doubled_batch(
    make_store: StoreFactory, recipe_for: MakeRecipe, tmp_path: Path
) -> None:
    store = make_store(pairs=30, held_out=6)
    file = tmp_path / "two.yaml"
    file.write_text(recipe_for(store, **SHARED, run="two", batch_size=4).to_yaml())
    assert launch("train", file).count("Run two is in") == 1
    train(recipe_for(store, **SHARED, run="one", batch_size=8))
    one, two = rows_of(store, "one"), rows_of(store, "two")
    assert len(list(store.run("two").glob("trajectory/rank-*"))) == 2
    assert one.keys() == two.keys()
    for name in ("err_ref_0", "err_0", "err_1", "confidence", "minority", "weight", "c2", "loss"):
        left, right = (
            np.array(
                [
                    np.ravel([np.nan if v is None else v for v in np.atleast_1d(row[name])])
                    if row[name] is not None
                    else [np.nan]
                    for row in rows.values()
                ],
                float,
            )
            for rows in (one, {key: two[key] for key in one})
        )
        np.testing.assert_allclose(left, right, rtol=1e-2, atol=1e-3, err_msg=name)
    assert any(row["minority"] for row in one.values())
    held_out = [read_log(store.run(run), "held_out.jsonl") for run in ("one", "two")]
    assert [e["accuracy"] for e in held_out[0]] == [e["accuracy"] for e in held_out[1]]
    losses = [[e["loss"] for e in read_log(store.run(r), "scalars.jsonl")] for r in ("one", "two")]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_two_processes_fill_the_caches_that_one_reads(
    make_store: StoreFactory, recipe_for: MakeRecipe, tmp_path: Path
) -> None:
    store = make_store(pairs=30)
    file = tmp_path / "cached.yaml"
    recipe = recipe_for(store, steps=6, caches={"disk": True}, run="cached")
    file.write_text(recipe.to_yaml())
    said = launch("cache", file)
    assert said.count("60 images and") == 1  # announced once, by one of them
    written = list(store.folder("caches").rglob("*.arrow"))
    assert len(written) >= 4  # each wrote images and prompts of its own
    assert precompute(recipe) == (0, 0)
    train(recipe)
    train(recipe_for(store, steps=6, run="plain"))
    cached, plain = (rows_of(store, run) for run in ("cached", "plain"))
    assert {key: repr(row) for key, row in cached.items()} == {
        key: repr(row) for key, row in plain.items()
    }


def test_one_of_two_ranks_killed_leaves_no_trace_and_two_probe_what_one_does(
    make_store: StoreFactory, recipe_for: MakeRecipe, tmp_path: Path
) -> None:
    store = make_store(pairs=36, held_out=6)
    recipe = recipe_for(store, **{**SHARED, "steps": 12, "checkpoint_every": 3, "batch_size": 4})
    assert (recipe.backbone.train, len(recipe.footprints)) == ("lora", 2)
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    command = [sys.executable, "-m", "tests.training.killing_ranks", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = json.loads(done.stdout.splitlines()[-1])["killed_after"]
    assert 0 < first < second < recipe.steps
    whole, killed = (rows_of(store, run) for run in ("whole", "killed"))
    probed = {key for key in whole if key[0] == "probe" and key[3] > recipe.steps}
    assert whole.keys() == killed.keys()
    assert len(whole) - len(probed) == 12 * 8 + 4 * 6 * 2
    odd = [k for k in whole if k not in probed and repr(whole[k]) != repr(killed[k])]
    assert odd == []
    first_state, second_state = state_of(store, "whole"), state_of(store, "killed")
    assert all(torch.equal(first_state[name], second_state[name]) for name in first_state)
    assert len(probed) == 30 * 2
    assert {whole[key]["rank"] for key in probed} == {0, 1}
    assert {killed[key]["rank"] for key in probed} == {0}
    for name in ("err_ref_0", "err_ref_1", "err_0", "err_1"):
        left, right = ([np.ravel(rows[k][name]) for k in probed] for rows in (whole, killed))
        np.testing.assert_allclose(left, right, rtol=1e-5, err_msg=name)
