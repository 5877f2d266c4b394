"""A store opens or says why not; parts are whole or absent, whoever writes them."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from tests.factories import png
from toolkit.errors import InputError, StoreError
from toolkit.files.atomic import parts, write_part, write_text_whole
from toolkit.ids import make_comparison_id, make_pair_id
from toolkit.image_files import decode
from toolkit.schema import PAIRS
from toolkit.store import FORMAT_VERSION, connect, create_store, open_or_create, open_store
from toolkit.store.connection import fetch
from toolkit.store.images import ImageReader, image_row, thumbnail_row, write_images
from toolkit.store.layout import described
from toolkit.store.runs import (
    findings_about,
    read_findings,
    run_about,
    start_run,
    update_run,
    write_findings,
)


def pair(k: int) -> dict:
    return {"pair_id": f"pair-{k}", "comparison_id": "c", "prompt": "p", "label": 1.0}


def test_a_new_store_opens_and_is_empty(tmp_path):
    create_store(tmp_path / "s")
    store = open_store(tmp_path / "s")
    with connect(store) as con:
        for table in ("pairs", "images", "thumbnails", "votes", "quarantine"):
            assert fetch(con, f"SELECT count(*) AS n FROM {table}").to_pylist() == [{"n": 0}]
    assert (store.runs(), store.unfinished()) == ([], [])


def test_a_store_is_not_made_where_one_lies(tmp_path):
    create_store(tmp_path)
    with pytest.raises(StoreError, match=r"is a store already; add to it .* without --new"):
        create_store(tmp_path)
    assert open_or_create(tmp_path).root == tmp_path


def test_a_store_is_not_made_over_foreign_files(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    for path in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(StoreError, match="exists and is not a store"):
            create_store(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"format": 99}', "is a store of format 99; this version of outvoted reads format 4"),
        ('{"format": "1"}', "is a store of format '1'"),
        ("{}", "is damaged"),
        ("[]", "is damaged"),
        ("", "is damaged"),
        ("\x00\x01", "is damaged"),
    ],
)
def test_a_foreign_version_or_a_damaged_description_is_refused(tmp_path, content, sentence):
    create_store(tmp_path)
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(StoreError) as caught:
        open_store(tmp_path)
    assert sentence in str(caught.value)


def test_no_store_and_no_folder_are_told_apart(tmp_path):
    with pytest.raises(StoreError, match=r"There is no store at .*`outvoted ingest"):
        open_store(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"is not a store \(it has no store.json\)"):
        open_store(tmp_path)


def test_the_version_is_written_down(tmp_path):
    create_store(tmp_path)
    assert json.loads((tmp_path / "store.json").read_text())["format"] == FORMAT_VERSION


@pytest.mark.parametrize("name", ["it's here", "a[b]c", "what?", "star*", 'say "so"', "ü ñ 画"])
def test_any_folder_name_will_do(tmp_path, name):
    store = create_store(tmp_path / name)
    write_part(store.folder("pairs"), pa.Table.from_pylist([pair(1)], schema=PAIRS))
    with connect(store) as con:
        assert fetch(con, "SELECT pair_id FROM pairs").to_pylist() == [{"pair_id": "pair-1"}]


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden", "x" * 101, "a b"])
def test_names_that_are_no_file_names_are_refused(tmp_path, name):
    store = create_store(tmp_path)
    with pytest.raises(InputError, match="cannot name a run"):
        store.run(name)


def test_half_a_part_is_ignored_and_reported(tmp_path):
    store = create_store(tmp_path)
    whole = write_part(store.folder("pairs"), pa.Table.from_pylist([pair(1)], schema=PAIRS))
    half = whole.with_name(f".{whole.name}.99999999.unfinished")
    half.write_bytes(whole.read_bytes()[:50])
    assert parts(store.folder("pairs")) == [whole]
    assert store.unfinished() == [half]
    with connect(store) as con:
        assert len(fetch(con, "SELECT * FROM pairs")) == 1


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_text_whole(tmp_path / "a.json", "old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_text_whole(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old"


WRITER = """
import sys
import pyarrow as pa
from pathlib import Path
from toolkit.schema import PAIRS
from toolkit.files.atomic import write_part
rows = [{"pair_id": f"{sys.argv[2]}-{k}", "comparison_id": "c", "prompt": "p"} for k in range(20)]
for start in range(0, 20, 2):
    table = pa.Table.from_pylist(rows[start:start + 2], schema=PAIRS)
    write_part(Path(sys.argv[1]) / "pairs", table)
