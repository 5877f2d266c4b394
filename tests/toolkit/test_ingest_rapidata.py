"""Rapidata's sets, newer and older, and a compare job's JSON: shares, votes and axes."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import png
from tests.toolkit.public_shapes import RAPIDATA, answers, image_of, rapidata
from tests.toolkit.stores import rows, snapshot
from toolkit.errors import InputError
from toolkit.image_files import content_hash
from toolkit.ingest import ingest, open_source
from toolkit.store import create_store


@pytest.mark.parametrize("names", [("a.png", "b.png"), (None, None)])
def test_a_newer_set_has_votes_with_trust_and_two_axes_more(tmp_path, names):
    """Also where the images' own names are not in the file: then the shares tell them apart."""
    truth = rapidata(tmp_path, names)
    store = create_store(tmp_path / "s")
    summary = ingest(store, "rapidata", tmp_path / "data")
    assert summary.kept == 2
    pairs = rows(store, "pairs")
    ids = {pair["pair_id"]: k for k, pair in enumerate(pairs)}
    for k, pair in enumerate(pairs):
        assert pair["image_0"] == content_hash(image_of(k, 0))
        assert pair["label"] == pytest.approx(truth.labels[pair["prompt"]])
        assert (pair["src_model_0"], pair["src_model_1"]) == ("flux", "imagen")
    assert [pair["label_weight"] for pair in pairs] == [3.0, 2.0]
    for entry in rows(store, "axes"):
        right = truth.axes[entry["axis"]][f"p{ids[entry['pair_id']]}"]
        assert entry["label"] == pytest.approx(right)
    votes = [(ids[v["pair_id"]], v["axis"], v["choice"], v["weight"]) for v in rows(store, "votes")]
    tied = names == (None, None)  # two answers of equal trust: either could be either
    right = [
        (k, None if name == "preference" else name, float(a["votedFor"] == "a.png"), trust)
        for k, said in enumerate(RAPIDATA)
        for name, given in said.items()
        for a, trust in zip(
            given, [a["userDetails"]["userScores"]["global"] for a in given], strict=True
        )
        if not (tied and (k, name) == (0, "alignment"))
    ]
    assert sorted(votes, key=str) == sorted(right, key=str)
    if tied:
        assert "1 pairs have answers that name neither image" in summary.lines()[-1]
        assert "a.png" in pairs[0]["src_unread_results"]
    before = snapshot(store)
    assert ingest(store, "rapidata", tmp_path / "data").duplicate == 2
    assert snapshot(store) == before


def older(k: int, first: int, second: int) -> dict[str, Any]:
    said = answers(*[("x/a.png", 0.5)] * first, *[("x/b.png", 0.4)] * second)
    return {
        "prompt": f"p{k}",
        "image1": {"bytes": png((k, 60, 3)), "path": None},
        "image2": {"bytes": png((k, 120, 3)), "path": None},
        "votes_image1": first,
        "votes_image2": second,
        "model1": "dalle-3",
        "model2": "mj",
        "detailed_results": json.dumps(said),
        "image1_path": "x/a.png",
        "image2_path": "x/b.png",
    }


def test_an_older_set_counts_votes_and_its_sets_of_other_axes_join_the_same_pairs(tmp_path):
    counts = [(7, 3), (0, 4), (5, 5)]
    store = create_store(tmp_path / "s")
    for axis, turn in (("preference", False), ("coherence", True)):
        made = [older(k, *(reversed(c) if turn else c)) for k, c in enumerate(counts)]
        file = tmp_path / axis / "train_0001-00000-of-00001.parquet"
        file.parent.mkdir()
        pq.write_table(pa.Table.from_pylist(made), file)
        ingest(store, "rapidata", file, axis=axis)
    pairs = rows(store, "pairs")
    assert [(p["label"], p["label_weight"]) for p in pairs] == [(0.7, 10), (0.0, 4), (0.5, 10)]
    ids = {pair["pair_id"]: k for k, pair in enumerate(pairs)}
    coherence = {ids[a["pair_id"]]: a["label"] for a in rows(store, "axes")}
    assert coherence == {0: pytest.approx(0.3), 1: 1.0, 2: 0.5}
    for k, (first, second) in enumerate(counts):
        for axis, wins, losses in ((None, first, second), ("coherence", second, first)):
            chosen = [
                v["choice"]
                for v in rows(store, "votes")
                if ids[v["pair_id"]] == k and v["axis"] == axis
            ]
            assert sorted(chosen) == [0.0] * losses + [1.0] * wins


def job() -> dict[str, Any]:
    said = answers(("new.png", 0.4), ("new.png", 0.4), ("old.jpg", 0.8))
    return {
        "info": {"version": "3.0.0"},
        "summary": {"A_wins_total": 1, "B_wins_total": 0},
        "results": [
            {
                "context": "a small blue book",
                "winner_index": 1,
                "winner": "new.png",
                "assetUrls": {
                    "old.jpg": "https://x.example/old",
                    "new.png": "https://x.example/new",
                },
                "aggregatedResults": {"old.jpg": 1, "new.png": 2},
                "summedUserScores": {"old.jpg": 0.8, "new.png": 0.8},
                "detailedResults": said,
            },
            {"context": "alone", "aggregatedResults": {"old.jpg": 1}, "detailedResults": []},
        ],
    }


@pytest.mark.parametrize("with_images", [True, False])
def test_a_compare_job_is_a_pair_a_result(tmp_path: Path, with_images: bool):
    file = tmp_path / "results.json"
    file.write_text(json.dumps(job()))
    (tmp_path / "old.jpg").write_bytes(png((1, 2, 3)))
    (tmp_path / "new.png").write_bytes(png((3, 2, 1)))
    store = create_store(tmp_path / "s")
    options = {"images_dir": tmp_path} if with_images else {}
    summary = ingest(store, "rapidata", file, **options)
    assert summary.reasons == {"aggregatedResults does not name two images": 1}
    [pair] = rows(store, "pairs")
    names = [content_hash(png((1, 2, 3))), content_hash(png((3, 2, 1)))]
    names = names if with_images else ["https://x.example/old", "https://x.example/new"]
    assert [pair["image_0"], pair["image_1"]] == names
    assert (pair["prompt"], pair["label"], pair["label_weight"]) == ("a small blue book", 0.5, 3.0)
    assert [(v["choice"], v["weight"]) for v in rows(store, "votes")] == [
        (0, 0.4),
        (0, 0.4),
        (1, 0.8),
    ]


def test_another_table_is_told_what_rapidatas_have(tmp_path):
    pq.write_table(pa.table({"prompt": ["p"], "image1": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="Rapidata's sets have prompt, image1, image2 and"):
        open_source("rapidata", tmp_path / "t.parquet")
