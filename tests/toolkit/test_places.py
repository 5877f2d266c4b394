"""A store whose parts lie in an object store is a store: the same words, the same rows.

Twice each: in fsspec's own object store in memory, and (`make test-s3`) in a local S3 server.
"""

import json
import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.factories import StoreFactory
from tests.toolkit.objects import KEYS, s3_server
from tests.toolkit.pickapic_source import source_row, write_source
from toolkit.errors import InputError, StoreError
from toolkit.export import FORMATS, Policy, export_set
from toolkit.ingest import ingest_pickapic, open_pickapic
from toolkit.places import must_be_local, place
from toolkit.store import create_store, open_or_create, open_store
from toolkit.store.check import check_store, repair
from toolkit.store.images import ImageReader
from toolkit.store.labels import label_sets
from toolkit.store.locks import adding
from toolkit.store.query import effective_labels
from toolkit.store.runs import read_findings, write_findings
from toolkit.store.trajectories import read_trajectory, trajectory_parts
from toolkit.store.verdicts import Entry, Journal, publish, resolve


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A bucket on a local server; the address and keys are in the environment."""
    patch = pytest.MonkeyPatch()
    with s3_server(tmp_path_factory.mktemp("s3") / "moto.log") as address:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": address}.items():
            patch.setenv(name, value)
        from pyarrow.fs import S3FileSystem

        S3FileSystem(endpoint_override=address, allow_bucket_creation=True).create_dir("outvoted")
        yield "s3://outvoted"
    patch.undo()


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
    first = ingest_pickapic(store, open_pickapic([source]))
    again = ingest_pickapic(open_store(str(far)), open_pickapic([source]))
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
    kept = ingest_pickapic(store, open_pickapic([str(far / "source")]), images="reference")
    assert kept.kept == 3
    assert ImageReader(store).read(rows[2]["image_1_uid"]) == rows[2]["jpg_1"]


def test_runs_labels_findings_and_verdicts_live_there_and_the_journal_here(far, tmp_path):
    store = StoreFactory(far)(pairs=12, run=True, visits=2)
    assert label_sets(store) == ["original", "flip20"]
    labels = effective_labels(store, "flip20")
    assert (
        sum(a != b for a, b in zip(labels[1].to_pylist(), labels[2].to_pylist(), strict=True)) == 2
    )

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
