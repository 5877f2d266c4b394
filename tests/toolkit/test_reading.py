"""Images are read from large row groups page by page, and in stored order once."""

import random

import numpy as np
import pytest

from tests.toolkit.pickapic_source import source_row, write_source
from toolkit.ingest import ingest
from toolkit.store import Store, create_store
from toolkit.store import images as module
from toolkit.store.images import ImageReader, write_images

PAIRS = 30


@pytest.fixture(scope="module")
def sides() -> list[dict]:
    """Rows with noise in place of images: 2 kB each, 60 kB a column."""
    noise = np.random.default_rng(0)
    return [
        source_row(2 * k, jpg_0=noise.bytes(2000), jpg_1=noise.bytes(2000)) for k in range(PAIRS)
    ]


@pytest.fixture
def store(tmp_path, sides) -> Store:
    """Pairs by reference to one file of one row group, and one image of the store's own."""
    source = write_source(tmp_path / "train.parquet", sides, row_group=PAIRS)
    store = create_store(tmp_path / "store")
    ingest(store, "pickapic", [source], images="reference")
    write_images(store, [{"image_id": "own", "bytes": b"mine"}])
    return store


@pytest.fixture
def bytes_of(sides) -> dict[str, bytes]:
    return {row[f"image_{k}_uid"]: row[f"jpg_{k}"] for row in sides for k in (0, 1)}


@pytest.fixture
def passes(monkeypatch) -> list[str]:
    """Row groups are large and batches small; the columns that were read from their start."""
    monkeypatch.setattr(module, "STREAMED_BYTES", 40_000)
    monkeypatch.setattr(module, "_BATCH_BYTES", 10_000)
    read: list[str] = []

    class Counted(module._Stream):
        def __init__(self, path, group, columns):
            read.append("".join(columns))
            super().__init__(path, group, columns)

    monkeypatch.setattr(module, "_Stream", Counted)
    return read


def test_stored_order_is_by_file_column_and_row_and_absent_images_come_last(store, sides):
    reader = ImageReader(store)
    names = [row[f"image_{k}_uid"] for row in sides for k in (0, 1)]
    mixed = ["absent", "own", *names]
    random.Random(0).shuffle(mixed)
    by_column = [row[f"image_{k}_uid"] for k in (0, 1) for row in sides]
    assert reader.in_stored_order(mixed) == [*by_column, "own", "absent"]
    assert reader.in_stored_order([]) == []


def test_a_large_row_group_is_read_once_in_stored_order(store, bytes_of, passes):
    reader = ImageReader(store)
    for name in reader.in_stored_order(list(bytes_of)):
        assert reader.read(name) == bytes_of[name]
    assert passes == ["jpg_0", "jpg_1"]


def test_any_order_reads_the_same_bytes(store, bytes_of, passes):
    reader = ImageReader(store)
    names = list(bytes_of)
    random.Random(1).shuffle(names)
    assert {name: reader.read(name) for name in names} == bytes_of
    assert len(passes) > 4


def test_pairs_in_the_order_of_their_rows_need_one_pass_a_column(store, sides, bytes_of, passes):
    reader = ImageReader(store)
    for row in sides:
        for k in (0, 1):
            name = row[f"image_{k}_uid"]
            assert reader.read(name) == bytes_of[name]
    assert sorted(passes) == ["jpg_0", "jpg_1"]


@pytest.mark.usefixtures("passes")
def test_the_file_that_is_read_page_by_page_is_named(store, bytes_of):
    reader = ImageReader(store)
    assert reader.reads_page_by_page(list(bytes_of)).name == "train.parquet"
    assert reader.reads_page_by_page(["own", "absent"]) is None
    module.STREAMED_BYTES = 10**9
    assert ImageReader(store).reads_page_by_page(list(bytes_of)) is None


def test_kept_row_groups_are_limited_in_bytes(store, bytes_of, monkeypatch):
    monkeypatch.setattr(module, "_KEPT_BYTES", 1)
    reader = ImageReader(store)
    assert {name: reader.read(name) for name in bytes_of} == bytes_of
    assert len(reader._cells._groups) == 1