"""


def test_two_processes_write_at_once_while_a_third_reads(tmp_path):
    store = create_store(tmp_path)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name], cwd=Path(__file__).parents[2]
        )
        for name in ("one", "two")
    ]
    seen = [0]
    while any(writer.poll() is None for writer in writers):
        with connect(store) as con:
            seen.append(fetch(con, "SELECT count(*) AS n FROM pairs")["n"][0].as_py())
        time.sleep(0.1)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen == sorted(seen)
    with connect(store) as con:
        assert fetch(con, "SELECT count(DISTINCT pair_id) AS n FROM pairs")["n"][0].as_py() == 40
    assert len(parts(store.folder("pairs"))) == 20
    assert store.unfinished() == []


def test_no_query_can_reach_for_an_extension(tmp_path):
    with connect(create_store(tmp_path)) as con, pytest.raises(duckdb.Error):
        con.execute("SELECT * FROM read_json('https://example.invalid/x.json')")


def test_a_pair_id_depends_on_every_part_and_on_their_order():
    base = make_pair_id("s", "p", "a", "b", "1")
    assert base == make_pair_id("s", "p", "a", "b", "1")
    others = [
        make_pair_id("t", "p", "a", "b", "1"),
        make_pair_id("s", "q", "a", "b", "1"),
        make_pair_id("s", "p", "b", "a", "1"),
        make_pair_id("s", "p", "a", "b", "2"),
        make_pair_id("s", "p", "a", "b"),
    ]
    assert len({base, *others}) == 6
    assert len(base) == 12


def test_a_comparison_id_does_not_depend_on_the_order_of_the_images():
    assert make_comparison_id("p", "a", "b") == make_comparison_id("p", "b", "a")
    assert make_comparison_id("p", "a", "b") != make_comparison_id("q", "a", "b")


def test_images_are_read_back_byte_for_byte_from_many_parts(tmp_path):
    store = create_store(tmp_path)
    pictures = {f"id-{k:03d}": png((k, 0, 0)) for k in range(230)}
    names = sorted(pictures, key=lambda name: pictures[name][-20:])
    for start in (0, 115):
        rows = [image_row(n, pictures[n], decode(pictures[n])) for n in names[start : start + 115]]
        write_images(store, rows)
    reader = ImageReader(store)
    assert all(reader.read(name) == data for name, data in pictures.items())
    assert "id-999" not in reader
    assert "id-00" not in reader
    with pytest.raises(InputError, match="the store has no image id-999"):
        reader.read("id-999")


def test_a_reader_of_an_empty_store_has_nothing(tmp_path):
    assert "x" not in ImageReader(create_store(tmp_path))


def test_a_reference_whose_source_is_gone_says_so(tmp_path):
    store = create_store(tmp_path / "s")
    write_images(store, [{"image_id": "a", "ref_file": str(tmp_path / "gone.png")}])
    with pytest.raises(InputError, match=r"gone.png, which can no longer be read"):
        ImageReader(store).read("a")


@pytest.mark.parametrize("address", ["http://10.0.0.1/a.png", "HTTPS://x/y", "ftp://x/y"])
def test_a_store_cannot_make_its_reader_fetch_web_addresses(tmp_path, address):
    store = create_store(tmp_path / "s")
    write_images(store, [{"image_id": "a", "ref_file": address}])
    with pytest.raises(InputError, match="not fetched"):
        ImageReader(store).read("a")


def test_thumbnail_rows_know_their_size():
    data = png((1, 2, 3), side=640)
    row = thumbnail_row("a", decode(data))
    assert row is not None
    assert (row["width"], row["height"]) == (320, 320)
    assert thumbnail_row("b", decode(png((1, 2, 3)))) is None


def test_a_run_name_is_taken_once_and_its_facts_grow(tmp_path):
    store = create_store(tmp_path)
    start_run(store, "r", {"models": ["policy"], "labels": "original"}, "a: 1\n")
    with pytest.raises(StoreError, match="has a run 'r' already"):
        start_run(store, "r", {}, "")
    update_run(store, "r", finished=True)
    assert run_about(store, "r")["finished"] is True
    assert run_about(store, "r")["models"] == ["policy"]
    assert store.runs() == ["r"]
    with pytest.raises(StoreError, match=r"has no run 'q' \(runs: r\)"):
        run_about(store, "q")


def test_several_processes_make_one_store_at_once(tmp_path):
    for attempt in range(25):
        root, reading = tmp_path / str(attempt), []
        start = multiprocessing.get_context("fork").Barrier(4)
        for _ in range(4):
            read, write = os.pipe()
            if not os.fork():
                try:
                    start.wait()
                    made = open_or_create(root)
                    (made.root / f"part-{os.getpid()}").touch()  # as an ingest that is first
                    os.write(write, described(made.root)["store_id"].encode())
                finally:
                    os._exit(0)
            os.close(write)
            reading.append(read)
        ids = {os.fdopen(read).read() for read in reading}
        assert ids == {described(root)["store_id"]}
        for _ in reading:
            os.wait()
        assert open_or_create(root).unfinished() == []


def test_a_kill_while_a_store_is_made_leaves_a_folder_that_is_accepted(tmp_path):
    (tmp_path / ".store.json.99999999.unfinished").write_text("{")
    open_or_create(tmp_path)
    assert create_store(tmp_path / "new").root.is_dir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(StoreError, match="exists and is not a store"):
        open_or_create(tmp_path / "other")


def test_findings_come_back_with_how_they_were_made(tmp_path):
    store = create_store(tmp_path)
    table = pa.table({"pair_id": ["a"], "minority": [0.5]})
    write_findings(store, "r", "minority", table, {"labels": "original"})
    assert read_findings(store, "r", "minority").equals(table)
    assert findings_about(store, "r", "minority") == {"labels": "original"}
    # Killed between the two files: the table says what it is of, whatever the JSON beside it says.
    (store.findings("r") / "minority.json").write_text('{"labels": "another"}')
    assert findings_about(store, "r", "minority") == {"labels": "original"}
    with pytest.raises(StoreError, match=r"no finding 'loss' \(findings: minority\); `outvoted an"):
        read_findings(store, "r", "loss")


def test_a_connection_can_be_given_verdicts_a_run_and_its_findings(make_store, tmp_path):
    from toolkit.store.connection import add_run, add_verdicts
    from toolkit.store.journal import Entry, Journal
    from toolkit.store.verdicts import publish

    store = make_store(pairs=6, run=True)
    with connect(store) as con:
        [(first,)] = con.execute("SELECT min(pair_id) FROM pairs").fetchall()
    table = pa.table({"pair_id": [first], "minority": [0.5]})
    write_findings(store, "r", "minority", table, {"labels": "flip20"})
    journal = Journal(tmp_path / "v.sqlite")
    journal.record([Entry(first, "ada", "drop"), Entry(first, "ada", "tie")])
    publish(store, journal)
    with connect(store) as con:
        add_verdicts(con, store)
        add_run(con, store, "r")
        sql = (
            "SELECT v.choice, f.minority, count(*) FROM verdicts v JOIN trajectory t"
            " USING (pair_id) JOIN finding_minority f USING (pair_id) GROUP BY ALL"
        )
        assert con.execute(sql).fetchall() == [("tie", 0.5, 6)]
        with pytest.raises(StoreError, match="no run 'other'"):
            add_run(con, store, "other")
