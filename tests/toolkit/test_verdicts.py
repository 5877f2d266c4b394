"""A verdict that was saved stays saved; one outcome a pair, whoever judged and wherever."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from toolkit.errors import InputError, StoreError
from toolkit.files.atomic import parts
from toolkit.store import create_store
from toolkit.store.integrity import check_store, repair
from toolkit.store.journal import Entry, Journal
from toolkit.store.verdicts import (
    VERDICTS,
    choice_of,
    publish,
    resolve,
    resolve_rows,
    verdict_of,
)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "verdicts.sqlite")


def outcome(journal: Journal) -> dict[str, str]:
    return {r["pair_id"]: r["choice"] for r in resolve_rows(journal.rows()).to_pylist()}


@pytest.mark.parametrize(
    ("choice", "label", "verdict"),
    [
        ("image_0", 1.0, "keep"),
        ("image_1", 0.0, "keep"),
        ("image_0", 0.0, "flip"),
        ("image_1", 1.0, "flip"),
        ("image_0", 0.5, "flip"),
        ("image_1", None, "flip"),
        ("tie", 1.0, "tie"),
        ("drop", None, "drop"),
        ("unsure", 0.5, "unsure"),
    ],
)
def test_keep_and_flip_are_a_preference_held_against_the_label(choice, label, verdict):
    assert verdict_of(choice, label) == verdict
    if label in (0.0, 1.0):
        assert choice_of(verdict, label) == choice


@pytest.mark.parametrize("label", [None, 0.5])
def test_keep_needs_a_label_to_keep(label):
    with pytest.raises(InputError, match="needs a label that prefers an image"):
        choice_of("keep", label)


def test_a_saved_verdict_comes_back_with_everything_about_it(journal):
    entry = Entry("p", "c", "drop", "flip20", ("ugly", "text"), "a note", {"blind": True})
    [saved] = journal.record([entry])
    journal.close()
    [row] = Journal(journal.path).rows()
    assert row["verdict_id"] == saved["verdict_id"]
    assert (row["pair_id"], row["curator"], row["choice"]) == ("p", "c", "drop")
    assert (row["reasons"], row["note"], row["label_set"]) == (["ugly", "text"], "a note", "flip20")
    assert abs(row["time"] - datetime.now(UTC)) < timedelta(minutes=1)
    assert set(row) == set(VERDICTS.names)


def test_the_last_verdict_of_a_curator_counts(journal):
    journal.record([Entry("p", "c", "image_0")])
    journal.record([Entry("p", "c", "tie"), Entry("q", "c", "drop")])
    assert outcome(journal) == {"p": "tie", "q": "drop"}


def test_the_last_of_several_in_one_batch_counts(journal):
    journal.record([Entry("p", "c", "image_0"), Entry("p", "c", "image_1")])
    assert outcome(journal) == {"p": "image_1"}


def test_a_clock_that_was_set_back_does_not_undo_a_verdict(journal):
    journal.record([Entry("p", "c", "image_0")])
    journal.record([Entry("p", "c", "drop")])
    rows = journal.rows()
    rows[1]["time"] -= timedelta(hours=1)
    assert resolve_rows(rows).to_pylist()[0]["choice"] == "drop"


def test_undo_brings_back_what_stood_before(journal):
    journal.record([Entry("p", "c", "image_0")])
    journal.record([Entry("p", "c", "drop")])
    undone = journal.undo("c")
    assert undone is not None
    assert undone["choice"] == "drop"
    assert outcome(journal) == {"p": "image_0"}
    assert journal.undo("c")["choice"] == "image_0"
    assert outcome(journal) == {}
    assert journal.undo("c") is None


def test_undo_takes_back_the_curators_own_verdict_only(journal):
    journal.record([Entry("p", "c", "image_0")])
    journal.record([Entry("q", "d", "drop")])
    assert journal.undo("c")["pair_id"] == "p"
    assert outcome(journal) == {"q": "drop"}


def test_undo_then_judging_again_then_undo(journal):
    journal.record([Entry("p", "c", "drop")])
    journal.undo("c")
    journal.record([Entry("p", "c", "tie")])
    assert outcome(journal) == {"p": "tie"}
    journal.undo("c")
    assert outcome(journal) == {}


def test_undo_deletes_nothing(journal):
    journal.record([Entry("p", "c", "drop")])
    journal.undo("c")
    assert [row["choice"] for row in journal.rows()] == ["drop", "undo"]


@pytest.mark.parametrize(
    ("choices", "expected", "split"),
    [
        (["image_0"], "image_0", False),
        (["image_0", "image_0", "image_1"], "image_0", False),
        (["image_0", "image_1"], "unsure", True),
        (["image_0", "image_0", "image_1", "drop"], "unsure", True),
        (["image_0", "unsure"], "image_0", False),
        (["unsure", "unsure"], "unsure", False),
        (["drop", "drop", "unsure", "tie"], "drop", False),
    ],
)
def test_between_curators_the_majority_of_those_who_decided(journal, choices, expected, split):
    journal.record([Entry("p", f"curator {k}", choice) for k, choice in enumerate(choices)])
    [found] = resolve_rows(journal.rows()).to_pylist()
    assert (found["choice"], found["split"]) == (expected, split)
    assert found["curators"] == len(choices)


def test_a_split_ends_when_an_arbiter_decides(journal):
    journal.record([Entry("p", "a", "image_0"), Entry("p", "b", "image_1")])
    journal.record([Entry("p", "arbiter", "image_1")])
    assert outcome(journal) == {"p": "image_1"}


def test_the_verdict_named_by_an_outcome_agrees_with_it(journal):
    rows = journal.record(
        [Entry("p", c, v) for c, v in (("a", "tie"), ("b", "tie"), ("c", "drop"))]
    )
    [found] = resolve_rows(journal.rows()).to_pylist()
    assert found["verdict_id"] == rows[1]["verdict_id"]


def test_publishing_twice_writes_once(tmp_path, journal):
    store = create_store(tmp_path / "s")
    assert publish(store, journal) == 0
    journal.record([Entry("p", "c", "drop"), Entry("q", "c", "tie")])
    assert publish(store, journal) == 2
    assert publish(store, journal) == 0
    journal.record([Entry("p", "c", "unsure")])
    assert publish(store, journal) == 1
    files = parts(store.folder("verdicts"))
    assert [pq.read_metadata(file).num_rows for file in files] == [2, 1]
    assert resolve(store).to_pylist() == resolve_rows(journal.rows()).to_pylist()


def test_a_part_that_was_taken_out_is_published_again(tmp_path, journal):
    """Three parts, the middle one damaged: repaired, and whole again with the next publishing."""
    store = create_store(tmp_path / "s")
    for pair in ("p", "q", "r"):
        journal.record([Entry(pair, "c", "drop"), Entry(pair, "d", "tie")])
        assert publish(store, journal) == 2
    middle = parts(store.folder("verdicts"))[1]
    middle.write_bytes(middle.read_bytes()[:-30])
    with pytest.raises(StoreError, match=r"cannot be read .*; type `outvoted check .* --repair`"):
        resolve(store)
    repair(store, check_store(store))
    assert resolve(store)["pair_id"].to_pylist() == ["p", "r"]
    journal.record([Entry("s", "c", "drop")])
    assert publish(store, journal) == 3
    assert resolve(store)["pair_id"].to_pylist() == ["p", "q", "r", "s"]
    assert publish(store, journal) == 0
    whole = [row["verdict_id"] for row in journal.rows()]
    held = [v for file in parts(store.folder("verdicts")) for v in ids_of(file)]
    assert sorted(held) == sorted(whole)


def ids_of(file: Path) -> list[str]:
    return pq.read_table(file)["verdict_id"].to_pylist()


def test_parts_of_before_say_the_last_sequence_alone(tmp_path, journal):
    store = create_store(tmp_path / "s")
    for pair in ("p", "q"):
        journal.record([Entry(pair, "c", "drop")])
        publish(store, journal)
    for file in parts(store.folder("verdicts")):
        head, _, last = file.stem.rpartition("-")
        file.rename(file.with_name(f"{head.rpartition('-')[0]}-{last}.parquet"))
    assert publish(store, journal) == 0
    journal.record([Entry("r", "c", "drop")])
    assert publish(store, journal) == 1


def test_an_undo_after_publishing_reaches_the_store(tmp_path, journal):
    store = create_store(tmp_path / "s")
    journal.record([Entry("p", "c", "drop")])
    publish(store, journal)
    journal.undo("c")
    publish(store, journal)
    assert resolve(store).num_rows == 0


def test_rows_told_twice_do_no_harm(tmp_path, journal):
    store = create_store(tmp_path / "s")
    journal.record([Entry("p", "a", "drop"), Entry("p", "b", "tie"), Entry("p", "c", "tie")])
    publish(store, journal)
    for file in parts(store.folder("verdicts")):
        file.with_name("part-copy.parquet").write_bytes(file.read_bytes())
    assert resolve(store).to_pylist()[0]["choice"] == "tie"
    assert resolve(store).to_pylist()[0]["curators"] == 3


def test_journals_of_two_hosts_meet_in_the_store(tmp_path):
    store = create_store(tmp_path / "s")
    for name, choice in (("one", "drop"), ("two", "drop"), ("three", "tie")):
        journal = Journal(tmp_path / f"{name}.sqlite")
        journal.record([Entry("p", name, choice)])
        assert publish(store, journal) == 1
    [found] = resolve(store).to_pylist()
    assert (found["choice"], found["curators"]) == ("drop", 3)


def test_a_choice_that_does_not_exist_is_refused_and_the_batch_with_it(journal):
    with pytest.raises(InputError, match="'maybe' is no choice; allowed: image_0"):
        journal.record([Entry("p", "c", "drop"), Entry("q", "c", "maybe")])  # type: ignore[arg-type]
    assert journal.rows() == []
    journal.record([Entry("p", "c", "drop")])
    assert len(journal.rows()) == 1


def test_a_journal_that_cannot_be_opened_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"cannot be opened .*--journal"):
        Journal(tmp_path / "file" / "verdicts.sqlite")
    (tmp_path / "bad.sqlite").write_bytes(b"not a database, certainly not" * 50)
    with pytest.raises(StoreError, match=r"cannot be opened .*--journal"):
        Journal(tmp_path / "bad.sqlite")


CURATOR = """
import sys
from pathlib import Path
from toolkit.store.journal import Entry, Journal
journal = Journal(Path(sys.argv[1]))
for k in range(int(sys.argv[3])):
    journal.record([Entry(f"pair-{k}", sys.argv[2], "drop")])
    print(k, flush=True)
