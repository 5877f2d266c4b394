"""`outvoted evaluate` from the command line to its table and page."""

import io
from math import nan
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from analysis.model_comparison import compare
from app.cli.evaluate import print_models
from app.cli.main import registered
from tests.training.backbones import tiny_sd
from toolkit.errors import InputError
from training.evaluate import SCORES
from training.sampling import policies_of


def test_two_models_are_drawn_scored_compared_and_shown(tmp_path: Path) -> None:
    one, two = tiny_sd(tmp_path / "one"), tiny_sd(tmp_path / "two", seed=1)
    out = tmp_path / "out"
    command = ["evaluate", f"plain={one}", str(two), "--prompts", "miniworld:3", "--seeds", "2"]
    command += ["--steps", "2", "--out", str(out), "--device", "cpu"]
    for _ in range(2):
        result = CliRunner().invoke(registered(), command)
        assert result.exit_code == 0, (result.output, result.exception)
    assert "against plain" in result.output
    rows = pq.read_table(out / "comparison.parquet").to_pylist()
    assert {row["model"] for row in rows} == {"plain", "two"}
    assert all(row["samples"] == 6 for row in rows if row["figure"] == "reward")
    assert (out / "samples.html").read_text().count("data:image/png") == 12


def test_models_have_names_of_their_own(tmp_path: Path) -> None:
    one = tiny_sd(tmp_path / "one")
    assert list(policies_of([str(one), f"b={one}"])) == ["one", "b"]
    with pytest.raises(InputError, match="Two models are called 'one'"):
        policies_of([str(one), f"one={one}"])
    with pytest.raises(InputError, match="no name before its '='"):
        policies_of([f"={one}"])


def test_unknown_samplers_scorers_and_devices_are_refused() -> None:
    for option, value in (("--sampler", "x"), ("--scorer", "x"), ("--device", "tpu")):
        result = CliRunner().invoke(registered(), ["evaluate", "miniature:sd", option, value])
        assert isinstance(result.exception, InputError)
        assert "choose" in str(result.exception)


def test_scorers_of_the_store_score_samples_in_the_papers_form(tmp_path: Path) -> None:
    one, two = tiny_sd(tmp_path / "one"), tiny_sd(tmp_path / "two", seed=1)
    out = tmp_path / "out"
    command = ["evaluate", f"plain={one}", str(two), "--prompts", "miniworld:3", "--steps", "1"]
    command += ["--out", str(out), "--device", "cpu"]
    command += ["--scorer", "world_warmth", "--scorer", "world_reward"]
    for _ in range(2):
        result = CliRunner().invoke(registered(), command)
        assert result.exit_code == 0, (result.output, result.exception)
    heading = next(line for line in result.output.splitlines() if "reward" in line)
    assert heading.split() == ["model", "reward", "warm"]
    assert "(50%)" in result.output  # the first model against itself
    rows = pq.read_table(out / "comparison.parquet").to_pylist()
    assert {(row["figure"], row["samples"]) for row in rows} == {
        ("world_reward", 3),
        ("world_warmth", 3),
    }
    parts = list((out / "scores" / "world_reward").glob("part-*.parquet"))
    assert sum(pq.read_metadata(part).num_rows for part in parts) == 6  # none scored twice
    (out / "scores" / "world_reward.json").write_text('{"version": "x"}')
    for part in parts:
        part.unlink()
    result = CliRunner().invoke(registered(), command)
    assert isinstance(result.exception, InputError)
    assert "other weights" in str(result.exception)


def test_where_the_first_model_has_no_score_there_is_no_win_rate() -> None:
    """The scorer could score only b's images: a mean, and nothing to hold it against."""
    rows = [
        {"model": name, "prompt_index": k, "seed": 0, "figure": "world_reward", "value": value}
        for name, values in (("a", [nan, nan]), ("b", [1.0, 3.0]))
        for k, value in enumerate(values)
    ]
    comparison = compare(pa.Table.from_pylist(rows, schema=SCORES), ["a", "b"])
    console = Console(width=80, record=True, file=io.StringIO())
    print_models(comparison, {"world_reward": "reward"}, console)
    assert [line.split() for line in console.export_text().splitlines()[-3:-1]] == [
        ["a", "–"],
        ["b", "2.000", "(–)"],
    ]


def test_a_scorer_without_weights_is_told_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTVOTED_SCORERS", str(tmp_path / "home"))
    command = ["evaluate", "miniature:sd", "--scorer", "pickscore", "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(registered(), command)
    assert "pickscore has no model yet" in str(result.exception)
    assert not (tmp_path / "o").exists()
