"""The desk's verdicts: journal first, memory at once, parts within seconds."""

from pathlib import Path

import pytest

from app.desk import bulk_verdicts
from app.desk.verdict_state import VerdictState
from tests.factories import StoreFactory
from tests.polling import wait_for
from toolkit.errors import StoreError
from toolkit.files.atomic import parts
from toolkit.store import Store
from toolkit.store.integrity import check_store, repair
from toolkit.store.journal import Choice, Entry, Journal
from toolkit.store.verdicts import publish, resolve


@pytest.fixture
def store(make_store: StoreFactory) -> Store:
    return make_store(pairs=4)


@pytest.fixture
def verdicts(store: Store, tmp_path: Path) -> VerdictState:
    return VerdictState(store, tmp_path / "journal.sqlite")


def give(verdicts: VerdictState, pair_id: str, choice: Choice, curator: str = "anna") -> None:
    verdicts.record([Entry(pair_id, curator, choice)])


def wait_for_parts(store: Store, count: int = 1) -> None:
    wait_for(lambda: len(parts(store.folder("verdicts"))) >= count, "published verdicts")


def test_fifty_undos_take_back_fifty_verdicts_in_reverse(verdicts: VerdictState) -> None:
    for number in range(50):
        give(verdicts, f"pair-{number}", "tie")
    assert verdicts.saved("anna").verdicts == 50
    undone = [bulk_verdicts.undo(verdicts, "anna") for _ in range(51)]
    assert undone == [*([f"pair-{number}"] for number in range(49, -1, -1)), []]
    assert verdicts.saved("anna").verdicts == 0
    assert all(verdicts.verdict_on(f"pair-{number}") is None for number in range(50))


def test_a_part_that_cannot_be_read_once_is_read_the_next_time(
    store: Store, verdicts: VerdictState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Journal(tmp_path / "other.sqlite")
    other.record([Entry("pair", "bert", "drop")])
    publish(store, other)
    other.close()

    def fails(*_: object) -> None:
        raise OSError("timeout")

    with monkeypatch.context() as broken:
        broken.setattr("app.desk.verdict_state.pq.read_table", fails)
        with pytest.raises(OSError, match="timeout"):
            verdicts.refresh()
    verdicts.refresh()
    verdict = verdicts.verdict_on("pair")
    assert verdict is not None
    assert verdict["choice"] == "drop"


def test_a_broken_part_among_the_verdicts_is_told_and_publishing_goes_on(
    store: Store, verdicts: VerdictState
) -> None:
    broken = store.folder("verdicts") / "part-copy.parquet"
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_bytes(b"no parquet")
    give(verdicts, "pair", "drop")
    verdicts.publish()
    assert "safe in the journal" in verdicts.problem
    broken.unlink()
    verdicts.publish()
    assert verdicts.problem == ""
    assert len(parts(store.folder("verdicts"))) == 1


def test_a_desk_opens_beside_a_damaged_part_and_publishes_its_own_again(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    for pair in ("a", "b"):
        journal.record([Entry(pair, "anna", "drop")])
        publish(store, journal)
    journal.close()
    first = parts(store.folder("verdicts"))[0]
    first.write_bytes(first.read_bytes()[:-30])
    verdicts = VerdictState(store, path)
    assert verdicts.saved("anna").verdicts == 2
    assert f"{first} cannot be read" in verdicts.trouble
    assert "type `outvoted check" in verdicts.trouble
    repair(store, check_store(store))
    assert resolve(store).num_rows == 1
    verdicts.publish()
    verdicts.refresh()
    assert verdicts.trouble == ""
    assert resolve(store)["pair_id"].to_pylist() == ["a", "b"]


def test_undo_brings_back_the_verdict_before(verdicts: VerdictState) -> None:
    give(verdicts, "pair", "image_0")
    give(verdicts, "pair", "drop")
    bulk_verdicts.undo(verdicts, "anna")
    verdict = verdicts.verdict_on("pair")
    assert verdict is not None
    assert verdict["choice"] == "image_0"


def test_undo_leaves_other_curators_alone(verdicts: VerdictState) -> None:
    give(verdicts, "pair", "image_0", "anna")
    give(verdicts, "pair", "image_0", "ben")
    assert bulk_verdicts.undo(verdicts, "anna") == ["pair"]
    assert verdicts.saved("ben").verdicts == 1
    assert bulk_verdicts.undo(verdicts, "anna") == []


def test_a_killed_desk_loses_nothing(store: Store, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.record([Entry("pair", "anna", "drop")])
    journal.close()
    verdicts = VerdictState(store, tmp_path / "journal.sqlite")
    assert verdicts.saved("anna").verdicts == 1
    wait_for_parts(store)
    assert resolve(store).to_pylist()[0]["choice"] == "drop"


def test_what_others_publish_is_seen(verdicts: VerdictState, store: Store, tmp_path: Path) -> None:
    other = Journal(tmp_path / "other.sqlite")
    other.record([Entry("pair", "ben", "tie")])
    publish(store, other)
    other.close()
    assert verdicts.verdict_on("pair") is None
    verdicts.refresh()
    verdict = verdicts.verdict_on("pair")
    assert verdict is not None
    assert verdict["choice"] == "tie"
    assert verdicts.saved("anna").verdicts == 0


def test_publishing_writes_each_row_once(store: Store, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.record([Entry("a", "anna", "tie")])
    assert publish(store, journal) == 1
    assert publish(store, journal) == 0
    journal.record([Entry("b", "anna", "drop"), Entry("c", "anna", "unsure")])
    assert publish(store, journal) == 2
    other = Journal(tmp_path / "other.sqlite")
    other.record([Entry("d", "ben", "tie")])
    assert publish(store, other) == 1
    assert len(parts(store.folder("verdicts"))) == 3
    assert resolve(store)["pair_id"].to_pylist() == ["a", "b", "c", "d"]


def test_parts_of_other_names_are_read_to_know_what_is_published(
    store: Store, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.record([Entry("a", "anna", "tie")])
    publish(store, journal)
    (part,) = parts(store.folder("verdicts"))
    part.rename(part.with_name("part-merged.parquet"))
    assert publish(store, journal) == 0


def test_a_store_that_cannot_be_written_is_told_and_tried_again(
    verdicts: VerdictState, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError("No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("app.desk.verdict_state.publish", full)
        give(verdicts, "pair", "tie")
        verdicts.publish()
        assert "safe in the journal" in verdicts.problem
    verdicts.publish()
    assert verdicts.problem == ""
    assert resolve(store).num_rows == 1


def test_a_journal_where_none_can_be_is_a_sentence(store: Store) -> None:
    with pytest.raises(StoreError, match="--journal"):
        VerdictState(store, store.root / "store.json" / "verdicts.sqlite")
