"""`outvoted check` names every planted fault, and a repair loses nothing."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from app.cli.main import registered
from tests.toolkit.pickapic_source import source_row, write_source
from tests.toolkit.stores import rows, snapshot
from toolkit.errors import StoreError
from toolkit.files.atomic import parts, unfinished_name, write_part
from toolkit.ingest import ingest
from toolkit.schema import VOTES, conform
from toolkit.store import FORMAT_VERSION, Store, create_store, open_store
from toolkit.store.integrity import check_store, repair
from toolkit.store.journal import Entry, Journal
from toolkit.store.label_sets import write_label_set
from toolkit.store.locks import adding
from toolkit.store.migrations import migrate
from toolkit.store.pseudonyms import store_key


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "train.parquet", [source_row(k) for k in range(40)])


@pytest.fixture
def store(tmp_path: Path, source: Path) -> Store:
    made = create_store(tmp_path / "s")
    ingest(made, "pickapic", [source])
    return made


def faults(store: Store) -> list[str]:
    return [fault.line() for fault in check_store(store).faults]


def test_a_store_that_was_used_is_whole(make_store):
    report = check_store(make_store(pairs=20, run=True))
    assert report.faults == ()
    assert (report.counts["pairs"], report.counts["images"], report.counts["runs"]) == (20, 40, 1)


def test_references_are_looked_up_and_a_source_that_moved_is_named(tmp_path, source):
    made = create_store(tmp_path / "r")
    ingest(made, "pickapic", [source], images="reference")
    assert faults(made) == []
    write_source(source, [source_row(k) for k in range(10)])
    [fault] = faults(made)
    assert "has 10 rows, and an image should be in row 39" in fault
    source.rename(tmp_path / "moved.parquet")
    [fault] = faults(made)
    assert f"60 images are in 1 files that no longer exist ({source})" in fault


@pytest.mark.parametrize("table", ["pairs", "votes", "images"])
def test_one_changed_bit_in_any_part_is_found(store, table):
    file = parts(store.folder(table))[0]
    column = pq.read_metadata(file).row_group(0).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data = bytearray(file.read_bytes())
    data[start + column.total_compressed_size // 2] ^= 1
    file.write_bytes(data)
    [fault] = faults(store)
    assert fault.startswith(f"{file} cannot be read")


def test_a_repair_moves_the_bad_part_aside_and_a_rerun_brings_its_rows_back(store, source):
    before = {pair["pair_id"] for pair in rows(store, "pairs")}
    file = parts(store.folder("pairs"))[0]
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    (file.parent / f".{file.name}.99999999.unfinished").write_bytes(b"half")
    moved = repair(store, check_store(store))
    assert [path.read_bytes() for path in moved if path.name == file.name] == [
        data[: len(data) // 2]
    ]
    assert len(moved) == 2
    assert all("aside" in path.parts for path in moved)
    ingest(store, "pickapic", [source])
    assert {pair["pair_id"] for pair in rows(store, "pairs")} == before
    assert faults(store) == []


def test_an_image_that_is_not_what_was_ingested_is_found(store):
    file = parts(store.folder("images"))[0]
    table = pq.read_table(file)
    other = pa.array([*table["bytes"].to_pylist()[1:], b"other"], pa.binary())
    place = table.schema.get_field_index("bytes")
    pq.write_table(table.set_column(place, table.schema.field(place), other), file)
    [fault] = faults(store)
    assert "image uid-00000 is not the bytes that were ingested" in fault
    assert check_store(store, bytes_too=False).faults == ()


def test_keys_that_lead_nowhere_and_doubles_are_named(store):
    pairs = pq.read_table(parts(store.folder("pairs"))[0])
    write_part(store.folder("pairs"), pairs.slice(0, 2))
    votes = pa.table({"pair_id": ["ghost"], "annotator": ["a"], "choice": [1.7]})
    write_part(store.folder("votes"), conform(votes, VOTES))
    write_label_set(store, "odd", pa.table({"pair_id": ["ghost"], "label": [1.0]}), {"kind": "t"})
    found = "\n".join(faults(store))
    assert "2 pair_ids occur twice in pairs" in found
    assert "votes name 1 pairs that the store does not have (ghost)" in found
    assert "1 votes are no number from 0 to 1 (ghost)" in found
    assert "label set odd names 1 pairs that the store does not have (ghost)" in found


def test_rows_of_a_run_that_are_there_twice_are_named(make_store):
    made = make_store(pairs=20, run=True)
    part = made.trajectory("r")[0]
    table = pq.read_table(part)
    write_part(part.parent, table.slice(0, 3))
    [fault] = faults(made)
    assert "the trajectory of run r has 3 rows twice (pair " in fault


def test_pairs_without_images_are_no_fault_but_a_note(tmp_path):
    bare = write_source(tmp_path / "b.parquet", [source_row(0)], drop=("jpg_0", "jpg_1"))
    made = create_store(tmp_path / "s")
    ingest(made, "pickapic", [bare])
    report = check_store(made)
    assert report.faults == ()
    assert report.notes[0].startswith("1 pairs have no images in the store")


def test_a_damaged_journal_is_named(store):
    store.folder("verdicts.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 4000)
    [fault] = faults(store)
    assert "the verdict journal" in fault


def test_the_command_says_what_is_wrong_and_ends_with_one(store):
    runner = CliRunner()
    result = runner.invoke(registered(), ["check", str(store.root)])
    assert (result.exit_code, "the store is whole" in result.output) == (0, True)
    parts(store.folder("votes"))[0].write_bytes(b"PAR1")
    result = runner.invoke(registered(), ["check", str(store.root)])
    assert result.exit_code == 1
    assert "wrong:" in result.output
    result = runner.invoke(registered(), ["check", str(store.root), "--repair"])
    assert (result.exit_code, "moved to" in result.output) == (0, True)


def old_store(root: Path) -> Path:
    """A store as format 1 left it: store.json has no store_id."""
    about = {"format": 1, "made": "2026-11-01T00:00:00+00:00"}
    (root / "store.json").write_text(json.dumps(about))
    return root


def test_an_older_store_is_refused_with_the_command_that_brings_it_up(store, tmp_path):
    before = rows(store, "pairs")
    root = old_store(store.root)
    with pytest.raises(StoreError, match=r"of format 1; .* Type `outvoted check .* --migrate`"):
        open_store(root)
    result = CliRunner().invoke(registered(), ["check", str(root), "--migrate"])
    assert "migrated to format 2" in result.output
    assert "migrated to format 4" in result.output
    about = json.loads((root / "store.json").read_text())
    assert (about["format"], about["made"]) == (FORMAT_VERSION, "2026-11-01T00:00:00+00:00")
    assert len(about["store_id"]) == 32
    assert rows(open_store(root), "pairs") == before
    assert migrate(root) == []
    assert tmp_path.exists()


def test_a_step_that_is_cut_off_leaves_the_store_as_it_was(store):
    root = old_store(store.root)
    before = snapshot(store)

    def fails(*_: object) -> dict:
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="as it was, of format 1"):
        migrate(root, steps={2: fails})
    assert snapshot(store) == before
    taken = []

    def third(_: Path, about: dict) -> dict:
        taken.append(about["format"])
        return {**about, "third": True}

    assert migrate(root, steps={2: lambda _, about: about, 3: third}, to=3) == [2, 3]
    assert taken == [2]
    with pytest.raises(StoreError, match="newer than 2"):
        migrate(root, to=2)


def test_aside_folders_of_two_repairs_do_not_clash(store):
    for _ in range(2):
        (store.folder("pairs") / ".x.99999999.unfinished").write_text("")
        assert len(repair(store, check_store(store))) == 1
        time.sleep(1.1)
    assert len(list(store.folder("aside").iterdir())) == 2


DOCUMENTS = {
    "runs/r/run.json": "runs/r/run.json is damaged",
    "runs/r/probes.json": "runs/r/probes.json is damaged",
    "runs/r/metrics/scalars.jsonl": "runs/r/metrics/scalars.jsonl is damaged in line 1",
    "labels/flip20.json": "labels/flip20.parquet was made by another recipe than its JSON names",
    "findings/r/detection.json": "findings/r/detection.json is damaged",
    "audits/a.json": "audits/a.json is damaged",
    "pseudonyms.key": "pseudonyms.key is damaged",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_document_that_was_cut_short_is_named(make_store, name):
    store = make_store(pairs=8, run=True)
    file = store.folder(name)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".key":
            store_key(store)
        else:
            file.write_text('{"step": 1, "loss": 0.5}\n' if file.suffix == ".jsonl" else "[]\n")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + b"\n" * (file.suffix == ".jsonl"))
    [fault] = faults(store)
    assert fault.startswith(str(store.folder(DOCUMENTS[name].split(" ")[0])))
    assert DOCUMENTS[name] in fault
    result = CliRunner().invoke(registered(), ["check", str(store.root)])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)


def test_what_lost_its_json_is_named(make_store):
    store = make_store(pairs=8, run=True)
    store.folder("labels", "flip20.json").unlink()
    store.run("r").joinpath("run.json").unlink()
    found = "\n".join(faults(store))
    assert "labels/flip20.parquet has no JSON beside it" in found
    assert "runs/r has rows and no run.json" in found


def test_running_writers_are_told_from_dead_ones_and_left_alone(store):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    mine, away = (
        unfinished_name(store.folder("pairs", "a")),
        store.folder(".x.1-00000000.unfinished"),
    )
    dead = mine.with_name(mine.name.replace(str(os.getpid()), str(child)))
    for file in (mine, away, dead):
        file.write_bytes(b"half")
    with adding(store, together=True):  # it writes votes before their pairs
        write_part(store.folder("votes"), orphan_vote())
        report = check_store(store)
        [fault] = report.faults
        assert fault.files == (dead,)
        assert "an ingest is writing" in report.notes[0]
        assert "1 files are being written by running processes" in report.notes[1]
        assert "1 unfinished files may be of processes on another machine" in report.notes[2]
        repair(store, report)
    assert (mine.exists(), away.exists(), dead.exists()) == (True, True, False)
    assert "votes name 1 pairs" in "\n".join(faults(store))  # now it was interrupted
    os.utime(away, (0, 0))
    assert away in [file for fault in check_store(store).faults for file in fault.files]


def orphan_vote() -> pa.Table:
    return conform(pa.table({"pair_id": ["ghost"], "annotator": ["a"], "choice": [1.0]}), VOTES)


def test_a_journal_on_a_disk_that_is_read_only_is_no_damage(store):
    judge = Journal(store.journal())
    judge.record([Entry("p", "c", "tie")])
    judge.close()
    code = (
        "from toolkit.store import open_store\n"
        "from toolkit.store.integrity import check_store\n"
        f"print([f.line() for f in check_store(open_store({str(store.root)!r})).faults])"
    )
    mounted = f"mount --bind {store.root} {store.root} && mount -o remount,ro,bind {store.root}"
    script = f'{mounted} || exit 77; exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, sys.executable, code],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no read-only mount can be made here ({done.stderr.strip()[:80]})")
    assert (done.returncode, done.stdout.strip()) == (0, "[]")
