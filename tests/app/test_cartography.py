"""`outvoted cartography`: another trainer's jsonl in, cartography's metrics out."""

import json
import math

import pytest
from typer.testing import CliRunner

from app.cli.main import registered
from toolkit.errors import InputError


def invoke(*arguments: object):
    return CliRunner().invoke(registered(), ["cartography", *(str(a) for a in arguments)])


def test_training_dynamics_become_metrics(tmp_path):
    """p of the label: .75 then .25 for a, with gold the second class .1 twice for b."""
    for epoch, p in enumerate((0.75, 0.25)):
        logits = {"a": [math.log(p / (1 - p)), 0.0], "b": [math.log(9), 0.0]}
        lines = [
            json.dumps({"guid": guid, f"logits_epoch_{epoch}": pair, "gold": int(guid == "b")})
            for guid, pair in logits.items()
        ]
        (tmp_path / f"dynamics_epoch_{epoch}.jsonl").write_text("\n".join(lines) + "\n")
    out = tmp_path / "metrics.jsonl"
    result = invoke(tmp_path, "--out", out)
    assert result.exit_code == 0, result.output
    assert "2 examples over 2 epochs" in result.output
    assert "hardest to learn: b, mean probability of its label 0.100" in result.output
    rows = {row["guid"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert rows["a"]["confidence"] == pytest.approx(0.5, abs=1e-6)
    assert rows["a"]["variability"] == pytest.approx(0.25, abs=1e-6)
    assert rows["a"]["correctness"] == 0.5
    assert rows["a"]["forgetfulness"] == 1
    assert rows["b"]["confidence"] == pytest.approx(0.1, abs=1e-6)
    assert rows["b"]["variability"] == pytest.approx(0, abs=1e-3)
    assert rows["b"]["forgetfulness"] == 2  # never learned: every visit counts


def test_a_folder_without_dynamics_is_a_sentence(tmp_path):
    result = invoke(tmp_path)
    assert isinstance(result.exception, InputError)
    assert "holds no file dynamics_epoch_0.jsonl" in str(result.exception)
