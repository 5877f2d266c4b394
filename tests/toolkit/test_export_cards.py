"""The data cards say what the code does: their columns and commands are the real ones."""

import re
import shlex
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.ingest import app
from tests.toolkit.pickapic_source import SCHEMA
from toolkit.ingest.pickapic import NEEDED

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "agiqa3k"


def card(name: str) -> str:
    return (files("data_cards") / name).read_text(encoding="utf-8")


def columns_of(text: str, heading: str) -> list[str]:
    """Names in backquotes in the first column of the first table below a heading."""
    section = text.split(heading, 1)[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_the_pickapic_card_names_exactly_the_nineteen_columns():
    assert sorted(columns_of(card("pickapic_v2.md"), "## Schema")) == sorted(SCHEMA.names)


def test_the_pickapic_card_marks_exactly_the_needed_columns():
    marked = re.findall(r"`(\w+)` \*", card("pickapic_v2.md"))
    assert sorted(marked) == sorted(NEEDED)


@pytest.mark.skipif(not REAL.exists(), reason="the real AGIQA-3K is not on this machine")
def test_the_agiqa3k_card_names_exactly_the_tables_columns():
    header = (REAL / "ratings.csv").open(encoding="utf-8").readline().strip().split(",")
    assert columns_of(card("agiqa3k.md"), "## Schema") == header


@pytest.mark.skipif(not REAL.exists(), reason="the real AGIQA-3K is not on this machine")
def test_the_agiqa3k_cards_command_runs_and_tells_the_models_apart(tmp_path, monkeypatch):
    from toolkit.store import connect, open_store
    from toolkit.store.connection import fetch

    block = re.search(r"    outvoted ingest (ratings .*?)\n\n", card("agiqa3k.md"), re.DOTALL)
    assert block is not None
    arguments = shlex.split(block[1].replace("\\\n", " "))
    arguments[arguments.index("STORE")] = str(tmp_path / "s")
    monkeypatch.chdir(REAL)
    result = CliRunner().invoke(app, [*arguments, "--images", "reference"])
    assert result.exit_code == 0, result.output
    with connect(open_store(tmp_path / "s")) as con:
        models = fetch(con, "SELECT DISTINCT src_model_0 AS m FROM pairs ORDER BY 1")
    assert len(models) == 10
    assert "sd1.5_lowstep" in models["m"].to_pylist()


def test_no_card_but_the_template_has_holes_in_it():
    for name in ("agiqa3k.md", "pickapic_v2.md", "miniworld.md"):
        assert "{{" not in card(name)