"""


def curator(path: Path, name: str, count: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CURATOR, str(path), name, str(count)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_judge_at_once_and_no_verdict_is_lost(tmp_path):
    path = tmp_path / "verdicts.sqlite"
    running = [curator(path, name, 40) for name in ("a", "b")]
    for process in running:
        process.communicate()
        assert process.returncode == 0
    rows = Journal(path).rows()
    assert sorted((r["curator"], r["pair_id"]) for r in rows) == sorted(
        (name, f"pair-{k}") for name in ("a", "b") for k in range(40)
    )
    assert len({row["journal"] for row in rows}) == 1


def test_what_was_said_to_be_saved_survives_sigkill(tmp_path):
    path = tmp_path / "verdicts.sqlite"
    process = curator(path, "a", 100_000)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(20)]
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    said += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    assert len(Journal(path).rows()) >= len(said) >= 20


def test_two_windows_never_take_back_one_verdict_twice(tmp_path):
    windows = [Journal(tmp_path / "verdicts.sqlite") for _ in range(2)]
    first, second = windows[0].record([Entry("p", "c", "tie"), Entry("q", "c", "drop")])
    undo = Entry("q", "c", "undo", undoes=second["verdict_id"])
    assert len(windows[0].record([undo])) == 1
    with pytest.raises(InputError, match=r"Another window took back that verdict.*undo again"):
        windows[1].record([undo])
    rest = Entry("p", "c", "undo", undoes=first["verdict_id"])
    assert [row["pair_id"] for row in windows[1].record([undo, rest])] == ["p"]  # of a batch
    assert outcome(windows[0]) == {}


def test_two_desks_publish_every_row_once(tmp_path):
    store = create_store(tmp_path / "s")
    journal = Journal(tmp_path / "verdicts.sqlite")
    start = threading.Barrier(2)

    def desk() -> None:
        own = Journal(journal.path)
        start.wait()
        for _ in range(20):
            publish(store, own)

    with ThreadPoolExecutor(2) as pool:
        desks = [pool.submit(desk) for _ in range(2)]
        for k in range(60):
            journal.record([Entry(f"p{k}", "c", "tie")])
        for each in desks:
            each.result()
    publish(store, journal)
    rows = [
        row for file in parts(store.folder("verdicts")) for row in pq.read_table(file).to_pylist()
    ]
    assert sorted(row["sequence"] for row in rows) == list(range(1, 61))


def test_a_disk_that_fails_while_it_writes_leaves_it_open_whether_a_verdict_was_saved(tmp_path):
    """The file may not grow any more, so the journal's last step fails, in a child process."""
    journal = Journal(tmp_path / "verdicts.sqlite")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            own = Journal(journal.path)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            size = journal.path.with_name("verdicts.sqlite-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            own.record([Entry("p", "c", "tie", note="x" * 100_000)])
        except StoreError as problem:
            os.write(writing, str(problem).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as said:
        assert "NOT KNOWN whether the verdict was saved" in said.read()
    assert outcome(Journal(journal.path)) == {}
