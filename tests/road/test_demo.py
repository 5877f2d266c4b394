"""The demo in small, through the command, with the shipped miniature."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from app.cli.main import main
from toolkit.store import open_store
from toolkit.store.runs import findings, run_about
from training.models import MINIATURES

COMMAND = [sys.executable, "-c", "from app.cli.main import main; main()", "demo", "--no-app"]
SMALL = ["--pairs", "80", "--steps", "20"]


def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    """From a folder of its own, so that nothing is found by luck."""
    folder.mkdir(exist_ok=True)
    return subprocess.run([*COMMAND, *SMALL], cwd=folder, capture_output=True, text=True)


@pytest.mark.long
@pytest.mark.skipif(not (MINIATURES / "sd").exists(), reason="the miniature is not there yet")
def test_the_demo_walks_the_road_and_an_interrupted_one_goes_on(tmp_path: Path) -> None:
    first = demo(tmp_path)
    assert first.returncode == 0, first.stderr
    assert "AUROC" in first.stdout
    place = tmp_path / "demo"
    store = open_store(place / "store")
    assert {"minority", "minority_history", "trajectory_ell"} <= set(findings(store, "adaptive"))
    page = (place / "report.html").read_text(encoding="utf-8")
    assert "oracle" in page
    assert "Disagreement with the majority is not proof of error" in page
    kept = sum(pq.read_metadata(p).num_rows for p in (place / "export" / "data").glob("*.parquet"))
    assert kept == 76  # 80 less the most suspicious 5 %
    assert not any("truth" in path.name for path in (place / "store").rglob("*"))

    started = run_about(store, "adaptive")["started"]
    assert demo(tmp_path).returncode == 0
    assert run_about(store, "adaptive")["started"] == started

    about = store.run("adaptive") / "run.json"
    facts = json.loads(about.read_text())
    del facts["checksum"]  # as after an edit by hand
    about.write_text(json.dumps({**facts, "finished": False}))
    third = demo(tmp_path)
    assert third.returncode == 0, third.stderr
    assert "Resuming run adaptive from step 20" in third.stdout
    assert run_about(store, "adaptive")["started"] == started
    assert run_about(store, "adaptive")["finished"]


def test_a_folder_that_is_no_store_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "notes.txt").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["outvoted", "demo", "--no-app", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 1
    assert "exists and is not a store" in capsys.readouterr().err
