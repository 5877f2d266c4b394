"""The road on real images and real ratings, in small: ingest, flip, train, analyze, export.

The data is not part of the project; where it is absent the test says so.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from app.cli.main import registered
from tests.training.backbones import TINY, tiny_sd
from toolkit.store import connect, open_store
from toolkit.store.connection import fetch
from toolkit.store.runs import read_findings

AGIQA = Path(__file__).parents[2].parent / "shared" / "data" / "agiqa3k"

pytestmark = pytest.mark.skipif(
    not AGIQA.exists(), reason=f"AGIQA-3K is not at {AGIQA}; it is not part of the project"
)


@pytest.fixture
def outvoted() -> Callable[..., str]:
    """Run the command and return what it printed; a failure shows it."""

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(registered(), [str(a) for a in arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    return run


def test_the_road_on_real_ratings(outvoted: Callable[..., str], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    table = tmp_path / "ratings.csv"
    with (AGIQA / "ratings.csv").open(newline="", encoding="utf-8") as lines:
        everything = list(csv.DictReader(lines))
    prompts = sorted({row["prompt"] for row in everything})[:6]
    with table.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, everything[0].keys())
        writer.writeheader()
        writer.writerows(row for row in everything if row["prompt"] in prompts)
    store = tmp_path / "store"
    outvoted(
        *("ingest", "ratings", table, "--store", store, "--images-dir", AGIQA / "images"),
        *("--score-column", "mos_align", "--min-gap", "0.5"),
    )
    with connect(open_store(store)) as con:
        rows = fetch(con, "SELECT source, label, prompt FROM pairs").to_pylist()
    assert len(rows) > 40
    assert {row["source"] for row in rows} == {"mos"}
    assert {row["prompt"] for row in rows} == set(prompts)
    assert {row["label"] for row in rows} == {0.0, 1.0}  # the order of images tells nothing

    outvoted("flip", store, "--rate", "0.2", "--name", "flip20")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        json.dumps(
            {
                "labels": "flip20",
                "backbone": {
                    "path": str(tiny_sd(tmp_path / "backbone")),
                    "resolution": TINY.image,
                    "lora": {"rank": 4},
                },
                "objective": {"name": "adaptive_dpo", "beta": 300},
                "metric": {"preset": "history", "timestep_bins": 2, "rms_min_count": 4},
                "steps": 20,
                "batch_size": 10,
            }
        )
    )
    outvoted("train", recipe, "--store", store, "--run", "r")
    page = tmp_path / "report.html"
    said = outvoted("analyze", store, "--run", "r", "--out", page)
    assert "AUROC" in said
    assert page.stat().st_size < 10_000_000
    assert read_findings(open_store(store), "r", "minority").num_rows > 40

    out = tmp_path / "export"
    outvoted("export", store, "--run", "r", "--drop-top", "0.1", "--reweight", "--out", out)
    kept = sum(pq.read_metadata(file).num_rows for file in (out / "data").glob("*.parquet"))
    assert 0 < kept < len(rows)
