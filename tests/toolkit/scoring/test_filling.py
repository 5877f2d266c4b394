"""Filling a store's scores: what lacks one and nothing else, whatever was cut off before."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from threading import Event, current_thread

import pyarrow as pa
import pytest
from PIL import Image

from tests.factories import StoreFactory, WatchedProgress
from toolkit.errors import InputError, StoreError
from toolkit.files.atomic import write_part
from toolkit.ids import make_comparison_id, make_pair_id
from toolkit.image_files import decode
from toolkit.miniworld.scenes import Scene, look, paint
from toolkit.schema import IMAGES, PAIRS
from toolkit.scoring import SCORERS, Batch, Identity, Judge, Judged, Scorer, Setup
from toolkit.scoring.run import fill, shard_of, shuffled
from toolkit.scoring.scorer import one_by_one
from toolkit.store import Store, create_store
from toolkit.store.connection import read_pairs
from toolkit.store.images import image_row
from toolkit.store.locks import first_at
from toolkit.store.scores import pair_scores, prompt_hash, read_scores, scorers_in, unscored


def redness(sees_prompt: bool = True, version: str = "1") -> tuple[Scorer, Judge]:
    """The mean of the red channel plus the length of the prompt: known by hand."""

    def judge(batch: Batch) -> Judged:
        pairs = zip(batch.prompts, batch.images, strict=True)
        scores = tuple(red + len(prompt) for prompt, red in pairs)
        return Judged(scores, tuple(len(prompt) > 19 for prompt in batch.prompts))

    def prepare(picture: Image.Image) -> float:
        return float(picture.resize((1, 1)).getpixel((0, 0))[0])  # type: ignore[index]

    made = Judge(Identity(version, None, "mean", "float64"), prepare, one_by_one(judge))
    return Scorer("redness", "red", "red", lambda _: made, sees_prompt), made


def rows(store: Store, scorer: str = "redness") -> dict[tuple[str, str | None], float | None]:
    table = read_scores(store, scorer).to_pylist()
    return {(row["image_id"], row["prompt"]): row["score"] for row in table}


def test_every_image_and_prompt_gets_its_own_score(make_store: StoreFactory) -> None:
    store, (scorer, judge) = make_store(pairs=8), redness()
    watched = WatchedProgress()
    filled = fill(store, scorer, judge, batch=3, progress=watched)
    assert (filled.rows, filled.failed) == (16, 0)
    assert watched.updates[0] == ("redness", 0, 16)
    assert watched.updates[-1] == ("redness", 16, 16)
    found = rows(store)
    prompt = "a square number 0"  # of pairs 0 to 3, whose red is 5 times their number
    assert found["img-0003-0", prompt] == 15 + len(prompt)
    assert found["img-0003-1", prompt] == 15 + len(prompt)
    row = read_scores(store, "redness").to_pylist()[0]
    assert row["prompt_hash"] == prompt_hash(row["prompt"])
    assert (row["version"], row["preprocessing"], row["dtype"]) == ("1", "mean", "float64")
    assert scorers_in(store) == ["redness"]


def test_a_scorer_without_prompt_scores_an_image_once(tmp_path) -> None:
    store = create_store(tmp_path / "s")
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (7, 0, 0)).save(out, "PNG")
    images = [image_row(name, out.getvalue(), decode(out.getvalue())) for name in ("x", "y")]
    write_part(store.folder("images"), pa.Table.from_pylist(images, schema=IMAGES))
    pairs = [
        {
            "pair_id": make_pair_id("t", prompt, "x", "y"),
            "comparison_id": make_comparison_id(prompt, "x", "y"),
            "prompt": prompt,
            "image_0": "x",
            "image_1": "y",
            "label": 1.0,
        }
        for prompt in ("a", "bb")
    ]
    write_part(store.folder("pairs"), pa.Table.from_pylist(pairs, schema=PAIRS))
    for sees, count in ((False, 2), (True, 4)):
        scorer, judge = redness(sees)
        scorer = replace(scorer, name=f"r{sees}")
        assert fill(store, scorer, judge).rows == count
    assert rows(store, "rFalse") == {("x", None): 7, ("y", None): 7}
    assert rows(store, "rTrue")["y", "bb"] == 9
    assert pair_scores(store, "rFalse")["score_0"].to_pylist() == [7, 7]
    assert sorted(pair_scores(store, "rTrue")["score_0"].to_pylist()) == [8, 9]


def test_what_was_cut_off_goes_on_and_nothing_is_scored_twice(make_store: StoreFactory) -> None:
    store, (scorer, judge) = make_store(pairs=10), redness()

    def breaks(batches: Iterable[Batch]) -> Iterator[Judged]:
        for number, answer in enumerate(judge.stream(batches)):
            if number == 2:
                raise KeyboardInterrupt
            yield answer

    with pytest.raises(KeyboardInterrupt):
        fill(store, scorer, replace(judge, stream=breaks), batch=4)
    assert len(rows(store)) == 8
    assert fill(store, scorer, judge, batch=4).rows == 12
    assert fill(store, scorer, judge).rows == 0
    assert len(rows(store)) == 20
    assert not unscored(store, "redness", sees_prompt=True)


def test_pictures_are_decoded_beside_the_model(make_store: StoreFactory) -> None:
    """While it judges its first batch the pictures of the next come in, in other threads."""
    store, (scorer, judge) = make_store(pairs=6), redness()
    prepared, later = list[str](), Event()

    def prepare(picture: Image.Image) -> float:
        prepared.append(current_thread().name)
        if len(prepared) > 4:
            later.set()
        return float(judge.prepare(picture))

    def slow(batches: Iterable[Batch]) -> Iterator[Judged]:
        for batch in batches:
            assert later.wait(30), "no picture of another batch was prepared meanwhile"
            yield from judge.stream([batch])

    assert fill(store, scorer, replace(judge, prepare=prepare, stream=slow), batch=4).rows == 12
    assert current_thread().name not in prepared


def test_shards_share_the_images_out_without_gap_or_overlap(make_store: StoreFactory) -> None:
    store, (scorer, judge) = make_store(pairs=20), redness()
    counts = [fill(store, scorer, judge, shard=(k, 3)).rows for k in range(3)]
    assert sum(counts) == len(rows(store)) == 40
    assert min(counts) > 0
    assert {shard_of("img-0001-0", 3)} <= {0, 1, 2}


def test_each_process_takes_whole_batches_in_an_order_of_its_own() -> None:
    keys = [(f"x{number:03}", "a") for number in range(64)]
    one, two = (shuffled(keys, 4, seed) for seed in ("1", "2"))
    assert one == shuffled(keys, 4, "1")
    assert one != two
    for order in (one, two):
        assert order != keys
        assert sorted(order) == keys
        batches = [order[start : start + 4] for start in range(0, 64, 4)]
        assert sorted(batches) == [keys[start : start + 4] for start in range(0, 64, 4)]


def judged_in_order(store: Store, name: str) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
    """Prompts and prepared pictures as they come to a scorer that is asked for one at a time."""
    (scorer, judge), asked = redness(), []

    def watched(batches: Iterable[Batch]) -> Iterator[Judged]:
        for batch in batches:
            asked.append((batch.prompts, batch.images))
            yield from judge.stream([batch])

    fill(store, replace(scorer, name=name), replace(judge, stream=watched), batch=1)
    return asked


def test_the_first_process_goes_in_order_and_one_that_came_later_in_another(
    make_store: StoreFactory,
) -> None:
    store = make_store(pairs=20)
    first = judged_in_order(store, "first")
    assert len(first) == 40
    assert judged_in_order(store, "alone_too") == first
    with first_at(store, ".scoring-late"):
        late = judged_in_order(store, "late")
    assert sorted(late) == sorted(first)
    assert late != first


def test_an_unreadable_image_gets_null_and_the_reason(make_store: StoreFactory) -> None:
    store, (scorer, judge) = make_store(pairs=4), redness()
    broken = pa.Table.from_pylist(
        [{"image_id": "broken", "bytes": b"\x89PNG not really"}], schema=IMAGES
    )
    write_part(store.folder("images"), broken)
    pair = {
        "pair_id": "p",
        "comparison_id": "c",
        "prompt": "a square of no number at all",
        "image_0": "broken",
        "image_1": "img-0000-0",
        "label": 1.0,
    }
    write_part(store.folder("pairs"), pa.Table.from_pylist([pair], schema=PAIRS))
    filled = fill(store, scorer, judge, batch=1)
    assert (filled.rows, filled.failed, filled.truncated) == (10, 1, 1)
    row = next(r for r in read_scores(store, "redness").to_pylist() if r["image_id"] == "broken")
    assert row["score"] is None
    assert "not a known image format" in row["reason"]
    assert fill(store, scorer, judge).rows == 0
    assert fill(store, scorer, judge, retry=True).rows == 1
    assert len(rows(store)) == 10
    assert len(pair_scores(store, "redness")) == len(read_pairs(store, ["pair_id"]))


def test_scores_of_two_identities_are_not_mixed(make_store: StoreFactory) -> None:
    store, (scorer, judge) = make_store(pairs=4), redness()
    fill(store, scorer, judge)
    _, other = redness(version="2")
    with pytest.raises(
        StoreError, match=r"made with 1, no weights.*would be made with 2.*--replac"
    ):
        fill(store, scorer, other)
    assert fill(store, scorer, other, replace=True).rows == 8
    assert {row["version"] for row in read_scores(store, "redness").to_pylist()} == {"2"}
    assert len(list(store.folder("aside").rglob("part-*.parquet"))) == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_image_mode_reaches_the_scorer_as_rgb(mode: str, make_store: StoreFactory) -> None:
    store, (scorer, judge) = make_store(pairs=1), redness()
    out = io.BytesIO()
    shade = Image.new("L", (8, 8), 255)
    picture = shade.convert(mode) if mode != "I;16" else Image.new("I;16", (8, 8), 65535)
    picture.save(out, "TIFF" if mode in ("CMYK", "F", "I;16") else "PNG")
    row = {"image_id": mode, "bytes": out.getvalue()}
    write_part(store.folder("images"), pa.Table.from_pylist([row], schema=IMAGES))
    pair = {"pair_id": "p", "comparison_id": "c", "prompt": "", "image_0": mode, "image_1": mode}
    write_part(store.folder("pairs"), pa.Table.from_pylist([pair], schema=PAIRS))
    fill(store, scorer, judge)
    assert rows(store)[mode, ""] == 255


def test_a_batch_below_one_and_a_stranger_scorer_are_sentences(make_store: StoreFactory) -> None:
    store, (scorer, judge) = make_store(pairs=1), redness()
    with pytest.raises(InputError, match=r"--batch is 0"):
        fill(store, scorer, judge, batch=0)
    with pytest.raises(StoreError, match=r"no scores of 'hps' .*outvoted score"):
        read_scores(store, "hps")


def test_the_mini_worlds_scorers_need_no_weights_and_see_what_they_say() -> None:
    def scene(colour: str) -> Image.Image:
        return paint(look(Scene("circle", colour, "large", "middle", "light")))

    prompts = ("a large red circle in the middle on a light background",) * 2
    for name in ("world_reward", "world_glance", "world_alignment", "world_warmth"):
        judge = SCORERS[name].load(Setup())
        ready = tuple(judge.prepare(scene(colour)) for colour in ("red", "blue"))
        (found,) = judge.stream([Batch(prompts, ready)])
        assert found.scores[0] > found.scores[1], name
