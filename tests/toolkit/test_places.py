"""A store whose parts lie in an object store is a store: the same words, the same rows.

Twice each: in fsspec's own object store in memory, and (`make test-s3`) in a local S3 server.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFile

import training
from app.cli.main import main
from tests.factories import StoreFactory
from tests.toolkit.objects import KEYS, Line, free_port, s3_server
from tests.toolkit.pickapic_source import source_row, write_source
from toolkit.errors import InputError, StoreError, Unreachable
from toolkit.export import FORMATS, Policy, export_set
from toolkit.files.remote import _named, _Stream, must_be_local, place
from toolkit.ingest import ingest
from toolkit.store import create_store, open_or_create, open_store
from toolkit.store.connection import connect, effective_labels, fetch
from toolkit.store.images import ImageReader
from toolkit.store.integrity import check_store, repair
from toolkit.store.journal import Entry, Journal
from toolkit.store.label_sets import label_sets
from toolkit.store.locks import adding, first_at
from toolkit.store.runs import read_findings, start_run, write_findings
from toolkit.store.trajectory import read_trajectory, trajectory_parts
from toolkit.store.verdicts import publish, resolve


@pytest.fixture(scope="session")
def line(tmp_path_factory):
    """The line to a bucket on a local server; its address and the keys are in the environment."""
    patch = pytest.MonkeyPatch()
    with s3_server(tmp_path_factory.mktemp("s3") / "moto.log") as address:
        line = Line(int(address.rsplit(":", 1)[1]))
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": line.address}.items():
            patch.setenv(name, value)
        from pyarrow.fs import S3FileSystem

        S3FileSystem(endpoint_override=address, allow_bucket_creation=True).create_dir("outvoted")
        yield line
    patch.undo()


@pytest.fixture
def s3(line):
    line.whole()
    return "s3://outvoted"


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.s3)])
def far(request) -> Path:
    """A new place in an object store."""
    bucket = "memory://outvoted"
    if request.param == "s3":
        bucket = request.getfixturevalue("s3")
    return place(f"{bucket}/{uuid.uuid4().hex}")


def test_a_store_is_made_opened_and_refused_where_one_lies(far):
    made = create_store(str(far))
    assert str(open_store(str(far)).root) == str(made.root) == str(far)
    assert open_or_create(str(far)).runs() == []
    with pytest.raises(StoreError, match="is a store already"):
        create_store(str(far))
    with pytest.raises(StoreError, match="There is no store at"):
        open_store(str(far / "elsewhere"))


def test_a_source_comes_in_once_and_goes_out_with_its_images_and_labels(far, tmp_path):
    rows = [source_row(k) for k in (0, 1, 3, 4)]
    source = write_source(tmp_path / "train.parquet", rows)
    store = create_store(str(far))
    first = ingest(store, "pickapic", [source])
    again = ingest(open_store(str(far)), "pickapic", [source])
    assert (first.kept, first.images, again.kept, again.duplicate) == (4, 7, 0, 4)

    reader = ImageReader(store)
    assert reader.read(rows[2]["image_0_uid"]) == rows[2]["jpg_0"]
    export_set(store, tmp_path / "out", Policy(), FORMATS["pickapic"])
    left = pq.read_table(next((tmp_path / "out").glob("**/*.parquet"))).to_pylist()
    assert {row["ranking_id"]: (row["label_0"], row["jpg_0"]) for row in left} == {
        row["ranking_id"]: (row["label_0"], row["jpg_0"]) for row in rows
    }
    record = json.loads((tmp_path / "out" / "curation.json").read_text())
    assert all(name.startswith(("pairs/", "votes/")) for name in record["inputs"]["files"])


def test_a_source_may_lie_there_too_by_copy_and_by_reference(far, tmp_path):
    rows = [source_row(k) for k in range(3)]
    source = write_source(tmp_path / "train.parquet", rows)
    there = far / "source" / "train.parquet"
    there.write_bytes(Path(source).read_bytes())
    store = create_store(tmp_path / "store")
    kept = ingest(store, "pickapic", [str(far / "source")], images="reference")
    assert kept.kept == 3
    assert ImageReader(store).read(rows[2]["image_1_uid"]) == rows[2]["jpg_1"]


def test_runs_labels_findings_and_verdicts_live_there_and_the_journal_here(far, tmp_path):
    store = StoreFactory(far)(pairs=12, run=True, visits=2)
    assert label_sets(store) == ["original", "flip20"]
    labels = effective_labels(store, "flip20")
    both = (labels[name].to_pylist() for name in ("label", "original_label"))
    assert sum(a != b for a, b in zip(*both, strict=True)) == 2

    assert sum(part.rows for part in trajectory_parts(store, "r")) == 24
    seen = read_trajectory(store, "r", ["visit", "loss"], label_set="flip20")
    assert sorted(seen["visit"].to_pylist()) == [0] * 12 + [1] * 12

    finding = labels.select(["pair_id"]).append_column("minority", labels["label"])
    write_findings(store, "r", "minority", finding, {"labels": "flip20"})
    assert read_findings(store, "r", "minority").equals(finding)

    pair = labels["pair_id"][0].as_py()
    journal = Journal(tmp_path / "verdicts.sqlite")
    journal.record([Entry(pair, "ann", "drop")])
    assert publish(store, journal) == 1
    assert publish(store, journal) == 0
    assert resolve(open_store(str(store.root))).to_pylist()[0]["choice"] == "drop"


def test_check_names_a_part_that_was_cut_short_and_repair_moves_it_aside(far):
    store = StoreFactory(far)(pairs=8)
    assert check_store(store).faults == ()
    [part] = store.folder("votes").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    report = check_store(store)
    assert [fault.files for fault in report.faults] == [(part,)]
    [moved] = repair(store, report)
    assert moved.exists()
    assert "aside" in str(moved)
    assert check_store(store).counts["votes"] == 0


def test_two_ingests_at_once_are_refused_and_a_killed_ones_marker_is_named(far):
    store = create_store(str(far))
    with adding(store), pytest.raises(StoreError, match="since 20"), adding(store):
        pass
    with adding(store):  # both markers are gone
        assert len(list(store.folder(".ingest").glob("*"))) == 1


def test_of_those_at_one_thing_the_first_is_told_so_here_and_nobody_there(far, tmp_path):
    here = create_store(tmp_path / "here")
    for store, told in ((here, [True, False, False]), (create_store(str(far)), [False] * 3)):
        with first_at(store, "x") as one, first_at(store, "x") as two, first_at(store, "x") as tri:
            assert [one, two, tri] == told


def test_pseudonyms_are_the_same_for_every_reader_of_the_store(far):
    from toolkit.store.pseudonyms import renamer

    store = create_store(str(far))
    assert renamer(store)("ann") == renamer(open_store(str(far)))("ann")


def test_an_address_that_nobody_serves_is_a_sentence():
    with pytest.raises(InputError, match=r"nothing://x/y cannot be reached.*name a local path"):
        place("nothing://x/y")


def test_a_local_path_stays_pathlibs_own(tmp_path):
    assert type(place(str(tmp_path))) is type(tmp_path)
    assert place(tmp_path) is tmp_path


def test_the_journal_of_a_store_that_lies_elsewhere_is_in_the_state_folder(
    far, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    store = create_store(str(far))
    told = json.loads((far / "store.json").read_text())["store_id"]
    assert store.journal() == tmp_path / "outvoted" / told / "verdicts.sqlite"
    assert create_store(tmp_path / "here").journal() == tmp_path / "here" / "verdicts.sqlite"


def test_what_must_be_local_says_so_and_what_to_do(far, tmp_path):
    store = StoreFactory(far)(pairs=4)
    with pytest.raises(InputError, match="is no folder of this machine; export to one"):
        export_set(store, str(far / "out"), Policy(images=False), FORMATS["pickapic"])
    with pytest.raises(InputError, match="training, with its checkpoints and caches, needs one"):
        must_be_local(store.root, "training, with its checkpoints and caches, needs")
    assert must_be_local(tmp_path, "training needs") == tmp_path


LOST = r"outvoted: s3://outvoted/\S+ cannot be reached \(AWS Error NETWORK_CONNECTION during \w+ .*"


def typed(monkeypatch, capsys, *words: object) -> tuple[int, str, str]:
    """What `outvoted WORDS` ends with and says, on stdout and on stderr."""
    monkeypatch.setattr(sys, "argv", ["outvoted", *map(str, words)])
    status: int | str | None = 0
    try:
        main()
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr()
    return int(status or 0), said.out, said.err


@pytest.mark.s3
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_line_that_is_cut_while_a_store_is_read_is_one_sentence_and_no_answer(
    s3, line, tmp_path, monkeypatch, capsys, share
):
    source = write_source(tmp_path / "train.parquet", [source_row(k) for k in range(6)])
    url = f"{s3}/{uuid.uuid4().hex}"
    ingest(create_store(url), "pickapic", [source])
    for words in (("check", url), ("export", url, "--out", tmp_path / "out")):
        line.whole()
        assert typed(monkeypatch, capsys, *words)[0] == 0
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        line.cut_after(int(line.carried * share))
        status, _, err = typed(monkeypatch, capsys, *words)
        assert status == 1
        assert re.fullmatch(LOST, err.strip())
        assert err.strip().endswith("run the same command again.")
        assert not (tmp_path / "out").exists()


@pytest.mark.s3
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_an_ingest_whose_line_is_cut_leaves_whole_parts_and_is_completed_by_the_next(
    s3, line, tmp_path, monkeypatch, capsys, share
):
    source = write_source(tmp_path / "train.parquet", [source_row(k) for k in range(40)])
    line.whole()
    whole = f"{s3}/{uuid.uuid4().hex}"
    assert typed(monkeypatch, capsys, "ingest", "pickapic", source, "--store", whole)[0] == 0
    line.cut_after(int(line.carried * share))
    url = f"{s3}/{uuid.uuid4().hex}"
    words = ("ingest", "pickapic", source, "--store", url)
    status, _, err = typed(monkeypatch, capsys, *words)
    assert (status, re.fullmatch(LOST, err.strip()) is not None) == (1, True)
    line.whole()
    for marker in (place(url) / ".ingest").glob("turn-*.json"):  # as the next one's sentence says
        marker.unlink()
    assert typed(monkeypatch, capsys, *words)[0] == 0
    report = check_store(open_store(url))
    assert (report.faults, report.counts["pairs"]) == ((), 40)
    assert report.counts == check_store(open_store(whole)).counts


@pytest.mark.s3
def test_images_that_cannot_be_had_for_a_cut_line_are_not_called_broken(
    s3, line, tmp_path, monkeypatch, capsys
):
    source = write_source(tmp_path / "train.parquet", [source_row(k) for k in range(6)])
    there = f"{s3}/{uuid.uuid4().hex}/train.parquet"
    place(there).write_bytes(source.read_bytes())
    words = ("ingest", "pickapic", there, "--store")
    line.whole()
    assert typed(monkeypatch, capsys, *words, tmp_path / "whole")[0] == 0
    line.cut_after(line.carried - 1)
    status, _, err = typed(monkeypatch, capsys, *words, tmp_path / "s")
    assert (status, re.fullmatch(LOST, err.strip()) is not None) == (1, True)
    assert check_store(open_store(tmp_path / "s")).counts["quarantine"] == 0
    line.whole()
    assert typed(monkeypatch, capsys, *words, tmp_path / "s")[0] == 0
    assert check_store(open_store(tmp_path / "s")).counts["pairs"] == 6


def test_a_server_that_is_not_there_is_one_sentence_without_a_traceback():
    command = Path(sys.executable).with_name("outvoted")
    nobody = {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    done = subprocess.run(
        [command, "check", "s3://outvoted/s"], env=os.environ | nobody, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(LOST, done.stderr.strip())


def asked(act):
    """What comes of an act on an s3:// object that fails as `act` does."""
    with pytest.raises((OSError, Unreachable)) as caught:
        _named(act, "s3://b/k")()
    return type(caught.value)


