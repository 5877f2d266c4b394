"""The desk's ledger: journal first, memory at once, parts within seconds."""

from pathlib import Path

import pytest

from app.desk.verdict_state import Ledger
from tests.factories import StoreFactory
from tests.polling import wait_for
from toolkit.errors import StoreError
from toolkit.files.atomic import parts
from toolkit.store import Store
from toolkit.store.integrity import check_store, repair
from toolkit.store.verdicts import Choice, Entry, Journal, publish, resolve


@pytest.fixture
def store(make_store: StoreFactory) -> Store:
    return make_store(pairs=4)


@pytest.fixture
def ledger(store: Store, tmp_path: Path) -> Ledger:
    return Ledger(store, tmp_path / "journal.sqlite")


def give(ledger: Ledger, pair_id: str, choice: Choice, curator: str = "anna") -> None:
    ledger.record([Entry(pair_id, curator, choice)])


def wait_for_parts(store: Store, count: int = 1) -> None:
    wait_for(lambda: len(parts(store.folder("verdicts"))) >= count, "published verdicts")


def test_fifty_undos_take_back_fifty_verdicts_in_reverse(ledger: Ledger) -> None:
    for number in range(50):
        give(ledger, f"pair-{number}", "tie")
    assert ledger.saved("anna").verdicts == 50
    undone = [ledger.undo("anna") for _ in range(51)]
    assert undone == [*(f"pair-{number}" for number in range(49, -1, -1)), None]
    assert ledger.saved("anna").verdicts == 0
    assert all(ledger.outcome(f"pair-{number}") is None for number in range(50))


def test_a_part_that_cannot_be_read_once_is_read_the_next_time(
    store: Store, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
            ledger.refresh()
    ledger.refresh()
    outcome = ledger.outcome("pair")
    assert outcome is not None
    assert outcome["choice"] == "drop"


def test_a_broken_part_among_the_verdicts_is_told_and_publishing_goes_on(
    store: Store, ledger: Ledger
) -> None:
    broken = store.folder("verdicts") / "part-copy.parquet"
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_bytes(b"no parquet")
    give(ledger, "pair", "drop")
    ledger.publish()
    assert "safe in the journal" in ledger.problem
    broken.unlink()
    ledger.publish()
    assert ledger.problem == ""
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
    ledger = Ledger(store, path)
    assert ledger.saved("anna").verdicts == 2
    assert f"{first} cannot be read" in ledger.trouble
    assert "type `outvoted check" in ledger.trouble
    repair(store, check_store(store))
    assert resolve(store).num_rows == 1
    ledger.publish()
    ledger.refresh()
    assert ledger.trouble == ""
    assert resolve(store)["pair_id"].to_pylist() == ["a", "b"]


def test_undo_brings_back_the_verdict_before(ledger: Ledger) -> None:
    give(ledger, "pair", "image_0")
    give(ledger, "pair", "drop")
    ledger.undo("anna")
    outcome = ledger.outcome("pair")
    assert outcome is not None
    assert outcome["choice"] == "image_0"


def test_undo_leaves_other_curators_alone(ledger: Ledger) -> None:
    give(ledger, "pair", "image_0", "anna")
    give(ledger, "pair", "image_0", "ben")
    assert ledger.undo("anna") == "pair"
    assert ledger.saved("ben").verdicts == 1
    assert ledger.undo("anna") is None


def test_a_killed_desk_loses_nothing(store: Store, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.record([Entry("pair", "anna", "drop")])
    journal.close()
    ledger = Ledger(store, tmp_path / "journal.sqlite")
    assert ledger.saved("anna").verdicts == 1
    wait_for_parts(store)
    assert resolve(store).to_pylist()[0]["choice"] == "drop"


def test_what_others_publish_is_seen(ledger: Ledger, store: Store, tmp_path: Path) -> None:
    other = Journal(tmp_path / "other.sqlite")
    other.record([Entry("pair", "ben", "tie")])
    publish(store, other)
    other.close()
    assert ledger.outcome("pair") is None
    ledger.refresh()
    outcome = ledger.outcome("pair")
    assert outcome is not None
    assert outcome["choice"] == "tie"
    assert ledger.saved("anna").verdicts == 0


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
    ledger: Ledger, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError("No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("app.desk.verdict_state.publish", full)
        give(ledger, "pair", "tie")
        ledger.publish()
        assert "safe in the journal" in ledger.problem
    ledger.publish()
    assert ledger.problem == ""
    assert resolve(store).num_rows == 1


def test_a_journal_where_none_can_be_is_a_sentence(store: Store) -> None:
    with pytest.raises(StoreError, match="--journal"):
        Ledger(store, store.root / "store.json" / "verdicts.sqlite")
