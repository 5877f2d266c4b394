"""Planted flips reverse exactly the share that was asked for, the same pairs for the same seed."""

import pyarrow as pa
import pytest

from tests.factories import StoreFactory
from toolkit.errors import InputError, StoreError
from toolkit.ingest import SourceImage, SourceRow, ingest_rows
from toolkit.labels.flips import plant_flips, planted_count
from toolkit.store import create_store
from toolkit.store.connection import effective_labels
from toolkit.store.label_sets import label_set_recipe, label_sets, planted_flips, write_label_set


def test_exactly_the_asked_share_of_decided_labels_is_flipped(make_store: StoreFactory) -> None:
    store = make_store(pairs=110)
    ids = effective_labels(store)["pair_id"].to_pylist()
    values = [1.0, 0.0] * 50 + [0.5] * 7 + [None] * 3
    overlay = pa.table({"pair_id": ids, "label": pa.array(values, pa.float32())})
    write_label_set(store, "mixed", overlay, {"kind": "test"})
    made = plant_flips(store, "flips", "mixed", rate=0.2, seed=0)
    assert (made.pairs, made.changed) == (100, 20)
    before, after = (effective_labels(store, name).to_pylist() for name in ("mixed", "flips"))
    flipped = set(planted_flips(store, "flips") or [])
    for row, flip in zip(before, after, strict=True):
        expected = 1 - row["label"] if row["pair_id"] in flipped else row["label"]
        assert flip["label"] == expected
    assert planted_count(store, "flips") == (20, 100)


def test_which_pairs_depends_on_the_seed_and_not_on_the_order_of_rows(tmp_path) -> None:
    rows = [
        SourceRow(f"p{k}", SourceImage(f"{k}a"), SourceImage(f"{k}b"), float(k % 2))
        for k in range(100)
    ]
    flips = {}
    for name, ordered in (("forwards", rows), ("backwards", rows[::-1])):
        store = create_store(tmp_path / name)
        ingest_rows(store, "t", ordered)
        for seed in (1, 2):
            plant_flips(store, f"s{seed}", rate=0.3, seed=seed)
            flips[name, seed] = planted_flips(store, f"s{seed}")
    assert flips["forwards", 1] == flips["backwards", 1]
    assert flips["forwards", 1] != flips["forwards", 2]


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_a_share_outside_0_and_1_is_refused(make_store: StoreFactory, rate: float) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        plant_flips(make_store(), "x", rate=rate, seed=0)


def test_the_set_records_what_it_flipped_and_leaves_the_source_alone(
    make_store: StoreFactory,
) -> None:
    store = make_store()
    made = plant_flips(store, "flip20", rate=0.2, seed=0)
    assert (made.changed, made.pairs) == (8, 40)
    assert made.line() == "Label set flip20: 8 of 40 labels differ from original (seed 0)."
    table = effective_labels(store, "flip20").to_pylist()
    changed = [row["pair_id"] for row in table if row["label"] != row["original_label"]]
    assert changed == planted_flips(store, "flip20")
    assert len(changed) == 8
    assert label_sets(store) == ["original", "flip20"]
    assert planted_flips(store, "original") is None


def test_a_set_on_another_carries_its_changes(make_store: StoreFactory) -> None:
    store = make_store()
    plant_flips(store, "a", rate=0.2, seed=0)
    plant_flips(store, "b", "a", rate=0.2, seed=1)
    first, second = set(planted_flips(store, "a") or []), set(planted_flips(store, "b") or [])
    table = effective_labels(store, "b").to_pylist()
    changed = {row["pair_id"] for row in table if row["label"] != row["original_label"]}
    assert changed == first ^ second
    assert label_set_recipe(store, "b")["base"] == "a"


def test_planting_again_is_idempotent_and_another_recipe_is_refused(
    make_store: StoreFactory,
) -> None:
    store = make_store()
    plant_flips(store, "flip20", rate=0.2, seed=0)
    plant_flips(store, "flip20", rate=0.2, seed=0)
    with pytest.raises(StoreError, match="already, made another way"):
        plant_flips(store, "flip20", rate=0.3, seed=0)
