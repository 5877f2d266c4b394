"""Tar shards: mirrors of Pick-a-Pic, and our own export read back."""

import json

import pytest

from tests.factories import StoreFactory
from tests.toolkit.public_shapes import image_of, mirrored, shard
from tests.toolkit.stores import rows, snapshot
from toolkit.errors import InputError
from toolkit.export import export_set
from toolkit.image_files import content_hash
from toolkit.ingest import ingest, open_source
from toolkit.store import create_store

LABELS = [1.0, 0.0, 0.5, 1.0]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_mirror_of_pick_a_pic_comes_in_with_every_label(tmp_path, suffix):
    samples = {f"data/{k:05d}": mirrored(k, LABELS[k]) for k in range(4)}
    file = shard(tmp_path / "w" / f"train-00000{suffix}", samples)
    store = create_store(tmp_path / "s")
    assert ingest(store, "webdataset", file.parent).kept == 4
    for k, pair in enumerate(rows(store, "pairs")):
        assert (pair["prompt"], pair["label"]) == (f"a prompt\n{k} é", LABELS[k])
        assert pair["split"] == "train"
        assert pair["image_0"] == content_hash(image_of(k, 0))
        assert pair["image_1"] == content_hash(image_of(k, 1))
    before = snapshot(store)
    assert ingest(store, "webdataset", file).duplicate == 4
    assert snapshot(store) == before


def test_our_own_export_comes_back_as_it_was(tmp_path):
    first = StoreFactory(tmp_path)(pairs=12, run=False)
    export_set(first, tmp_path / "out", form="webdataset")
    store = create_store(tmp_path / "t")
    assert ingest(store, "webdataset", tmp_path / "out").kept > 0
    names = ("prompt", "image_0", "image_1", "label")
    known = {tuple(pair[name] for name in names) for pair in rows(first, "pairs")}
    found = {tuple(pair[name] for name in names) for pair in rows(store, "pairs")}
    assert found <= known
    assert len(found) == len(rows(store, "pairs"))


def test_members_are_columns_by_option_and_json_fields_are_too(tmp_path):
    made = {
        f"{k}": {
            "0.png": image_of(k, 0),
            "1.png": image_of(k, 1),
            "json": json.dumps({"text": f"p{k}", "won": word, "by": f"u{k}"}).encode(),
        }
        for k, word in enumerate(["left", "right"])
    }
    file = shard(tmp_path / "a.tar", made)
    store = create_store(tmp_path / "s")
    ingest(store, "webdataset", file, choice_column="won", annotator_column="by")
    assert [p["label"] for p in rows(store, "pairs")] == [1.0, 0.0]
    assert [v["annotator"] for v in rows(store, "votes")] == ["u0", "u1"]


def test_what_cannot_be_read_is_set_aside_and_the_rest_comes_in(tmp_path):
    samples = {f"{k}": mirrored(k, LABELS[k]) for k in range(4)}
    del samples["1"]["jpg_1.jpg"]
    samples["2"]["label_0.txt"] = b"\xff"
    file = shard(tmp_path / "a.tar", samples)
    store = create_store(tmp_path / "s")
    summary = ingest(store, "webdataset", file)
    assert (summary.kept, summary.quarantined) == (2, 2)
    assert sorted(summary.reasons) == ["a member cannot be read", "image_1: the image has no bytes"]
    parts = [ingest(store, "webdataset", file, shard=f"{i}/2").duplicate for i in (0, 1)]
    assert parts == [1, 1]


def test_a_file_that_is_no_tar_is_one_sentence(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"not a tar file at all" * 100)
    with pytest.raises(InputError, match="is no tar file, or cut short or damaged"):
        open_source("webdataset", tmp_path / "a.tar")
    with pytest.raises(InputError, match="does not exist; name a tar file"):
        open_source("webdataset", tmp_path / "b.tar")
    with pytest.raises(InputError, match="holds no tar file"):
        open_source("webdataset", shard(tmp_path / "d" / "x.txt", {}).parent)
