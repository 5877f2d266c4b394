"""`outvoted evaluate` from the command line to its table and page."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from app.cli.evaluate import named_models, read_prompts
from app.cli.main import registered
from tests.training.backbones import tiny_sd
from toolkit.errors import InputError


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


def test_prompts_come_from_text_parquet_or_the_mini_world(tmp_path: Path) -> None:
    text, table = tmp_path / "p.txt", tmp_path / "p.parquet"
    text.write_text("a cat\n\n a dog \na cat\n")
    pq.write_table(pa.table({"caption": ["x", None, "y"]}), table)
    assert read_prompts(str(text), "prompt") == ["a cat", "a dog"]
    assert read_prompts(str(table), "caption") == ["x", "y"]
    assert len(read_prompts("miniworld:5", "")) == 5
    listed = tmp_path / "p.json"
    for found in (["a cat", "a dog", "a cat"], [{"prompt": "a cat"}, {"prompt": "a dog"}]):
        listed.write_text(json.dumps(found))
        assert read_prompts(str(listed), "prompt") == ["a cat", "a dog"]


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    table, empty = tmp_path / "p.parquet", tmp_path / "empty.txt"
    pq.write_table(pa.table({"caption": ["x"]}), table)
    empty.write_text("\n")
    (tmp_path / "other.json").write_text('[{"caption": "a cat"}]')
    (tmp_path / "half.json").write_text('["a cat"')
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1")
    for source, says in (
        (str(table), r"no column 'prompt' \(columns: caption\)"),
        (str(tmp_path / "none.txt"), "cannot be read"),
        (str(broken), "cannot be read"),
        (str(empty), "holds no prompt"),
        (str(tmp_path / "other.json"), "objects with a text 'prompt'; name the key with --column"),
        (str(tmp_path / "half.json"), "cannot be read"),
        ("miniworld:many", "write miniworld:100"),
    ):
        with pytest.raises(InputError, match=says):
            read_prompts(source, "prompt")


def test_models_have_names_of_their_own(tmp_path: Path) -> None:
    one = tiny_sd(tmp_path / "one")
    assert list(named_models([str(one), f"b={one}"])) == ["one", "b"]
    with pytest.raises(InputError, match="Two models are called 'one'"):
        named_models([str(one), f"one={one}"])
    with pytest.raises(InputError, match="no name before its '='"):
        named_models([f"={one}"])


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


def test_a_scorer_without_weights_is_told_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTVOTED_SCORERS", str(tmp_path / "home"))
    command = ["evaluate", "miniature:sd", "--scorer", "pickscore", "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(registered(), command)
    assert "pickscore has no model yet" in str(result.exception)
    assert not (tmp_path / "o").exists()
