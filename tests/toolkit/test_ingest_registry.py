"""A source is one file and one line: command, help, Python call and README follow from it."""

import importlib.util
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.ingest import app
from tests.factories import png
from tests.toolkit.pickapic_source import source_row, write_source
from tests.toolkit.stores import rows
from toolkit.errors import InputError
from toolkit.ingest import SOURCES, ingest, open_source, sources_table
from toolkit.store import create_store, open_store

README = Path(__file__).parents[2] / "README.md"

MINE = """
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Literal

from toolkit.ingest.source import (
    Opened, PairOptions, Source, SourceImage, SourceRow, as_batches
)
from toolkit.ingest.tabular import count_rows, find_tables, need_columns, records
from toolkit.ingest.writer import open_pairs


@dataclass(frozen=True)
class MineOptions(PairOptions):
    paths: Annotated[Sequence[str | Path], "Files, or folders of them."]
    _: KW_ONLY
    winner: Annotated[Literal["left", "right"], "Which side won."] = "left"


def open_mine(options: MineOptions) -> Opened:
    tables = find_tables(options.paths, shard=options.part)
    for table in tables:
        need_columns(table, ("text", "left", "right"), "name another file")

    def rows() -> Iterator[SourceRow]:
        for table in tables:
            for number, row in records(table):
                sides = [SourceImage(row[side], None) for side in ("left", "right")]
                label = float(options.winner == "left")
                yield SourceRow(row["text"], *sides, label, source_row=number)

    return open_pairs(
        "mine", options, lambda: as_batches(rows(), options), rows=count_rows(tables)
    )


SOURCE = Source("mine", "Left or right", MineOptions, open_mine, stored_as="mine")
"""


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source in a file of its own, entered in the registry; a table for it to read."""
    (tmp_path / "mine.py").write_text(MINE)
    spec = importlib.util.spec_from_file_location("mine", tmp_path / "mine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mine", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(SOURCES, "mine", module.SOURCE)
    path = tmp_path / "table.csv"
    path.write_text("text,left,right\na,1.png,2.png\n ,3.png,4.png\n")
    return path


def test_a_source_in_a_file_of_its_own_is_a_command_with_its_options(tmp_path, listed):
    assert "Left or right" in CliRunner().invoke(app, ["--help"]).output
    text = CliRunner().invoke(app, ["mine", "--help"]).output
    assert "Which side won" in text
    assert "--shard" in text
    command = ["mine", str(listed), "--store", str(tmp_path / "s"), "--winner", "right"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "read 2, kept 1" in result.output
    assert "quarantined 1: the prompt is empty" in result.output
    [pair] = rows(open_store(tmp_path / "s"), "pairs")
    assert (pair["prompt"], pair["label"], pair["source"]) == ("a", 0.0, "mine")
    assert CliRunner().invoke(app, [*command[:-1], "up"]).exit_code == 2


def test_the_same_source_is_called_from_python(tmp_path, listed):
    store = create_store(tmp_path / "s")
    assert ingest(store, "mine", listed).kept == 1
    assert ingest(store, "mine", paths=[listed], winner="left").duplicate == 1
    assert "| `mine` | Left or right |" in sources_table()


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        (("a", "b"), {}, "mine takes paths by position, and no more"),
        ((), {}, "mine needs paths: Files, or folders of them"),
        (("a",), {"sides": 2}, "mine has no option 'sides'; it has paths, images,"),
        (("a",), {"winner": "up"}, "--winner is 'up'; it must be left or right"),
        (("a",), {"images": "link"}, "--images is 'link'; it must be copy or reference"),
        (("a",), {"limit": 0}, "--limit is 0; it must be from 1 to 1e+09"),
        (("a",), {"split": "dev"}, "--split is 'dev'; it must be train, validation or test"),
        (("a",), {"shard": "3/3"}, "--shard is '3/3'; write i/n"),
    ],
)
@pytest.mark.usefixtures("listed")
def test_a_wrong_call_is_one_sentence(arguments, options, sentence):
    with pytest.raises(InputError) as caught:
        open_source("mine", *arguments, **options)
    assert sentence in str(caught.value)


def test_an_unknown_source_is_answered_with_those_there_are():
    with pytest.raises(InputError, match="There is no source 'pickapick'; choose pickapic, hpd,"):
        open_source("pickapick", "x")


def test_opening_a_source_reads_no_row_and_writes_nothing(tmp_path):
    file = write_source(tmp_path / "train.parquet", [source_row(k) for k in range(5)])
    before = sorted(tmp_path.rglob("*"))
    assert open_source("pickapic", file).rows == 5
    assert open_source("pickapic", file, limit=2).rows == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_rows_of_one_source_and_columns_of_another_share_images_and_rules(tmp_path):
    """The same images by copy, then by reference: the second brings nothing but its pairs."""
    (tmp_path / "a.png").write_bytes(png((1, 2, 3)))
    (tmp_path / "b.png").write_bytes(png((3, 2, 1)))
    listed = tmp_path / "train.jsonl"
    listed.write_text(
        '{"prompt": "p", "file_path": ["a.png", "b.png"], "human_preference": [1, 0]}'
    )
    store = create_store(tmp_path / "s")
    assert ingest(store, "hpd", listed).images == 2
    file = write_source(
        tmp_path / "train.parquet",
        [source_row(0) | {"image_0_uid": "a.png", "image_1_uid": "b.png"}],
    )
    summary = ingest(store, "pickapic", file, images="reference")
    assert (summary.kept, summary.images) == (1, 0)
    assert len(rows(store, "images")) == 2


def test_the_readme_lists_the_sources():
    assert sources_table() in README.read_text(encoding="utf-8")


def test_every_card_of_a_source_is_there():
    cards = Path(__file__).parents[2] / "data_cards"
    for source in SOURCES.values():
        for name in source.cards:
            assert (cards / f"{name}.md").is_file(), name
