"""A run of the real trainer: what it logged is what its errors give back, preset by preset."""

import numpy as np
import pytest

from analysis.recompute_metric import metric_of, scores
from analysis.run_analysis import analyze_run
from analysis.trajectory import COLUMNS, LOGGED, load
from toolkit.store.runs import run_about
from toolkit.store.trajectory import read_trajectory

pytest.importorskip("torch")

METRICS = {
    "released": {"preset": "released"},
    "paper": {"preset": "paper", "ell_scale": 256.0},
    "running": {"preset": "running", "timestep_bins": 2, "rms_min_count": 8},
    "history": {"preset": "history", "timestep_bins": 2, "rms_min_count": 8, "window": 3},
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    import torch

    from tests.training.backbones import tiny_sd

    torch.set_num_threads(1)  # threads of a tiny network wait more than they work
    return tiny_sd(tmp_path_factory.mktemp("sd"))


@pytest.mark.parametrize("preset", sorted(METRICS))
def test_a_trained_run_gives_its_logged_scores_back(make_store, backbone, preset):
    from tests.training.backbones import TINY
    from training.recipe import parse_recipe
    from training.trainer import train

    store = make_store()
    recipe = {
        "store": str(store.root),
        "run": "r",
        "backbone": {"path": str(backbone), "resolution": TINY.image, "lora": {"rank": 4}},
        "objective": {"name": "adaptive_dpo", "beta": 300},
        "metric": METRICS[preset],
        "steps": 8,
        "batch_size": 10,
        "accumulation": 2,
    }
    train(parse_recipe(recipe))
    found = analyze_run(store, "r")
    metric = metric_of(run_about(store, "r"))
    rows = load(read_trajectory(store, "r", COLUMNS + LOGGED), found.digest.models)
    recomputed = scores(rows, metric)
    for name in ("confidence", "stability", "minority"):
        logged, now = rows.logged[name], getattr(recomputed, name)
        assert np.isfinite(logged).any()
        np.testing.assert_allclose(now, logged, rtol=1e-3, atol=1e-5, err_msg=name)
    assert not any("differ from those" in note for note in found.notes)
