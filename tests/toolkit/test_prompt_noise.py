"""Prompts and annotators by SQL, held against hand-made labels and against `analysis`."""

import numpy as np
import pyarrow as pa
import pytest

from analysis.detectors.annotators import annotators
from analysis.detectors.consistency import consistency
from tests.app.desk_stores import judgeable
from tests.factories import StoreFactory
from toolkit.files.atomic import write_part
from toolkit.ids import make_comparison_id
from toolkit.schema import PAIRS
from toolkit.store import Store, connect, create_store
from toolkit.store.pair_table import pair_facts
from toolkit.store.queue.prompt_noise import contradictions, cycles, habits, noisy_prompts
from toolkit.store.queue.tables import make_queue
from toolkit.store.runs import read_findings
from toolkit.store.trajectory import read_votes


def store_of(tmp_path, duels: list[tuple[str, str, str, float | None]]) -> Store:
    """A store of (prompt, image_0, image_1, label), pairs p0, p1 ... in this order."""
    store = create_store(tmp_path / "duels")
    rows = [
        {
            "pair_id": f"p{k}", "comparison_id": make_comparison_id(prompt, one, two),
            "prompt": prompt, "image_0": one, "image_1": two, "label": label, "split": "train",
            "source": "test",
        }
        for k, (prompt, one, two, label) in enumerate(duels)
    ]  # fmt: skip
    write_part(store.folder("pairs"), pa.Table.from_pylist(rows, schema=PAIRS))
    return store


def queue_of(store: Store, run: str = ""):
    con = connect(store)
    make_queue(con, store, run)
    return con


def test_opposite_labels_on_the_same_images_are_a_contradiction(tmp_path) -> None:
    duels = [
        ("cat", "a", "b", 1.0),  # a wins
        ("cat", "b", "a", 1.0),  # b wins: contradiction
        ("cat", "b", "a", 0.0),  # a wins again
        ("cat", "a", "c", 1.0),
        ("cat", "c", "a", 0.0),  # a wins both: none
        ("dog", "a", "b", 0.0),  # another prompt
        ("dog", "a", "b", 0.5),  # a tie says nothing
        ("dog", "b", "a", None),
    ]
    total, found = contradictions(queue_of(store_of(tmp_path, duels)))
    assert total == 1
    assert found == [
        {"prompt": "cat", "first": "a", "second": "b", "for_first": ["p0", "p2"],
         "for_second": ["p1"]}
    ]  # fmt: skip


def test_a_circle_is_found_once_and_by_majority(tmp_path) -> None:
    duels = [
        ("cat", "a", "b", 1.0),
        ("cat", "b", "c", 1.0),
        ("cat", "a", "c", 0.0),  # c over a closes the circle
        ("dog", "a", "b", 1.0),
        ("dog", "b", "c", 1.0),
        ("dog", "c", "a", 1.0),
        ("dog", "a", "c", 1.0),  # even between a and c: no circle
        ("owl", "a", "b", 1.0),
        ("owl", "b", "c", 1.0),
        ("owl", "a", "c", 1.0),  # in order
    ]
    total, found = cycles(queue_of(store_of(tmp_path, duels)))
    assert total == 1
    assert found == [
        {"prompt": "cat", "a": "a", "b": "b", "c": "c", "a_b": "p0", "b_c": "p1", "c_a": "p2"}
    ]


def test_random_duels_give_what_the_analysis_counts(tmp_path) -> None:
    rng = np.random.default_rng(3)
    duels = []
    for _ in range(300):
        one, two = rng.choice(6, 2, replace=False)
        duels.append((f"prompt {rng.integers(4)}", f"i{one}", f"i{two}", float(rng.integers(2))))
    store = store_of(tmp_path, duels)
    con = queue_of(store)
    table = consistency(pair_facts(store))
    against = set()
    for row, facts in zip(table.to_pylist(), pair_facts(store).to_pylist(), strict=True):
        if row["contradictions"]:
            against.add(facts["comparison_id"])
    assert contradictions(con)[0] == len(against) > 0
    # Every circle is met by its three comparisons; ours count each circle once.
    met = {}
    for row, facts in zip(table.to_pylist(), pair_facts(store).to_pylist(), strict=True):
        won = facts["image_0"] if facts["label"] == 1 else facts["image_1"]
        met[facts["comparison_id"], won] = row["cycles"]
    winners = {}
    for facts in pair_facts(store).to_pylist():
        won = facts["image_0"] if facts["label"] == 1 else facts["image_1"]
        winners.setdefault(facts["comparison_id"], []).append(won)
    total = 0
    for comparison, wins in winners.items():
        for image in set(wins):
            if wins.count(image) * 2 > len(wins):
                total += met[comparison, image]
    assert cycles(con, limit=1000)[0] == total / 3 > 0


def test_a_prompts_mean_is_shrunk_by_five_average_pairs(make_store: StoreFactory) -> None:
    store = judgeable(make_store)
    u = dict(zip(*[read_findings(store, "r", "minority")[c].to_pylist()
                   for c in ("pair_id", "minority")], strict=True))  # fmt: skip
    facts = pair_facts(store).to_pylist()
    mean = np.mean(list(u.values()))
    found = noisy_prompts(queue_of(store, "r"), least=4)
    assert len(found) == 10
    assert [row["adjusted_mean_u"] for row in found] == sorted(
        (row["adjusted_mean_u"] for row in found), reverse=True
    )
    for row in found:
        own = [u[pair["pair_id"]] for pair in facts if pair["prompt"] == row["prompt"]]
        assert row["pairs"] == row["known"] == 4
        assert row["adjusted_mean_u"] == pytest.approx((sum(own) + 5 * mean) / 9, rel=1e-5)
        assert row["largest_u"] == pytest.approx(max(own), rel=1e-6)
    assert noisy_prompts(queue_of(store, "r"), least=5) == []


def test_habits_are_those_of_the_analysis(make_store: StoreFactory) -> None:
    store = judgeable(make_store)
    facts = pair_facts(store, "flip20")
    u = dict(zip(*[read_findings(store, "r", "minority")[c].to_pylist()
                   for c in ("pair_id", "minority")], strict=True))  # fmt: skip
    values = np.array([u[pair_id] for pair_id in facts["pair_id"].to_pylist()])
    wanted = annotators(facts, read_votes(store), values).to_pylist()
    found = habits(queue_of(store, "r")).to_pylist()
    assert [row["annotator"] for row in found] == [f"annotator-{k}" for k in range(5)]
    for mine, theirs in zip(found, wanted, strict=True):
        for name in ("votes", "tie_rate", "left_share", "mean_u", "tie_rate_shrunk",
                     "left_share_shrunk", "mean_u_shrunk"):  # fmt: skip
            assert mine[name] == pytest.approx(theirs[name], rel=1e-5), name
        assert mine["agreement"] is None


def test_without_votes_there_are_no_habits(tmp_path) -> None:
    assert habits(queue_of(store_of(tmp_path, [("cat", "a", "b", 1.0)]))).num_rows == 0
