import pyarrow as pa
import pytest

from analysis.planted import plant, plant_in_store
from tests.factories import StoreFactory
from toolkit.errors import InputError, StoreError
from toolkit.store.connection import effective_labels
from toolkit.store.label_sets import label_set_recipe, label_sets, planted_flips


def labels_of(values: list[float | None]) -> pa.Table:
    ids = [f"p{k:03d}" for k in range(len(values))]
    return pa.table({"pair_id": ids, "label": pa.array(values, pa.float32())})


def test_exactly_the_asked_share_of_decided_labels_is_flipped() -> None:
    overlay = plant(labels_of([1.0, 0.0] * 50 + [0.5] * 7 + [None] * 3), rate=0.2, seed=0)
    assert overlay.num_rows == 20
    for pair, label in zip(*(overlay[c].to_pylist() for c in overlay.column_names), strict=True):
        assert label == float(int(pair[1:]) % 2)


def test_which_pairs_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    table = labels_of([1.0, 0.0] * 50)
    backwards = table.take(list(range(99, -1, -1)))
    assert plant(table, rate=0.3, seed=1).equals(plant(backwards, rate=0.3, seed=1))
    assert not plant(table, rate=0.3, seed=1).equals(plant(table, rate=0.3, seed=2))


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_a_share_outside_0_and_1_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        plant(labels_of([1.0]), rate=rate, seed=0)


def test_the_set_records_what_it_flipped_and_leaves_the_source_alone(
    make_store: StoreFactory,
) -> None:
    store = make_store()
    assert plant_in_store(store, rate=0.2, seed=0, name="flip20") == (8, 40)
    table = effective_labels(store, "flip20").to_pylist()
    changed = [row["pair_id"] for row in table if row["label"] != row["original_label"]]
    assert changed == planted_flips(store, "flip20")
    assert len(changed) == 8
    assert label_sets(store) == ["original", "flip20"]
    assert planted_flips(store, "original") is None


def test_a_set_on_another_carries_its_changes(make_store: StoreFactory) -> None:
    store = make_store()
    plant_in_store(store, rate=0.2, seed=0, name="a")
    plant_in_store(store, rate=0.2, seed=1, name="b", base="a")
    first, second = set(planted_flips(store, "a") or []), set(planted_flips(store, "b") or [])
    table = effective_labels(store, "b").to_pylist()
    changed = {row["pair_id"] for row in table if row["label"] != row["original_label"]}
    assert changed == first ^ second
    assert label_set_recipe(store, "b")["base"] == "a"


def test_planting_again_is_idempotent_and_another_recipe_is_refused(
    make_store: StoreFactory,
) -> None:
    store = make_store()
    plant_in_store(store, rate=0.2, seed=0, name="flip20")
    plant_in_store(store, rate=0.2, seed=0, name="flip20")
    with pytest.raises(StoreError, match="already, made another way"):
        plant_in_store(store, rate=0.3, seed=0, name="flip20")
