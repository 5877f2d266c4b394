"""Everything about one pair: its labels, votes turned its way round, findings and their ranks."""

import numpy as np
import pyarrow as pa
import pytest

from tests.factories import StoreFactory
from toolkit.files.atomic import write_part
from toolkit.ids import make_comparison_id, make_pair_id
from toolkit.schema import PAIRS, VOTES
from toolkit.store import Store, connect
from toolkit.store.label_sets import planted_flips
from toolkit.store.pair_details import (
    Scores,
    findings_on,
    first_pair,
    labels_of_pair,
    pair_row,
    scores_on,
    siblings,
    votes_on,
)
from toolkit.store.runs import write_findings
from toolkit.store.scores import write_scores


def other_way_round(store: Store, pair: dict) -> str:
    """The same comparison once more, its images the other way round, with one vote for image_0."""
    ids = [pair["image_1"], pair["image_0"]]
    pair_id = make_pair_id("again", pair["prompt"], *ids, "berta")
    row = {
        **{name: pair.get(name) for name in PAIRS.names},
        "pair_id": pair_id,
        "image_0": ids[0],
        "image_1": ids[1],
        "label": 1.0,
    }
    assert make_comparison_id(pair["prompt"], *ids) == pair["comparison_id"]
    write_part(store.folder("pairs"), pa.Table.from_pylist([row], schema=PAIRS))
    vote = {"pair_id": pair_id, "annotator": "berta", "choice": 1.0}
    write_part(store.folder("votes"), pa.Table.from_pylist([vote], schema=VOTES))
    return pair_id


def test_a_vote_on_the_same_images_the_other_way_round_is_turned(make_store: StoreFactory) -> None:
    store = make_store(pairs=8)
    with connect(store) as con:
        pair = pair_row(con, first_pair(con) or "")
    assert pair is not None
    again = other_way_round(store, pair)
    with connect(store) as con:
        votes = votes_on(con, pair)
        near = siblings(con, pair)
    assert [(vote["annotator"], vote["choice"]) for vote in votes][1:] == [("berta", 0.0)]
    assert votes[0]["choice"] == pair["label"]
    assert near[0] == {"pair_id": again, "label": 1.0, "same_images": True}
    assert all(not other["same_images"] for other in near[1:])


def test_labels_of_every_set_are_told(make_store: StoreFactory) -> None:
    store = make_store(pairs=40, run=True)
    flipped = (planted_flips(store, "flip20") or [])[0]
    with connect(store) as con:
        pair = pair_row(con, flipped)
    assert pair is not None
    found = labels_of_pair(store, pair)
    assert found == {"original": pair["label"], "flip20": 1 - pair["label"]}


def test_ranks_leave_out_what_is_not_known(make_store: StoreFactory) -> None:
    """Five values, one of them NaN and one null: of the three known, two are smaller than .3."""
    store = make_store(pairs=5, run=True)
    with connect(store) as con:
        ids = [row[0] for row in con.execute("SELECT pair_id FROM pairs ORDER BY 1").fetchall()]
    table = pa.table(
        {
            "pair_id": ids,
            "score": pa.array([0.1, np.nan, 0.3, None, 0.2], pa.float64()),
            "kind": ["a", "b", "c", "d", "e"],
            "flag": [True, False, True, False, True],
        }
    )
    write_findings(store, "r", "mine", table, {})
    by_column = {value.column: value for value in findings_on(store, "r", ids[2])}
    assert by_column["score"].value == 0.3
    assert by_column["score"].lower == pytest.approx(2 / 3)
    assert (by_column["kind"].value, by_column["kind"].lower) == ("c", None)
    assert by_column["flag"].value is True
    unknown = {value.column: value for value in findings_on(store, "r", ids[1])}
    assert (unknown["score"].value, unknown["score"].lower) == (None, None)
    assert findings_on(store, "r", "nobody") == []


def test_a_pair_is_found_in_findings_of_any_order_and_left_out_where_it_is_absent(
    make_store: StoreFactory,
) -> None:
    store = make_store(pairs=6, run=True)
    with connect(store) as con:
        ids = [row[0] for row in con.execute("SELECT pair_id FROM pairs ORDER BY 1").fetchall()]
    score = np.arange(6, dtype=np.float32)
    write_findings(store, "r", "a", pa.table({"pair_id": ids, "score": score}), {})
    write_findings(store, "r", "b", pa.table({"pair_id": ids[::-1], "score": score}), {})
    write_findings(store, "r", "c", pa.table({"pair_id": ids[:4], "score": score[:4]}), {})
    write_findings(store, "r", "d", pa.table({"pair_id": ids, "score": score}), {})
    told = [(one.finding, one.value, one.lower) for one in findings_on(store, "r", ids[5])]
    assert told == [("a", 5.0, 5 / 6), ("b", 0.0, 0.0), ("d", 5.0, 5 / 6)]


def test_findings_that_are_not_by_pair_are_passed_over(make_store: StoreFactory) -> None:
    store = make_store(pairs=5, run=True)
    write_findings(store, "r", "annotators", pa.table({"annotator": ["a"]}), {})
    with connect(store) as con:
        assert findings_on(store, "r", first_pair(con) or "") == []


def test_an_empty_store_has_no_first_pair(make_store: StoreFactory) -> None:
    store = make_store(pairs=3)
    for part in store.folder("pairs").glob("*.parquet"):
        part.unlink()
    with connect(store) as con:
        assert first_pair(con) is None
        assert pair_row(con, "nobody") is None


def score_row(image: str, prompt: str | None, score: float | None, reason: str | None) -> dict:
    row = {"image_id": image, "prompt": prompt, "scorer": "s", "version": "1", "dtype": "float32"}
    return {**row, "preprocessing": "none", "score": score, "truncated": False, "reason": reason}


def test_what_scorers_say_is_of_this_prompt_and_a_missing_score_has_its_reason(
    make_store: StoreFactory,
) -> None:
    store = make_store(pairs=4)
    with connect(store) as con:
        pair = pair_row(con, first_pair(con) or "")
    assert pair is not None
    assert scores_on(store, pair) == []
    first, second, prompt = pair["image_0"], pair["image_1"], pair["prompt"]
    write_scores(store, "words", [score_row(first, prompt, 0.25, None),
                                  score_row(first, "another prompt", 0.9, None),
                                  score_row(second, prompt, 0.75, None)])  # fmt: skip
    write_scores(store, "eyes", [score_row(first, None, 5.0, None),
                                 score_row(second, None, None, "not an image")])  # fmt: skip
    write_scores(store, "again", [score_row(first, None, None, "not an image")])
    write_scores(store, "again", [score_row(first, None, 2.0, None)])
    assert scores_on(store, pair) == [
        Scores("again", 2.0, None, ""),
        Scores("eyes", 5.0, None, "not an image"),
        Scores("words", 0.25, 0.75, ""),
    ]
