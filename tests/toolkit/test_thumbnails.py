"""Thumbnails of images by reference: drawn ahead, in shards, once each."""

import io

import pytest
from PIL import Image

from app.cli.main import registered
from tests.toolkit.pickapic_source import source_row, write_source
from tests.toolkit.stores import rows
from toolkit.ingest import ingest, new_images
from toolkit.ingest.new_images import make_thumbnails, without_thumbnail
from toolkit.schema import IMAGES
from toolkit.sharding import Shard
from toolkit.store import Store, create_store
from toolkit.store.integrity import check_store


def picture(side: int, shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side // 2), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def store(tmp_path) -> Store:
    """Six pairs by reference: images of 640 px, the first of 100, the second no image at all."""
    made = [
        source_row(2 * k, jpg_0=picture(640, 2 * k), jpg_1=picture(640, 2 * k + 1))
        for k in range(6)
    ]
    made[0] |= {"jpg_0": picture(100, 0), "jpg_1": b"no image"}
    store = create_store(tmp_path / "store")
    ingest(store, "pickapic", [write_source(tmp_path / "train.parquet", made)], images="reference")
    return store


def test_every_larger_image_gets_one_and_what_is_small_or_broken_is_counted(store):
    drawn = make_thumbnails(store)
    assert (drawn.made, drawn.small, drawn.unreadable.total()) == (10, 1, 1)
    found = {row["image_id"]: row for row in rows(store, "thumbnails")}
    assert len(found) == 10
    assert {(row["width"], row["height"]) for row in found.values()} == {(320, 160)}
    colour = Image.open(io.BytesIO(found["uid-00005"]["bytes"])).getpixel((9, 9))
    assert abs(colour[0] - 5) <= 3
    assert "unreadable 1: " in drawn.lines()[1]


def test_a_second_time_draws_nothing_again(store):
    make_thumbnails(store)
    assert make_thumbnails(store).made == 0
    assert len(rows(store, "thumbnails")) == 10
    assert check_store(store).faults == ()


def test_shards_draw_each_a_share_and_together_all(store, monkeypatch):
    monkeypatch.setattr(new_images, "UNIT", 2)
    shares = [without_thumbnail(store, Shard(index, 3)) for index in range(3)]
    dealt = sorted(name for share in shares for name in share)
    assert dealt == sorted(row["image_id"] for row in rows(store, "images"))
    assert [len(share) for share in shares] == [4, 4, 4]
    made = [make_thumbnails(store, shard=Shard(index, 3)).made for index in range(3)]
    assert sum(made) == len(rows(store, "thumbnails")) == 10


def test_what_another_drew_meanwhile_is_not_written_twice(store):
    class Overtaken:
        def line(self, text: str) -> None:
            raise AssertionError(text)

        def update(self, task: str, done: int, total: int | None = None, note: str = "") -> None:
            monkey = make_thumbnails(store)
            assert (task, done, total, note) == ("images", 12, 12, "")
            assert monkey.made == 0  # the first one's part came before its progress

    assert make_thumbnails(store, progress=Overtaken()).made == 10
    assert len(rows(store, "thumbnails")) == 10


def test_images_in_the_store_have_theirs_already(tmp_path):
    made = [source_row(0, jpg_0=picture(640, 1), jpg_1=picture(100, 2))]
    store = create_store(tmp_path / "store")
    ingest(store, "pickapic", [write_source(tmp_path / "train.parquet", made)])
    assert len(rows(store, "thumbnails")) == 1
    assert without_thumbnail(store) == []
    assert set(rows(store, "images")[0]) == set(IMAGES.names)


def test_the_command_says_which_shard_it_drew(store):
    from typer.testing import CliRunner

    told = CliRunner().invoke(registered(), ["thumbnails", str(store.root), "--shard", "0/1"])
    assert told.exit_code == 0
    assert told.output.startswith("shard 0/1 of the images:\nthumbnails 10, small enough without 1")
