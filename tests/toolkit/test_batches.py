"""Verdicts given together are taken back together, and single ones one by one."""

from pathlib import Path

import pytest

from toolkit.errors import StoreError
from toolkit.store.journal import Entry, Journal, newest_action


def record(path: Path, *entries: Entry) -> list[dict]:
    journal = Journal(path)
    try:
        return journal.record(entries)
    finally:
        journal.close()


def batch(name: str, *pairs: str, curator: str = "anna") -> list[Entry]:
    return [Entry(pair, curator, "drop", shown={"batch": name}) for pair in pairs]


def test_the_newest_action_is_the_whole_batch(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    record(path, Entry("p0", "anna", "tie"))
    saved = record(path, *batch("x", "p1", "p2", "p3"))
    record(path, Entry("p9", "berta", "tie"))
    found = newest_action(path, "anna")
    assert found is not None
    assert found.batch == "x"
    assert found.rows == tuple((row["pair_id"], row["verdict_id"]) for row in saved)


def test_what_was_taken_back_already_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    saved = record(path, *batch("x", "p1", "p2"))
    record(path, Entry("p2", "anna", "undo", undoes=saved[1]["verdict_id"]))
    found = newest_action(path, "anna")
    assert found is not None
    assert [pair for pair, _ in found.rows] == ["p1"]
    record(path, Entry("p1", "anna", "undo", undoes=saved[0]["verdict_id"]))
    assert newest_action(path, "anna") is None


def test_a_single_verdict_is_an_action_of_one(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    record(path, *batch("x", "p1", "p2"))
    record(path, Entry("p3", "anna", "tie"))
    found = newest_action(path, "anna")
    assert found is not None
    assert (found.batch, len(found.rows)) == (None, 1)


def test_a_broken_journal_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    path.write_bytes(b"this is no database at all, by no means")
    with pytest.raises(StoreError, match="cannot be read"):
        newest_action(path, "anna")
