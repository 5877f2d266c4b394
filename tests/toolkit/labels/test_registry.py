"""A label maker is one file and one line: its command, help and recipe follow from the entry."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import labels as verb
from app.cli.main import registered
from tests.factories import StoreFactory
from toolkit.labels import LABEL_MAKERS
from toolkit.store.connection import effective_labels
from toolkit.store.label_sets import label_set_recipe

README = Path(__file__).parents[3] / "README.md"
MODULE = """
from typing import Annotated
from toolkit.labels import LabelMaker, Made, changes_of, write_changes
from toolkit.store import Store
from toolkit.store.connection import read_pairs
from toolkit.store.label_sets import ORIGINAL

def first_wins(store: Store, name: str, base: str = ORIGINAL, *,
               pairs: Annotated[int, "How many pairs.", (1, None)] = 2) -> Made:
    ids = read_pairs(store, ["pair_id"])["pair_id"].to_pylist()[:pairs]
    return write_changes(store, name, base, changes_of(ids, [1] * len(ids)), {"kind": "first"})

FIRST = LabelMaker("first", "Image 0 wins.", first_wins, "first-wins")
"""


def run(*words: object):
    return CliRunner().invoke(registered(), ["labels", *map(str, words)], terminal_width=80)


def test_a_maker_in_a_file_of_its_own_has_a_command(
    make_store: StoreFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first_maker.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(LABEL_MAKERS, "first", import_module("first_maker").FIRST)
    verb._commands.cache_clear()
    try:
        store = make_store(pairs=8)
        assert "  first     Image 0 wins." in run("--help").output.splitlines()
        assert "How many pairs." in run("first", "--help").output
        assert run("first", store.root, "--pairs", 0).exit_code == 2
        done = run("first", store.root, "--pairs", 3)
        labels = effective_labels(store, "first-wins")
        sides = zip(labels["label"].to_pylist(), labels["original_label"].to_pylist(), strict=True)
        changed = sum(label != original for label, original in sides)
        line = f"Label set first-wins: {changed} of 3 labels differ from original.\n"
        assert done.output == line
        assert label_set_recipe(store, "first-wins") == {"kind": "first", "base": "original"}
    finally:
        verb._commands.cache_clear()
        sys.modules.pop("first_maker", None)


def test_every_maker_is_listed_with_its_summary_and_has_its_help() -> None:
    shown = run("--help").output.splitlines()
    for name, maker in LABEL_MAKERS.items():
        assert f"  {name.ljust(8)}  {maker.summary}" in shown
        assert run(name, "--help").exit_code == 0


def test_the_table_of_the_readme_is_that_of_the_registry() -> None:
    rows = [f"| `outvoted labels {m.name}` | {m.summary} |\n" for m in LABEL_MAKERS.values()]
    assert "".join(rows) in README.read_text(encoding="utf-8")


def test_flip_is_also_a_verb_of_its_own(make_store: StoreFactory) -> None:
    store = make_store(pairs=40)
    words = [str(store.root), "--rate", "0.1", "--name", "flip10"]
    first = CliRunner().invoke(registered(), ["flip", *words])
    assert first.output == run("flip", *words).output
    assert first.output == "Label set flip10: 4 of 40 labels differ from original (seed 0).\n"
    shown = CliRunner().invoke(registered(), ["flip", "--help"]).output
    assert shown.startswith("Usage: ")
    assert "Share of the labels to flip." in shown


def test_the_sets_are_listed_with_how_they_were_made(make_store: StoreFactory) -> None:
    store = make_store(pairs=40)
    run("flip", store.root)
    assert run("list", store.root).output.splitlines() == [
        "original: the source's labels",
        "flip20: planted, 8 labels differ from the source's",
    ]
