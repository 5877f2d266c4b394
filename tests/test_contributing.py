"""CONTRIBUTING.md adds one of each kind of thing; here its blocks are added to a copy and run."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.factories import StoreFactory
from tests.house.sources import PACKAGES, ROOT

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LINES = 15
_SECTION = re.compile(r"^### (.+?)\n(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```python\n# ([\w/.]+)(?:: add (.+) to (\w+))?\n(.*?)^```", re.M | re.DOTALL)
SECTIONS = {match[1]: _BLOCK.findall(match[2]) for match in _SECTION.finditer(GUIDE)}
KINDS = {
    "A source",
    "A detector",
    "A scorer",
    "An objective",
    "A label maker",
    "An export format",
    "A page of the desk",
    "A verb",
}


def test_the_guide_shows_each_kind_as_a_file_and_a_line() -> None:
    assert set(SECTIONS) == KINDS
    for blocks in SECTIONS.values():
        (_, entry, _, body), (_, line, registry, imports) = blocks
        assert entry == ""
        assert len(body.splitlines()) <= LINES
        assert line
        assert registry
        assert len(imports.splitlines()) <= 1


def register(text: str, entry: str, registry: str, imports: str) -> str:
    """A registry's module with `imports` before its own, and `entry` first in `registry`."""
    lines = text.splitlines(keepends=True)
    tree = ast.parse(text)
    named = {ast.unparse(t): node.value for node in tree.body for t in targets(node)}
    value = named[registry]
    assert value is not None
    at, addition = opening(value, entry)
    row, column = at
    lines[row - 1] = lines[row - 1][:column] + addition + lines[row - 1][column:]
    first = next(n.lineno for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom))
    lines.insert(first - 1, imports)
    return "".join(lines)


def targets(node: ast.stmt) -> list[ast.expr]:
    if isinstance(node, ast.AnnAssign):
        return [node.target]
    return node.targets if isinstance(node, ast.Assign) else []


def opening(value: ast.expr, entry: str) -> tuple[tuple[int, int], str]:
    """Where the first entry of a registry begins, and what to write there."""
    for node in ast.walk(value):
        if isinstance(node, ast.Dict) and not any(isinstance(v, ast.Dict) for v in node.values):
            first = node.keys[0]
        elif isinstance(node, ast.Tuple) and isinstance(node.elts[0], ast.Name | ast.Attribute):
            first = node.elts[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "chain":
            first = node.args[0]
        elif isinstance(node, ast.BinOp) and isinstance(node.left, ast.Name):
            return (node.left.lineno, node.left.col_offset), f"{entry} | "
        else:
            continue
        assert first is not None
        return (first.lineno, first.col_offset), f"{entry}, "
    raise AssertionError(f"no registry in {ast.unparse(value)}")


USE = """
import json, sys
from pathlib import Path
from typer.testing import CliRunner
from app.cli.main import registered

store, folder = sys.argv[1], Path(sys.argv[2])
said = {}

def outvoted(*words):
    result = CliRunner().invoke(registered(), [str(word) for word in words])
    assert result.exit_code == 0, (words, result.output, result.exception)
    return result.output

(folder / "mine.csv").write_text("a hat,better,worse\\n")
said["A source"] = outvoted("ingest", "mine", folder / "mine.csv", "--store", folder / "ingested")
said["A label maker"] = outvoted("labels", "mine", store, "--limit", "20")
said["A scorer"] = outvoted("score", store, "--scorer", "mine", "--device", "cpu")
said["An export format"] = outvoted("export", store, "--format", "mine", "--out", folder / "out")
said["An export format"] += (folder / "out" / "weights.txt").read_text()
said["A verb"] = outvoted("mine", store) + outvoted("--help")
outvoted("analyze", store, "--run", "r", "--out", folder / "report.html")

from toolkit.store import open_store
from toolkit.store.runs import read_findings
said["A detector"] = str(read_findings(open_store(store), "r", "mine").to_pylist()[0])

import torch
from training.objectives import OBJECTIVES
from training.objectives.dpo import PairErrors
from training.recipe import parse_recipe
recipe = parse_recipe({"backbone": {"path": "x"}, "steps": 1, "metric": {"preset": "history"},
                       "objective": {"name": "mine", "beta": 2}})
errors = PairErrors(*(torch.tensor([x]) for x in (1.0, 1.0, 0.75, 1.0)))
said["An objective"] = str(recipe.objective.loss(errors, torch.zeros(1)).loss.item())

from streamlit.testing.v1 import AppTest
import app.desk.streamlit_app
page = (
    "from app.desk import state; from app.desk.streamlit_app import PAGES;"
    "state.set_defaults(); PAGES['mine'].run()"
)
shown = AppTest.from_string(page, default_timeout=600).run()
assert not shown.exception, shown.exception
said["A page of the desk"] = shown.text[0].value
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each addition says once its blocks are in a copy of the code."""
    folder = tmp_path_factory.mktemp("contributing")
    code = folder / "code"
    code.mkdir()
    skip = shutil.ignore_patterns("__pycache__", "*.png", "miniatures")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, code / package, ignore=skip)
    for (path, _, _, body), (registry, entry, name, imports) in SECTIONS.values():
        assert not (code / path).exists()
        (code / path).write_text(body)
        text = (code / registry).read_text(encoding="utf-8")
        (code / registry).write_text(register(text, entry, name, imports), encoding="utf-8")
    store = StoreFactory(folder)(pairs=20, run=True)
    desk = {"store": str(store.root), "run": "r", "curator": "anna", "journal": str(folder / "j")}
    done = subprocess.run(
        [sys.executable, "-c", USE, str(store.root), str(folder)],
        cwd=code,
        env={**os.environ, "PYTHONPATH": str(code), "OUTVOTED_DESK": json.dumps(desk)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


SAYS = {
    "A source": r"kept 1 ",
    "A detector": r"'words': 3\.0",
    "A scorer": r"\b40\b",
    "An objective": r"^0\.5$",
    "A label maker": r"Label set mine: [1-9]\d* of 20 labels differ",
    "An export format": r"'sample_weight': 1\.0",
    "A page of the desk": r"^20 pairs$",
    "A verb": r"(?s)^1 runs.*Count the runs of a store",
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_the_guide_adds_works(kind: str, said: dict[str, Any]) -> None:
    assert re.search(SAYS[kind], said[kind]), said[kind]
