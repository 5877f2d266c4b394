"""A rehearsal of the GPU call on miniatures: every figure is there, a failure is a line."""

import json
from pathlib import Path

import pytest

from tests.benchmarks import on_gpu
from tests.benchmarks.diffusers_script import find_script
from tests.benchmarks.training import OURS, SILENT, Bench
from toolkit.errors import InputError


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.mark.long
def test_a_rehearsal_notes_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "plain DPO, cached"
    run = Bench.ours

    def fails(bench: Bench, name: str, **more: object) -> object:
        if name == broken:
            raise RuntimeError("no such kernel")
        return run(bench, name, **more)

    monkeypatch.setattr(Bench, "ours", fails)
    on_gpu.main([str(tmp_path), "--mini", "--budget", "3000", "--skip", "sdxl", "--skip", "tables"])
    noted = lines(tmp_path)
    assert [line["what"] for line in noted[:2]] == ["here", "bf16"]
    assert noted[1]["policy_equals_reference_at_step_0"]
    assert noted[1]["repeats_bit_for_bit"]
    assert 0 < noted[1]["reference_error_relative"] < 0.02
    speeds = {line["name"]: line for line in noted if line["what"] == "speed"}
    expected = {"our loop in place of the script", *OURS, SILENT} - {broken}
    assert set(speeds) == expected
    assert all(line["pairs_per_second"] > 0 for line in speeds.values())
    failed = [line for line in noted if line["what"] == "failed"]
    assert [(line["name"], line["why"]) for line in failed] == [
        (broken, "RuntimeError('no such kernel')")
    ]
    assert noted[-1]["what"] == "end"


def test_a_call_out_of_time_says_so_and_ends(tmp_path: Path) -> None:
    on_gpu.main([str(tmp_path), "--mini", "--budget", "0"])
    assert [line["what"] for line in lines(tmp_path)] == ["here", "end"]


def test_without_a_gpu_the_rehearsal_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if on_gpu.torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit):
        on_gpu.main([str(tmp_path)])
    assert "--mini" in capsys.readouterr().err


def test_a_folder_without_the_script_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no train_diffusion_dpo_sdxl\.py.*--rival"):
        find_script(tmp_path, "sdxl")
