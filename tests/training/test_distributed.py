"""Two real processes (gloo, CPU) against one with the doubled batch.

Started by torchrun: `accelerate launch` sets the same variables on GPUs, but on CPUs it starts
several processes through MPI only.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tests.factories import StoreFactory
from toolkit.parts import parts
from toolkit.store import Store
from training.fill import fill
from training.loop import train
from training.recipe import Recipe
from training.resume import read_log

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
    command = [script / "torchrun", "--standalone", f"--nproc_per_node={processes}"]
    done = subprocess.run(
        [*map(str, command), str(script / "outvoted"), command_name, str(recipe)],
        capture_output=True,
        text=True,
        timeout=500,
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
    launch("train", file)
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
    assert fill(recipe) == (0, 0)
    train(recipe)
    train(recipe_for(store, steps=6, run="plain"))
    cached, plain = (rows_of(store, run) for run in ("cached", "plain"))
    assert {key: repr(row) for key, row in cached.items()} == {
        key: repr(row) for key, row in plain.items()
    }
