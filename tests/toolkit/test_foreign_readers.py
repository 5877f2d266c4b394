"""Other people's readers read our exports unchanged, and we read what they write."""

import io
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.toolkit.pickapic_source import SCHEMA, picture, source_row, write_source
from tests.toolkit.stores import rows
from toolkit.export import FORMATS, Policy, export_set
from toolkit.ingest import ingest
from toolkit.store import Store, create_store

ROWS = 12
LABELS = [(1.0, 0.0, 0.5)[k % 3] for k in range(ROWS)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    path = write_source(tmp_path / "train.parquet", [source_row(k) for k in range(ROWS)])
    made = create_store(tmp_path / "store")
    ingest(made, "pickapic", [path])
    return made


def test_the_public_diffusers_scripts_column_use_gives_the_labelled_winner_first(tmp_path, store):
    """Its preprocessing takes caption, jpg_0, jpg_1 and label_0, and swaps where label_0 is 0.

    A tie would stay unswapped, "image 0 wins": so none may be in the set.
    """
    export_set(store, tmp_path / "out", Policy(), FORMATS["pickapic"])
    table = pq.read_table(
        tmp_path / "out" / "data", columns=["caption", "jpg_0", "jpg_1", "label_0"]
    )
    seen = []
    for row in table.to_pylist():
        assert row["label_0"] in (0, 1)
        sides = [Image.open(io.BytesIO(row[name])).convert("RGB") for name in ("jpg_0", "jpg_1")]
        if not row["label_0"]:
            sides.reverse()
        seen.append((row["caption"], *(side.getpixel((0, 0)) for side in sides)))
    expected = []
    for k in (k for k in range(ROWS) if LABELS[k] != 0.5):
        row = source_row(k)
        winner, loser = (0, 1) if LABELS[k] else (1, 0)
        colours = [
            Image.open(io.BytesIO(picture(row[f"image_{slot}_uid"]))).getpixel((0, 0))
            for slot in (winner, loser)
        ]
        expected.append((row["caption"], *colours))
    assert seen == expected


def test_the_diffusion_dpo_trainers_column_use_finds_its_rows(tmp_path, store):
    """It leaves out rows whose label_0 is neither 0 nor 1, and picks the winner by label_0."""
    everything = Policy(keep_ties=True, keep_unlabelled=True)
    export_set(store, tmp_path / "out", everything, FORMATS["pickapic"])
    table = pq.read_table(tmp_path / "out" / "data")
    decided = [r for r in table.to_pylist() if r["label_0"] in (0, 1)]
    assert [r["label_0"] for r in decided] == [label for label in LABELS if label != 0.5]
    assert all(r["has_label"] and r["best_image_uid"] for r in decided)


@pytest.mark.parametrize("name", ["pickapic", "chosen-rejected"])
def test_datasets_loads_the_folder_by_its_card(tmp_path, store, name, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    export_set(store, tmp_path / "out", Policy(), FORMATS[name])
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train"]
    assert len(found["train"]) == sum(label != 0.5 for label in LABELS)
    if name == "chosen-rejected":
        first = found["train"][0]
        assert isinstance(first["chosen"], Image.Image)
        hand = Image.open(io.BytesIO(picture(first["chosen_uid"])))
        assert np.array_equal(np.asarray(first["chosen"].convert("RGB")), np.asarray(hand))


@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_a_folder_that_datasets_saved_comes_in(tmp_path, mode):
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list([source_row(k) for k in range(ROWS)])
    datasets.DatasetDict({"train": made, "test": made.select(range(3))}).save_to_disk(
        str(tmp_path / "saved")
    )
    again = create_store(tmp_path / "s")
    summary = ingest(again, "pickapic", [tmp_path / "saved"], images=mode)
    assert (summary.read, summary.kept, summary.duplicate) == (ROWS + 3, ROWS, 3)
    assert {name for name in rows(again, "pairs")[0] if name.startswith("src_")} <= {
        f"src_{name}" for name in SCHEMA.names
    }


def test_verl_omnis_offline_trainer_finds_prompts_images_and_scores(tmp_path, store):
    """It reads one table with pandas, takes text or messages, and paths from the table's folder."""
    pandas = pytest.importorskip("pandas")
    export_set(store, tmp_path / "out", Policy(), FORMATS["offline-pairs"])
    [file] = (tmp_path / "out" / "data").glob("*.parquet")
    found = []
    for row in pandas.read_parquet(file).to_dict("records"):
        assert (row["win_score"], row["lose_score"]) == (1.0, 0.0)
        assert row["extra_info"] == {"raw_prompt": row["prompt"], "pair_id": row["pair_id"]}
        sides = [(file.parent / row[name]).read_bytes() for name in ("img_win", "img_lose")]
        found.append((row["prompt"], *sides))
    expected = []
    for k in (k for k in range(ROWS) if LABELS[k] != 0.5):
        row = source_row(k)
        sides = (row["jpg_0"], row["jpg_1"])
        expected.append((row["caption"], *(sides if LABELS[k] else sides[::-1])))
    assert found == expected
    again = create_store(tmp_path / "again")
    columns = {"chosen_column": "img_win", "rejected_column": "img_lose"}
    ingest(again, "chosen-rejected", file, **columns)
    known = {(p["prompt"], p["image_0"], p["image_1"], p["label"]) for p in rows(again, "pairs")}
    assert known == {
        (p["prompt"], p["image_0"], p["image_1"], p["label"])
        for p in rows(store, "pairs")
        if p["label"] != 0.5
    }


def test_webdataset_groups_the_shards_by_pair_and_decodes_their_members(tmp_path, store):
    webdataset = pytest.importorskip("webdataset")
    export_set(store, tmp_path / "out", Policy(), FORMATS["webdataset"], shard_rows=3)
    shards = sorted(map(str, (tmp_path / "out" / "data").iterdir()))
    random.Random(0).shuffle(shards)
    found = {}
    for sample in webdataset.WebDataset(shards, shardshuffle=False).decode("pil"):
        told = sample["json"]
        assert sample["__key__"] == told["pair_id"]
        sides = [sample[f"{slot}.jpg"].getpixel((0, 0)) for slot in (0, 1)]
        found[told["image_0_uid"]] = (*sides, told["label_0"])
    assert len(found) == sum(label != 0.5 for label in LABELS)
    for k in (k for k in range(ROWS) if LABELS[k] != 0.5):
        row = source_row(k)
        sides = [Image.open(io.BytesIO(row[f"jpg_{slot}"])).getpixel((0, 0)) for slot in (0, 1)]
        assert found[row["image_0_uid"]] == (*sides, LABELS[k])


@pytest.mark.parametrize("name", list(FORMATS))
def test_datasets_reads_a_set_that_was_written_again_under_its_name(tmp_path, store, name):
    """Its cache knows a folder by the card, which is why the card names the files' content."""
    datasets = pytest.importorskip("datasets")

    def load(policy: Policy, cache: str) -> pa.Table:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        export_set(store, tmp_path / "out", policy, FORMATS[name])
        loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / cache))
        if name == "webdataset":
            image = next(iter(loaded["train"]))["0.jpg"]
            assert image.size == Image.open(io.BytesIO(source_row(0)["jpg_0"])).size
        return loaded["train"].data.table

    some = Policy(where='model_0 = "alpha"')
    first, again, fresh = load(Policy(), "cache"), load(some, "cache"), load(some, "fresh")
    assert again.equals(fresh)
    assert not again.equals(first)