def test_a_file_asked_for_what_it_cannot_do_is_a_mistake_and_no_lost_connection(tmp_path):
    def lost():
        raise OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7")

    def unsupported():
        with (tmp_path / "f").open("w") as written:
            written.read()

    assert asked(lost) is Unreachable
    assert asked(unsupported) is io.UnsupportedOperation
    with pytest.raises(OSError, match="only valid on writable files"):
        _Stream(pa.BufferReader(b"x"), "s3://b/k").write(b"y")
    with pytest.raises(OSError, match="only valid on readable files"):
        _Stream(pa.BufferOutputStream(), "s3://b/k").read()


@pytest.mark.parametrize(
    ("problem", "comes_out"),
    [
        (io.UnsupportedOperation("not readable"), duckdb.Error),
        (OSError("AWS Error NETWORK_CONNECTION during GetObject operation"), Unreachable),
    ],
)
def test_a_query_tells_a_lost_connection_from_a_mistake(monkeypatch, problem, comes_out):
    store = StoreFactory(place(f"memory://outvoted/{uuid.uuid4().hex}"))(pairs=4)

    def fails(*_):
        raise problem

    with connect(store) as con:
        read = _named(fails, "s3://b/k")
        monkeypatch.setattr(MemoryFile, "read", lambda *_: read())
        with pytest.raises((duckdb.Error, Unreachable), match=str(problem)) as caught:
            fetch(con, "SELECT prompt FROM pairs")
    assert (caught.type is Unreachable) == (comes_out is Unreachable)
    assert issubclass(caught.type, comes_out)


RECIPE = Path(training.__file__).parent / "recipes" / "miniworld.yaml"


@pytest.mark.parametrize(
    "words",
    [
        ("train", RECIPE, "--store", "STORE"),
        ("plan", RECIPE, "--store", "STORE"),
        ("cache", RECIPE, "--store", "STORE"),
        ("resume", "STORE", "--run", "r"),
        ("probe", "STORE", "--run", "r"),
        ("detect", "STORE", "--recipe", RECIPE),
    ],
    ids=lambda words: words[0],
)
def test_training_on_a_store_that_lies_elsewhere_is_refused_in_one_sentence(
    monkeypatch, capsys, words
):
    store = StoreFactory(place(f"memory://outvoted/{uuid.uuid4().hex}"))(pairs=4)
    start_run(store, "r", {"models": ["policy"], "labels": "original"}, RECIPE.read_text())
    named = [store.root if word == "STORE" else word for word in words]
    status, out, err = typed(monkeypatch, capsys, *named)
    assert (status, out) == (1, "")
    assert err.startswith(f"outvoted: {store.root} is not a folder on this machine, and training")
    assert err.strip().endswith("copy the store here first, and name the copy.")
    assert (store.runs(), label_sets(store)) == (["r"], ["original"])
