"""`outvoted detect`: what it prints and what it refuses."""

import json
import re

import pytest
from typer.testing import CliRunner

from app.cli.main import registered
from toolkit.errors import OutvotedError
from toolkit.store.label_sets import label_sets, planted_flips
from toolkit.store.runs import start_run


def invoke(*arguments: object):
    return CliRunner().invoke(registered(), ["detect", *(str(a) for a in arguments)])


def test_every_detector_is_judged_with_intervals(make_store):
    store = make_store(run=True, pairs=120)
    result = invoke(store.root, "--run", "r", "--windows")
    assert result.exit_code == 0, result.output
    for word in ("trajectory_ell", "cartography_confidence", "AUROC", "recall", "base rate 20.0%"):
        assert word in result.output
    assert "Flipped share by tenths of minority, lowest first" in result.output
    assert "…" not in result.output  # 80 columns cut no number and no name
    assert re.search(r"0\.\d\d \(0\.\d\d-1?\.?0?\.?\d*\)", result.output)
    assert "a leak until shown otherwise" in result.output
    assert "Calibration of minority (isotonic" in result.output
    found = json.loads((store.findings("r") / "detection.json").read_text())
    names = {row["name"] for row in found["detectors"]}
    assert {"trajectory_ell", "trajectory_ell_early", "minority.confidence_all"} <= names
    assert found["calibration"]["detector"] == "minority"


@pytest.mark.parametrize("kind", ["csv", "flags"])
def test_known_flips_are_read_from_a_file(make_store, tmp_path, kind):
    store = make_store(run=True, pairs=120)
    flips = planted_flips(store, "flip20")
    path = tmp_path / "flips.csv"
    if kind == "csv":
        path.write_text("pair_id\n" + "\n".join(flips) + "\n")
    else:
        path.write_text("pair_id,flipped\n" + "".join(f"{p},true\n" for p in flips) + "x,false\n")
    # Under the labels that the run was trained on, with the flips from a file.
    one = invoke(store.root, "--run", "r", "--flips", path)
    other = invoke(store.root, "--run", "r")
    assert one.exit_code == 0, one.output
    assert one.output == other.output


def test_without_known_flips_the_command_says_how_to_get_some(make_store):
    store = make_store(run=True)
    result = invoke(store.root, "--run", "r", "--labels", "original")
    assert result.exit_code == 0, result.output
    assert "no detector can be evaluated" in result.output
    assert "--recipe RECIPE.yaml" in result.output
    assert "AUROC" not in result.output


def test_extra_votes_are_a_detector(make_store, tmp_path):
    store = make_store(run=True, pairs=60)
    flips = set(planted_flips(store, "flip20"))
    path = tmp_path / "votes.csv"
    from toolkit.store.connection import effective_labels

    rows = effective_labels(store, "original").to_pylist()
    lines = [f"{row['pair_id']},{name},{row['label']}\n" for row in rows for name in "ab"]
    path.write_text("pair_id,annotator,choice\n" + "".join(lines))
    result = invoke(store.root, "--run", "r", "--extra-votes", path)
    assert result.exit_code == 0, result.output
    assert re.search(r"agreement +1\.00", result.output)
    assert len(flips) == 12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], r"Name a run with --run \(r\)"),
        (["--run", "q"], "no run 'q'"),
        (["--run", "r", "--window", "middle"], "choose all, early, late, last, probe"),
        (["--run", "r", "--flips", "absent.csv"], "absent.csv cannot be read"),
        (["--run", "r", "--folds", "other"], "no run 'other'"),
    ],
)
def test_mistakes_are_sentences(make_store, arguments, words):
    result = invoke(make_store(run=True).root, *arguments)
    assert isinstance(result.exception, OutvotedError)
    assert re.search(words, str(result.exception))


@pytest.mark.parametrize(
    ("text", "option", "words"),
    [
        ("pair\nx\n", "--flips", "no column pair_id"),
        ("pair_id\nx\n", "--flips", "none of which is in this store"),
        ("pair_id,annotator,choice\nx,a,left\n", "--extra-votes", "a choice that is no number"),
        ("pair_id,annotator,choice\nx,a,1.7\n", "--extra-votes", "not 1.7"),
    ],
)
def test_files_that_do_not_fit_are_sentences(make_store, tmp_path, text, option, words):
    path = tmp_path / "file.csv"
    path.write_text(text)
    result = invoke(make_store(run=True).root, "--run", "r", option, path)
    assert isinstance(result.exception, OutvotedError)
    assert words in str(result.exception)


def test_a_run_that_left_nothing_is_a_sentence(make_store):
    store = make_store()
    start_run(store, "empty", {"models": ["policy"], "labels": "original"}, "")
    result = invoke(store.root, "--run", "empty")
    assert "has no trajectory rows" in str(result.exception)


def test_the_self_check_plants_trains_and_judges(make_store, tmp_path):
    torch = pytest.importorskip("torch")
    from tests.training.backbones import TINY, tiny_sd

    torch.set_num_threads(1)
    store = make_store(pairs=40)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        json.dumps(
            {
                "backbone": {
                    "path": str(tiny_sd(tmp_path / "sd")),
                    "resolution": TINY.image,
                    "lora": {"rank": 4},
                },
                "objective": {"name": "diffusion_dpo", "beta": 300},
                "metric": {"preset": "released"},
                "steps": 12,
                "batch_size": 10,
            }
        )
    )
    result = invoke(store.root, "--recipe", recipe, "--rate", "0.25", "--run", "check")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "10 of 40 labels flipped on purpose in label set check" in result.output
    assert "10 known flips among 40 pairs" in result.output
    assert label_sets(store) == ["original", "check"]
    again = invoke(store.root, "--recipe", recipe, "--rate", "0.25", "--run", "check")
    assert "is there already; it is evaluated as it is" in again.output
