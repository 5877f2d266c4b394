"""Votes, pairs, images and prompts in tables of their own: every vote on its pair, by key."""

import csv
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import png
from tests.toolkit.stores import rows, snapshot
from toolkit.errors import InputError
from toolkit.ingest import ingest, open_source
from toolkit.store import create_store
from toolkit.store.images import ImageReader

PAIRS = 30


def tables(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Four tables with ten votes a pair, each with a trust; options that join them."""
    draw = random.Random(0)
    images = [
        {"image_id": 100 + k, "prompt_id": k // 2, "model": f"m{k % 2}", "image": png((k, 9, 9))}
        for k in range(2 * PAIRS)
    ]
    pairs = [
        {"pair_id": 7000 + k, "left_image_id": 100 + 2 * k, "right_image_id": 101 + 2 * k}
        for k in range(PAIRS)
    ]
    votes = [
        {
            "pair_id": pair["pair_id"],
            "winner": draw.choice([pair["left_image_id"], pair["right_image_id"]]),
            "annotator_id": draw.randrange(50),
            "trust_score": draw.random(),
            "dimension": axis,
        }
        for pair in pairs
        for axis in ("overall_preference", "alignment")
        for _ in range(10)
    ]
    draw.shuffle(votes)
    prompts = [{"prompt_id": k, "prompt": f"number {k}"} for k in range(PAIRS)]
    named = {"images": images, "pairs": pairs, "votes": votes, "prompts": prompts}
    for name, made in named.items():
        pq.write_table(pa.Table.from_pylist(made), folder / f"{name}.parquet")
    options = {
        f"{name}_table": folder / f"{name}.parquet" for name in ("pairs", "images", "prompts")
    }
    return options, votes


@pytest.mark.parametrize("by", ["votes", "trust"])
@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_every_vote_joins_its_pair_and_the_label_is_their_share(tmp_path, by, mode):
    options, votes = tables(tmp_path)
    store = create_store(tmp_path / "s")
    summary = ingest(store, "relational", tmp_path / "votes.parquet", by=by, images=mode, **options)
    assert (summary.kept, summary.images) == (PAIRS, 2 * PAIRS)
    stored: dict[Any, list] = {}
    for vote in rows(store, "votes"):
        said = (vote["annotator"], vote["choice"], vote["weight"])
        stored.setdefault((vote["pair_id"], vote["axis"]), []).append(said)
    axes = {(a["pair_id"], a["axis"]): a for a in rows(store, "axes")}
    for k, pair in enumerate(rows(store, "pairs")):
        assert (pair["prompt"], pair["image_0"]) == (f"number {k}", str(100 + 2 * k))
        assert (pair["src_model_0"], pair["src_model_1"]) == ("m0", "m1")
        for axis, name in ((None, "overall_preference"), ("alignment", "alignment")):
            given = [v for v in votes if (v["pair_id"], v["dimension"]) == (7000 + k, name)]
            right = [
                (str(v["annotator_id"]), float(v["winner"] == 100 + 2 * k), v["trust_score"])
                for v in given
            ]
            assert stored[pair["pair_id"], axis] == right
            weights = [v[2] if by == "trust" else 1.0 for v in right]
            share = sum(w * v[1] for w, v in zip(weights, right, strict=True)) / sum(weights)
            said = pair if axis is None else axes[pair["pair_id"], axis]
            assert said["label"] == pytest.approx(share)
            assert said["label_weight"] == pytest.approx(sum(weights))
    assert ImageReader(store).read("103") == png((3, 9, 9))
    before = snapshot(store)
    ingest(store, "relational", tmp_path / "votes.parquet", by=by, images=mode, **options)
    assert snapshot(store) == before


def test_shards_and_a_limit_deal_pairs(tmp_path):
    options, _ = tables(tmp_path)
    store = create_store(tmp_path / "s")
    for shard in ("0/2", "1/2"):
        ingest(store, "relational", tmp_path / "votes.parquet", shard=shard, **options)
    assert len(rows(store, "votes")) == 20 * PAIRS
    assert len(rows(store, "pairs")) == PAIRS
    assert open_source("relational", tmp_path / "votes.parquet", limit=3, **options).rows == 3


def test_a_table_of_votes_alone_names_images_and_words(tmp_path):
    file = tmp_path / "votes.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["prompt", "image_a", "image_b", "choice", "annotator"])
        for annotator, word in (("007", "left"), ("7", "right"), ("9", "left"), ("8", "")):
            writer.writerow(["p", "x.png", "y.png", word, annotator])
        writer.writerow(["q", "x.png", "y.png", "meh", "9"])
    with pytest.raises(InputError, match=r"meh \(1\) \(understood: left \(2\), right \(1\)\)"):
        open_source("relational", file)
    store = create_store(tmp_path / "s")
    summary = ingest(store, "relational", file, map=["meh=both_bad"])
    first, second = rows(store, "pairs")
    assert (first["label"], first["label_weight"]) == (pytest.approx(2 / 3), 3.0)
    assert (second["prompt"], second["label"], first["image_0"]) == ("q", 0.5, "x.png")
    assert [vote["both_are"] for vote in rows(store, "votes")] == [None, None, None, "bad"]
    assert "left out 1 votes: they have no choice" in summary.lines()


def test_what_does_not_join_is_counted_or_set_aside(tmp_path):
    options, votes = tables(tmp_path)
    pq.write_table(
        pa.Table.from_pylist([*votes, votes[0] | {"pair_id": 1}]), tmp_path / "v.parquet"
    )
    images = pq.read_table(tmp_path / "images.parquet")
    pq.write_table(images.slice(1), tmp_path / "images.parquet")
    store = create_store(tmp_path / "s")
    summary = ingest(store, "relational", tmp_path / "v.parquet", **options)
    assert summary.reasons == {"image_0: it is not in the images table": 1}
    assert "left out 1 votes: their pair_id is in no row of the pairs" in summary.lines()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pair_key": "id"}, "lacks the column id"),
        ({"image_key": "uid"}, "lacks the column uid"),
        ({"choice_column": "said"}, "no column of a known name for a vote's choice"),
        ({"image_columns": "a,b"}, "does not name two images by columns"),
        ({"prompts_table": None}, "No pair of .* has a prompt"),
        ({"trust_column": "t"}, "lacks the column t"),
    ],
)
def test_columns_that_are_not_there_are_named(tmp_path, change, sentence):
    options, _ = tables(tmp_path)
    with pytest.raises(InputError, match=sentence):
        open_source("relational", tmp_path / "votes.parquet", **(options | change))
