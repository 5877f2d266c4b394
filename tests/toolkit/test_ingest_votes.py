"""Further votes join pairs that are there, once; released arrays become a run's finding."""

import math
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.toolkit.pickapic_source import source_row, write_source
from tests.toolkit.stores import rows, snapshot, votes_of
from toolkit.errors import InputError, StoreError
from toolkit.ingest import ingest, open_source
from toolkit.store import Store, create_store
from toolkit.store.pseudonyms import exported_ids
from toolkit.store.runs import findings_about, read_findings, run_about


def vote_table(path: Path, votes: list[tuple]) -> Path:
    names = ("pair_id", "annotator", "choice")
    path.write_text("\n".join(",".join(map(str, row)) for row in (names, *votes)) + "\n")
    return path


def ids(store: Store) -> list[str]:
    return [pair["pair_id"] for pair in rows(store, "pairs")]


def test_votes_in_words_and_numbers_join_their_pairs_once(make_store, tmp_path):
    store = make_store(pairs=6)
    one, two, *_ = ids(store)
    votes = [(one, "ann", 1), (one, "bob", "image_1"), (two, "ann", "tie"), (two, "bob", 0.5)]
    bad = [("nobody", "ann", 1), (one, "cid", 7), (two, "dan", "left")]
    source = vote_table(tmp_path / "v.csv", [*votes, *bad])
    summary = ingest(store, "votes", source)
    assert (summary.read, summary.kept, summary.tied, summary.quarantined) == (7, 4, 2, 3)
    mine = votes_of(store, one)
    assert (mine["ann"], mine["bob"]) == (1.0, 0.0)
    assert sorted(summary.reasons) == [
        "the choice is no number from 0 to 1, and none of image_0, image_1, tie, both_good, "
        "both_bad",
        "the store has no such pair",
    ]
    before = snapshot(store)
    again = ingest(store, "votes", source)
    assert (again.kept, again.duplicate, again.quarantined) == (0, 4, 3)
    assert snapshot(store) == before


def test_votes_of_nobody_and_of_one_person_again_are_votes(make_store, tmp_path):
    store = make_store(pairs=2)
    one, two = ids(store)
    pq.write_table(
        pa.table(
            {
                "pair_id": [one] * 5 + [two] * 3,
                "choice": ["1", "1", "0", "both_bad", "0.7", "1", "1", "0"],
                "annotator": [None, None, None, "ann", "ann", "ann", "ann", "ann"],
                "axis": [None] * 4 + ["coherence"] + [None] * 3,
                "weight": [None, math.nan, None, None, 0.5, None, None, None],
                "grade": [None] * 4 + ["7 of 10"] + [None] * 3,
                "time": [None] * 5 + ["2026-01-01T00:00:00"] * 2 + [None],
            }
        ),
        tmp_path / "v.parquet",
    )
    for number in range(2):
        summary = ingest(store, "votes", tmp_path / "v.parquet")
        assert (summary.kept, summary.duplicate) == ((7, 1), (0, 8))[number]
    columns = ("choice", "axis", "weight", "grade", "both_are")
    kept = [tuple(row[k] for k in columns) for row in rows(store, "votes") if row["pair_id"] == one]
    assert kept[-5:] == [
        (1.0, None, None, None, None),
        (1.0, None, None, None, None),
        (0.0, None, None, None, None),
        (0.5, None, None, None, "bad"),
        (0.7, "coherence", 0.5, "7 of 10", None),
    ]


def test_votes_leave_labels_as_they_are(make_store, tmp_path):
    store = make_store(pairs=6)
    before = rows(store, "pairs")
    flipped = [(p["pair_id"], "ann", 1 - p["label"]) for p in before]
    ingest(store, "votes", [vote_table(tmp_path / "v.csv", flipped)])
    assert rows(store, "pairs") == before


def test_a_table_without_the_columns_is_refused_with_the_options(tmp_path):
    pq.write_table(pa.table({"pair_id": ["a"], "who": ["b"]}), tmp_path / "v.parquet")
    with pytest.raises(InputError, match=r"lacks the column choice .*--choice-column"):
        open_source("votes", tmp_path / "v.parquet")


def test_a_column_that_is_named_must_be_there(tmp_path):
    pq.write_table(pa.table({"pair_id": ["a"], "choice": [1]}), tmp_path / "v.parquet")
    assert open_source("votes", tmp_path / "v.parquet").rows == 1
    with pytest.raises(InputError, match="lacks the column who "):
        open_source("votes", tmp_path / "v.parquet", annotator_column="who")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """12 pairs; source row number 5 * k."""
    path = write_source(tmp_path / "train.parquet", [source_row(k) for k in range(12)])
    made = create_store(tmp_path / "s")
    ingest(made, "pickapic", [path])
    return made


def arrays(folder: Path, *pieces: list) -> list[Path]:
    files = []
    for n, piece in enumerate(pieces):
        files.append(folder / f"scores_rank{n * 9}.npy")  # 0, 9, 18: 9 sorts before 18
        np.save(files[-1], np.array(piece))
    return files


