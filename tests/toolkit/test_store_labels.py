"""A label set changes the labels it names and no others, and is never overwritten."""

import pyarrow as pa
import pytest

from toolkit.errors import InputError, StoreError
from toolkit.files.atomic import write_whole
from toolkit.store.connection import add_labels, connect, effective_labels, fetch
from toolkit.store.label_sets import label_set_recipe, label_sets, planted_flips, write_label_set
from toolkit.store.runs import finding_labels


def overlay(**labels: float | None) -> pa.Table:
    return pa.table(
        {"pair_id": list(labels), "label": pa.array(list(labels.values()), pa.float64())}
    )


def original(store) -> dict[str, float]:
    table = effective_labels(store)
    return dict(zip(table["pair_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def test_the_original_set_is_there_without_being_written(make_store):
    store = make_store(pairs=8)
    assert label_sets(store) == ["original"]
    assert label_set_recipe(store, "original") == {"kind": "original"}
    assert set(original(store).values()) <= {0.0, 1.0}


def test_an_overlay_changes_what_it_names_and_shows_the_original_beside(make_store):
    store = make_store(pairs=8)
    before = original(store)
    one, two, three, *rest = before
    changes = {one: 0.5, two: None, three: 1 - before[three]}
    write_label_set(store, "mine", overlay(**changes), {"kind": "test"})
    for row in effective_labels(store, "mine").to_pylist():
        assert row["original_label"] == before[row["pair_id"]]
        expected = changes.get(row["pair_id"], before[row["pair_id"]])
        assert row["label"] == expected
    assert original(store) == before
    assert len(rest) == 5


def test_an_overlay_of_nothing_is_the_original(make_store):
    store = make_store(pairs=8)
    write_label_set(store, "same", overlay(), {"kind": "test"})
    assert effective_labels(store, "same").equals(effective_labels(store))


def test_an_overlay_on_a_pair_that_is_not_there_adds_none(make_store):
    store = make_store(pairs=8)
    write_label_set(store, "ghost", overlay(nobody=1.0), {"kind": "test"})
    assert effective_labels(store, "ghost").num_rows == 8


def test_a_set_is_not_overwritten_but_made_again_alike(make_store):
    store = make_store(pairs=8)
    write_label_set(store, "mine", overlay(), {"kind": "test", "seed": 1})
    write_label_set(store, "mine", overlay(), {"kind": "test", "seed": 1})
    with pytest.raises(StoreError, match=r"made another way .*; choose another --name"):
        write_label_set(store, "mine", overlay(), {"kind": "test", "seed": 2})


def test_a_set_cannot_take_the_name_of_the_source_nor_a_path(make_store):
    store = make_store(pairs=8)
    with pytest.raises(StoreError, match="give the set another name"):
        write_label_set(store, "original", overlay(), {})
    with pytest.raises(InputError, match="cannot name a label set"):
        write_label_set(store, "../x", overlay(), {})


def test_an_unknown_set_is_named_with_those_there_are(make_store):
    store = make_store(pairs=8)
    write_label_set(store, "mine", overlay(), {"kind": "test"})
    with pytest.raises(StoreError, match=r"no label set 'yours' \(sets: original, mine\)"):
        effective_labels(store, "yours")


def test_a_set_whose_writing_was_cut_off_is_not_there_and_can_be_made(make_store):
    store = make_store(pairs=8)
    write_label_set(store, "mine", overlay(), {"kind": "test"})
    store.folder("labels", "mine.json").unlink()  # killed between the two files
    assert label_sets(store) == ["original"]
    with pytest.raises(StoreError, match="no label set 'mine'"):
        effective_labels(store, "mine")
    write_label_set(store, "mine", overlay(), {"kind": "another"})
    assert label_set_recipe(store, "mine") == {"kind": "another"}


@pytest.mark.parametrize("damaged", ["mine.json", "mine.parquet"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_damaged_set_is_made_again_by_the_same_command(make_store, damaged, how):
    store = make_store(pairs=8)
    changed = overlay(**{next(iter(original(store))): 0.5})
    write_label_set(store, "mine", changed, {"kind": "test"})
    file = store.folder("labels", damaged)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2]) if how == "cut" else file.unlink()
    write_label_set(store, "mine", changed, {"kind": "test"})
    assert file.read_bytes() == whole
    assert effective_labels(store, "mine")["label"][0].as_py() == 0.5


def test_a_set_never_has_the_labels_of_one_recipe_under_the_name_of_another(make_store):
    store = make_store(pairs=8)
    write_label_set(store, "mine", overlay(), {"kind": "test"})
    write_label_set(
        store, "other", overlay(**{next(iter(original(store))): 0.5}), {"kind": "other"}
    )
    store.folder("labels", "other.parquet").replace(store.folder("labels", "mine.parquet"))
    with pytest.raises(StoreError, match=r"mine.parquet was made by another recipe.*make it again"):
        effective_labels(store, "mine")
    write_label_set(store, "mine", overlay(), {"kind": "test"})
    assert effective_labels(store, "mine").equals(effective_labels(store))


def test_sets_and_findings_of_an_earlier_version_are_read(make_store):
    """Their files say nothing of what they are; the JSON beside them has no checksum."""
    store = make_store(pairs=8)
    pair = next(iter(original(store)))
    write_whole(store.folder("labels", "old.parquet"), overlay(**{pair: 0.5}))
    store.folder("labels", "old.json").write_text('{"kind": "test"}')
    assert label_set_recipe(store, "old") == {"kind": "test"}
    assert effective_labels(store, "old")["label"][0].as_py() == 0.5
    write_label_set(store, "old", overlay(), {"kind": "test"})  # is there already
    assert effective_labels(store, "old")["label"][0].as_py() == 0.5
    scores = pa.table({"pair_id": [pair], "minority": [0.5]})
    write_whole(store.findings("r") / "minority.parquet", scores)
    (store.findings("r") / "minority.json").write_text('{"labels": "old"}')
    assert finding_labels(store, "r", "minority") == "old"


def test_planted_flips_are_known_by_name_and_only_there(make_store):
    store = make_store(pairs=8)
    assert planted_flips(store, "original") is None
    write_label_set(store, "p", overlay(), {"kind": "planted", "flipped": ["a", "b"]})
    assert planted_flips(store, "p") == ["a", "b"]


def test_one_connection_can_change_from_set_to_set(make_store):
    store = make_store(pairs=8)
    [first, *_] = original(store)
    write_label_set(store, "mine", overlay(**{first: 0.5}), {"kind": "test"})
    with connect(store) as con:
        for name, ties in (("mine", 1), ("original", 0)):
            add_labels(con, store, name)
            found = fetch(con, "SELECT count(*) AS n FROM labelled WHERE label = ?", 0.5)
            assert found["n"][0].as_py() == ties
