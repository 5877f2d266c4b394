"""A killed ingest costs nothing but time: what is there is whole, and a rerun adds the rest."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.toolkit.pickapic_source import source_row, write_source
from toolkit.errors import StoreError
from toolkit.files.atomic import parts, write_part
from toolkit.ingest import SourceImage, SourceRow, ingest, ingest_rows, writer
from toolkit.store import Store, connect, create_store, open_store
from toolkit.store.connection import fetch
from toolkit.store.images import ImageReader

ROWS = 300

SLOW_INGEST = """
import sys, time
from toolkit.ingest import ingest, writer
from toolkit.store import open_or_create
import pyarrow.parquet as pq

write_table = pq.write_table
def slowly(table, stream, **options):  # a disk slow enough to be killed in the middle of a part
    write_table(table, stream, **options)
    stream.flush()
    time.sleep(0.15)
pq.write_table = slowly
writer.PART_ROWS = 20
ingest(open_or_create(sys.argv[2]), "pickapic", sys.argv[1])
"""


def killed_ingest(source: Path, store: Path, pair_parts: int) -> None:
    """Run an ingest in a process of its own; SIGKILL it while it writes a part."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_INGEST, str(source), str(store)], cwd=Path(__file__).parents[2]
    )
    for _ in range(3000):
        time.sleep(0.01)
        if len(parts(store / "pairs")) >= pair_parts and list(store.rglob(".*.unfinished")):
            break
        assert process.poll() is None, "the ingest ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def ids(store: Store, sql: str) -> list[str]:
    with connect(store) as con:
        return fetch(con, sql)[0].to_pylist()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "train.parquet", [source_row(k) for k in range(ROWS)])


def test_after_sigkill_every_pair_is_whole_and_a_rerun_completes(tmp_path, source):
    killed_ingest(source, tmp_path / "s", pair_parts=1)
    store = open_store(tmp_path / "s")
    assert store.unfinished(), "the kill should have left a part unfinished"
    there = ids(store, "SELECT pair_id FROM pairs")
    assert 0 < len(there) < ROWS
    reader = ImageReader(store)
    images = ids(store, "SELECT image_0 FROM pairs UNION ALL SELECT image_1 FROM pairs")
    assert all(image in reader for image in images)
    voted = ids(store, "SELECT pair_id FROM votes")
    assert set(there) <= set(voted)

    left = store.unfinished()
    summary = ingest(store, "pickapic", [source])
    assert (summary.duplicate, summary.kept) == (len(there), ROWS - len(there))
    for sql in (
        "SELECT pair_id FROM pairs",
        "SELECT pair_id FROM votes",
        "SELECT image_id FROM images",
    ):
        found = ids(store, sql)
        assert len(found) == len(set(found))
    assert len(ids(store, "SELECT pair_id FROM votes")) == ROWS
    assert store.unfinished() == left  # reported until somebody deletes them, and in nobody's way


def test_votes_and_images_written_before_the_kill_are_not_written_twice(tmp_path, source):
    whole = create_store(tmp_path / "whole")
    ingest(whole, "pickapic", [source])
    [pairs] = parts(whole.folder("pairs"))
    pairs.unlink()  # as if the kill had come right before the last part
    summary = ingest(whole, "pickapic", [source])
    assert (summary.kept, summary.images) == (ROWS, 0)
    assert len(ids(whole, "SELECT pair_id FROM votes")) == ROWS


def test_a_second_ingest_goes_on_beside_the_first(tmp_path, source):
    store = create_store(tmp_path / "s")

    def rows():
        assert ingest(store, "pickapic", [source]).kept == ROWS
        yield SourceRow("p", SourceImage("a"), SourceImage("b"), 1.0)

    assert ingest_rows(store, "test", rows()).kept == 1
    assert len(ids(store, "SELECT pair_id FROM pairs")) == ROWS + 1


def test_a_full_disk_is_one_sentence_and_leaves_the_store_whole(tmp_path, source, monkeypatch):
    store = create_store(tmp_path / "s")
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 6:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(writer, "PART_ROWS", 20)
    with pytest.raises(StoreError, match="No space left on device"):
        ingest(store, "pickapic", [source])
    monkeypatch.setattr(os, "fsync", real)
    reader = ImageReader(store)
    assert all(image in reader for image in ids(store, "SELECT image_0 FROM pairs"))
    ingest(store, "pickapic", [source])
    assert len(ids(store, "SELECT DISTINCT pair_id FROM pairs")) == ROWS
    assert len(ids(store, "SELECT pair_id FROM votes")) == ROWS


def test_columns_may_change_their_type_from_part_to_part(tmp_path):
    store = create_store(tmp_path / "s")
    for k, value in enumerate([1, 2.5, "three", None, [4]]):
        row = SourceRow(
            "p", SourceImage(f"a{k}"), SourceImage(f"b{k}"), 1.0, extra={"odd": value, "k": k}
        )
        ingest_rows(store, f"test{k}", [row])
    assert sorted(ids(store, "SELECT src_k FROM pairs")) == list(range(5))


def test_a_part_of_another_shape_still_reads(tmp_path):
    import pyarrow as pa

    store = create_store(tmp_path / "s")
    ingest_rows(store, "test", [SourceRow("p", SourceImage("a"), SourceImage("b"), 1.0)])
    extra = pa.table({"pair_id": ["x"], "comparison_id": ["y"], "prompt": ["q"], "src_new": [3]})
    write_part(store.folder("pairs"), extra)
    assert sorted(ids(store, "SELECT pair_id FROM pairs"))[-1] == "x"
