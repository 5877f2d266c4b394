"""HPDv2's pairs and rankings and HPDv3's lists become pairs with the votes they hold."""

import json
from pathlib import Path

import pytest

from tests.toolkit.stores import rows, snapshot, votes_of, write_image
from toolkit.errors import InputError
from toolkit.ingest import Summary, ingest
from toolkit.store import Store, create_store
from toolkit.store.images import ImageReader
from toolkit.store.pseudonyms import renamer

TRAIN = [
    {"prompt": "a cat", "file_path": ["a.jpg", "b.jpg"], "human_preference": [1, 0]},
    {"prompt": "a dog", "file_path": ["c.jpg", "a.jpg"], "human_preference": [0, 1]},
    {"prompt": "a cow", "file_path": ["c.jpg", "b.jpg"], "human_preference": [1, 1]},
    {"prompt": "an ox", "file_path": ["c.jpg"], "human_preference": [1]},
]
TEST = [
    {
        "prompt": "three",
        "image_path": ["a.jpg", "b.jpg", "c.jpg"],
        "rank": [2, 1, 2],
        "raw_annotations": [
            {"rank": [1, 2, 3], "user_hash": "u1"},
            {"rank": [3, 1, 2], "user_hash": "u2"},
        ],
    }
]
V3 = [
    {
        "prompt": "new",
        "path1": "b.jpg",
        "path2": "c.jpg",
        "confidence": 0.9,
        "choice_dist": [3, 1],
        "model1": "flux",
        "model2": "sdxl",
    }
]


def take_in(folder: Path, entries: list[dict], **options) -> tuple[Store, Summary]:
    for name, shade in (("a", 10), ("b", 120), ("c", 240)):
        write_image(folder / "images" / f"{name}.jpg", (shade, shade, shade))
    path = folder / "list.json"
    path.write_text(json.dumps(entries))
    store = create_store(folder / "s")
    return store, ingest(store, "hpd", [path], images_dir=folder / "images", **options)


def test_a_choice_between_two_files_is_a_pair_in_the_files_order(tmp_path):
    store, summary = take_in(tmp_path, TRAIN)
    assert (summary.read, summary.kept, summary.quarantined) == (4, 2, 2)
    assert sorted(summary.reasons) == [
        "file_path does not name two images",
        "human_preference is none of [1, 0] and [0, 1]",
    ]
    found = {p["prompt"]: (p["image_0"], p["image_1"], p["label"]) for p in rows(store, "pairs")}
    assert found == {"a cat": ("a.jpg", "b.jpg", 1.0), "a dog": ("c.jpg", "a.jpg", 0.0)}
    data = (tmp_path / "images" / "a.jpg").read_bytes()
    assert ImageReader(store).read("a.jpg") == data


def test_a_ranking_gives_every_two_images_with_ranks_ties_and_every_annotators_vote(tmp_path):
    store, summary = take_in(tmp_path, TEST)
    assert (summary.kept, summary.tied) == (3, 1)
    found = {(p["image_0"][0], p["image_1"][0]): p for p in rows(store, "pairs")}
    assert {key: p["label"] for key, p in found.items()} == {
        ("a", "b"): 0.0,
        ("a", "c"): 0.5,
        ("b", "c"): 1.0,
    }
    assert {p["split"] for p in found.values()} == {"test"}
    pair = found["a", "c"]
    assert (pair["src_rank_0"], pair["src_rank_1"]) == (2, 2)
    assert votes_of(store, pair["pair_id"]) == {"u1": 1.0, "u2": 0.0}
    assert votes_of(store, found["a", "b"]["pair_id"]) == {"u1": 1.0, "u2": 0.0}
    assert votes_of(store, found["b", "c"]["pair_id"]) == {"u1": 1.0, "u2": 1.0}


def test_the_third_version_labels_by_the_share_of_its_nameless_votes(tmp_path):
    store, _ = take_in(tmp_path, V3, images="reference")
    [pair] = rows(store, "pairs")
    assert (pair["image_0"], pair["label"], pair["label_weight"]) == ("b.jpg", 0.75, 4.0)
    assert (pair["src_model_0"], pair["src_model_1"]) == ("flux", "sdxl")
    assert pair["src_confidence"] == 0.9
    votes = rows(store, "votes")
    assert sorted(v["choice"] for v in votes) == [0.0, 1.0, 1.0, 1.0]
    assert {v["annotator"] for v in votes} == {None}
    assert ImageReader(store).read("b.jpg") == (tmp_path / "images" / "b.jpg").read_bytes()


@pytest.mark.parametrize(
    ("counts", "label", "weight", "votes"),
    [([0.8, 0.2], 0.8, None, 0), ("3:1", 1.0, None, 0), ([0, 0], 1.0, None, 0), ([2, 0], 1, 2, 2)],
)
def test_a_distribution_that_counts_nobody_gives_no_votes(tmp_path, counts, label, weight, votes):
    store, _ = take_in(tmp_path, [V3[0] | {"choice_dist": counts}])
    [pair] = rows(store, "pairs")
    assert (pair["label"], pair["label_weight"]) == (pytest.approx(label), weight)
    assert len(rows(store, "votes")) == votes


def test_a_distribution_against_the_preferred_path_is_set_aside(tmp_path):
    _, summary = take_in(tmp_path, [V3[0] | {"choice_dist": [1, 3]}])
    assert summary.reasons == {"choice_dist prefers path2, and path1 is the preferred": 1}


@pytest.mark.parametrize("entries", [TRAIN, TEST, V3])
def test_the_same_list_again_changes_nothing(tmp_path, entries):
    store, first = take_in(tmp_path, entries)
    before = snapshot(store)
    again = ingest(store, "hpd", [tmp_path / "list.json"], images_dir=tmp_path / "images")
    assert (again.kept, again.duplicate) == (0, first.kept)
    assert snapshot(store) == before


def test_a_ranking_that_fits_its_images_not_is_set_aside_as_one(tmp_path):
    _, summary = take_in(tmp_path, [TEST[0] | {"rank": [1, 2]}])
    assert (summary.read, summary.quarantined) == (1, 1)
    assert list(summary.reasons) == ["the ranking has another number of ranks than of images"]


def test_an_image_that_is_not_there_quarantines_its_pair(tmp_path):
    entry = TRAIN[0] | {"file_path": ["a.jpg", "gone.jpg"]}
    _, summary = take_in(tmp_path, [entry, TRAIN[1]])
    assert (summary.kept, summary.quarantined) == (1, 1)
    assert "image_1: the image file cannot be read" in next(iter(summary.reasons))


def test_a_list_of_another_form_is_named_with_the_three_there_are(tmp_path):
    with pytest.raises(InputError, match=r"has the columns prompt, best, and none of HPD's forms"):
        take_in(tmp_path, [{"prompt": "p", "best": 1}])


def test_pseudonyms_replace_the_annotators(tmp_path):
    store, _ = take_in(tmp_path, TEST, pseudonyms=True)
    names = {str(renamer(store)(user)) for user in ("u1", "u2")}
    assert {vote["annotator"] for vote in rows(store, "votes")} == names
    text = "".join(str(pair) for pair in rows(store, "pairs"))
    assert "u1" not in text