@pytest.mark.parametrize("by", ["row", "source-row", "pair_id"])
def test_arrays_with_an_index_become_a_finding_averaged_over_visits(tmp_path, store, by):
    names = ids(store)
    exported = exported_ids(store)(names)
    entries = {
        "row": [2, 0, 2],
        "source-row": [10, 0, 10],
        "pair_id": [names[2], exported[0], exported[2]],  # either name
    }
    (tmp_path / "v").mkdir()
    (tmp_path / "i").mkdir()
    arrays(tmp_path / "v", [0.5], [0.25], [1.5])
    index = entries[by]
    arrays(tmp_path / "i", index[:1], index[1:2], index[2:])
    index = [tmp_path / "i"]
    joined = ingest(store, "released-npy", [tmp_path / "v"], index=index, run="theirs", by=by)
    assert (joined.values, joined.joined, joined.pairs) == (3, 3, 2)
    found = {row["pair_id"]: row for row in read_findings(store, "theirs", "minority").to_pylist()}
    assert (found[names[2]]["minority"], found[names[2]]["visits"]) == (1.0, 2)
    assert (found[names[0]]["minority"], found[names[0]]["visits"]) == (0.25, 1)
    assert findings_about(store, "theirs", "minority")["labels"] == "original"


def test_arrays_without_an_index_belong_to_no_pair(tmp_path, store):
    joined = ingest(store, "released-npy", arrays(tmp_path, [1, 2], [3]), run="theirs")
    assert (joined.values, joined.joined) == (3, 0)
    assert "belong to no pair" in joined.lines()[0]
    kept = pq.read_table(store.run("theirs") / "values.parquet")
    assert kept["minority"].to_pylist() == [1.0, 2.0, 3.0]
    with pytest.raises(StoreError, match="has no finding"):
        read_findings(store, "theirs", "minority")
    assert run_about(store, "theirs")["values"] == 3


def test_a_killed_ingest_of_arrays_is_run_again(tmp_path, store, monkeypatch):
    files = arrays(tmp_path, [1, 2], [3])
    with monkeypatch.context() as patch:
        patch.setattr("toolkit.ingest.score_arrays.start_run", lambda *_: sys.exit(9))
        with pytest.raises(SystemExit):
            ingest(store, "released-npy", files, run="theirs")
    assert store.runs() == []
    assert ingest(store, "released-npy", files, run="theirs").values == 3
    with pytest.raises(StoreError, match="has a run 'theirs' already"):
        ingest(store, "released-npy", files, run="theirs")


def with_a_second_part(folder: Path, store: Store) -> None:
    """Three pairs more whose source counts its rows from 0 again: 0, 5 and none."""
    more = [source_row(k) for k in range(12, 15)]
    for row, number in zip(more, (0, 5, None), strict=True):
        row["__index_level_0__"] = number
    ingest(store, "pickapic", [write_source(folder / "validation.parquet", more)])


def test_a_source_row_of_several_pairs_is_refused_and_others_are_joined(tmp_path, store):
    with_a_second_part(tmp_path, store)
    names = {pair["src_ranking_id"] - 1000: pair["pair_id"] for pair in rows(store, "pairs")}
    values, index = tmp_path / "v.npy", tmp_path / "i.npy"
    np.save(values, np.array([0.25, 0.5, 0.75]))
    np.save(index, np.array([10, 5, 0]))
    given = {"index": [index], "run": "theirs", "by": "source-row"}
    with pytest.raises(InputError, match=r"names 5, which names 2 pairs .* \(and 1 more such"):
        ingest(store, "released-npy", [values], **given)
    assert store.runs() == []
    np.save(index, np.array([10, 15, 20]))  # numbers that only the first part has
    ingest(store, "released-npy", [values], **given)
    found = read_findings(store, "theirs", "minority").to_pylist()
    told = {row["pair_id"]: row["minority"] for row in found}
    assert told == {names[2]: 0.25, names[3]: 0.5, names[4]: 0.75}


def test_an_entry_that_says_nothing_is_not_taken_for_a_pair_without_a_number(tmp_path, store):
    with_a_second_part(tmp_path, store)
    [values] = arrays(tmp_path, [1.0])
    for nothing in (np.array(["NaT"], "datetime64[s]"), np.array([np.nan])):
        np.save(tmp_path / "i.npy", nothing)
        given = {"index": [tmp_path / "i.npy"], "run": "theirs", "by": "source-row"}
        with pytest.raises(InputError, match="which no pair of the store has; see --by"):
            ingest(store, "released-npy", [values], **given)


def test_arrays_that_do_not_fit_are_refused_before_a_run_is_made(tmp_path, store):
    [values] = arrays(tmp_path, [1.0, 2.0])
    bad = tmp_path / "bad.npy"
    for index, sentence in (
        ([1], "holds 1 entries and the arrays hold 2 values"),
        ([1, 99], "names row 99, and the store has 12 pairs"),
        ([0.5, 1.0], "holds no row numbers; see --by"),
    ):
        np.save(bad, np.array(index))
        with pytest.raises(InputError, match=sentence):
            ingest(store, "released-npy", [values], index=[bad], run="theirs")
    np.save(bad, np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"shape \(2, 2\) and type float64"):
        open_source("released-npy", [bad], run="theirs")
    bad.write_bytes(b"no array")
    with pytest.raises(InputError, match=r"cannot be read as a \.npy array"):
        open_source("released-npy", [bad], run="theirs")
    assert store.runs() == []
