"""Who voted is guessed from everything that leaves a store, as anybody with the source could."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analysis.report.page import write_report
from analysis.run_analysis import analyze_run, write_cartography
from tests.toolkit.pickapic_source import source_row, write_source
from toolkit.export import FORMATS, Policy, export_set
from toolkit.ids import make_pair_id
from toolkit.ingest import ingest
from toolkit.store import Store, create_store
from toolkit.store.connection import read_pairs
from toolkit.store.runs import update_run

ROWS = 24
PEOPLE = range(100)


def texts_in(folder: Path) -> Iterator[str]:
    """The name and the content of every file that left."""
    for file in sorted(folder.rglob("*")):
        yield file.name
        if file.suffix == ".parquet":
            yield str(pq.read_table(file).to_pylist())
        elif file.is_file():
            yield file.read_bytes().decode("utf-8", "replace")


def recovered(left: Path, guess: Callable[[int, str], str], rows: int, names: list[str]) -> set:
    """The rows whose annotator is found: an id made from a guessed name is in what left."""
    text = "\n".join(texts_in(left))
    return {(k, name) for k in range(rows) for name in names if guess(k, name) in text}


def guess_pickapic(k: int, name: str) -> str:
    row = source_row(k)
    facts = (row["caption"], row["image_0_uid"], row["image_1_uid"])
    stamp = row["created_at"].isoformat() + "+00:00"
    return make_pair_id("pickapic", *facts, str(row["ranking_id"]), name, stamp)


def pickapic_store(folder: Path, *, pseudonyms: bool) -> Store:
    path = write_source(folder / "train.parquet", [source_row(k) for k in range(ROWS)])
    store = create_store(folder / "s")
    ingest(store, "pickapic", [path], pseudonyms=pseudonyms)
    return store


def test_the_attack_finds_annotators_where_ids_leave_as_they_are(tmp_path):
    store = pickapic_store(tmp_path, pseudonyms=False)
    names = list(map(str, PEOPLE))
    assert len(recovered(store.folder("pairs"), guess_pickapic, ROWS, names)) == ROWS


@pytest.mark.parametrize("pseudonyms", [False, True])
def test_no_annotator_is_recovered_from_any_export(tmp_path, pseudonyms):
    store = pickapic_store(tmp_path, pseudonyms=pseudonyms)
    names = list(map(str, PEOPLE))
    for form in FORMATS:
        export_set(store, tmp_path / "out" / form, Policy(), form)
        assert recovered(tmp_path / "out" / form, guess_pickapic, ROWS, names) == set()
    if pseudonyms:  # a store whose key was removed can be passed on
        for table in ("pairs", "votes"):
            assert recovered(store.folder(table), guess_pickapic, ROWS, names) == set()


def test_no_annotator_is_recovered_from_a_report(tmp_path, make_store):
    store = make_store(pairs=24, run=True)
    left = tmp_path / "left"
    left.mkdir()
    update_run(store, "r", objective={"beta": 1.0})
    analysis = analyze_run(store, "r")
    write_report(analysis, left / "report.html")
    write_cartography(analysis, left)
    rows = read_pairs(store, ["prompt", "image_0", "image_1"]).to_pylist()
    names = [f"annotator-{n}" for n in range(10)]

    def guess(k: int, name: str) -> str:
        return make_pair_id("test", rows[k]["prompt"], rows[k]["image_0"], rows[k]["image_1"], name)

    assert recovered(left, guess, len(rows), names) == set()
    assert not any(name in text for text in texts_in(left) for name in names)


@pytest.mark.parametrize("first", [False, True])
def test_the_same_source_is_the_same_pairs_with_pseudonyms_and_without(tmp_path, first):
    store = pickapic_store(tmp_path, pseudonyms=first)
    for pseudonyms in (not first, first):
        again = ingest(store, "pickapic", [tmp_path / "train.parquet"], pseudonyms=pseudonyms)
        assert (again.kept, again.duplicate) == (0, ROWS)
