"""Pairs with graded labels: the side they train on, their share and weight, splits, refusals."""

from dataclasses import replace

import numpy as np
import pytest

from tests.factories import StoreFactory, png
from toolkit.errors import RecipeError, TrainingError
from toolkit.ingest.source import SourceImage, SourceRow
from toolkit.ingest.writer import ingest_rows
from toolkit.labels.stated import labels_of_array
from toolkit.preference import values_of
from toolkit.store import Store, create_store
from toolkit.store.connection import add_trajectory, connect, fetch, read_pairs
from training.pairs import (
    Pairs,
    apply_label_weights,
    apply_verdicts,
    load_pairs,
    refuse_graded,
)
from training.recipe import Recipe, parse_recipe
from training.trainer import train

A, B = (SourceImage(name, png((k, 2, 3))) for k, name in enumerate("ab"))
LABELS = {"even": 0.5, "full": 1.0, "mostly a": 0.7, "mostly b": 0.2, "none": None}


@pytest.fixture
def store(tmp_path) -> Store:
    """A pair a label, without splits; weights 10, 30 and none."""
    made = create_store(tmp_path / "S")
    rows = [SourceRow(prompt, A, B, label) for prompt, label in LABELS.items()]
    rows[2], rows[3] = replace(rows[2], label_weight=10.0), replace(rows[3], label_weight=30.0)
    ingest_rows(made, "mine", rows)
    return made


def by_prompt(pairs: Pairs, values: np.ndarray) -> dict[str, float]:
    return dict(sorted(zip(pairs.prompt, values.tolist(), strict=True)))


def test_a_graded_label_trains_on_the_side_it_leans_to(store):
    pairs = load_pairs(store, labels="original", split="train")
    assert by_prompt(pairs, pairs.label) == {"full": 1.0, "mostly a": 1.0, "mostly b": 0.0}
    assert by_prompt(pairs, pairs.preference) == pytest.approx(
        {"full": 1.0, "mostly a": 0.7, "mostly b": 0.8}
    )
    assert pairs.left_out == {"tie": 1, "unlabelled": 1}
    assert pairs.graded
    k = pairs.prompt.index("mostly b")
    assert (pairs.chosen(k), pairs.rejected(k)) == ("b", "a")


def test_a_verdict_that_agrees_keeps_the_grade_and_another_is_a_full_preference(store):
    pairs = load_pairs(store, labels="original", split="train")
    verdicts = {
        pairs.pair_id[pairs.prompt.index(prompt)]: {"choice": choice, "verdict_id": prompt}
        for prompt, choice in (("mostly a", "image_0"), ("mostly b", "image_0"))
    }
    apply_verdicts(pairs, verdicts, keep="one")
    assert by_prompt(pairs, pairs.label) == {"full": 1.0, "mostly a": 1.0, "mostly b": 1.0}
    assert by_prompt(pairs, pairs.preference) == pytest.approx(
        {"full": 1.0, "mostly a": 0.7, "mostly b": 1.0}
    )
    confirmed = by_prompt(pairs, pairs.force_weight_one)
    assert confirmed == {"full": False, "mostly a": True, "mostly b": False}
    again = load_pairs(store, labels="original", split="train", verdicts=verdicts)
    assert by_prompt(again, again.preference) == by_prompt(pairs, pairs.preference)


def test_label_weights_are_over_their_mean_and_a_missing_one_counts_as_it(store):
    pairs = load_pairs(store, labels="original", split="train")
    apply_label_weights(pairs)
    assert by_prompt(pairs, pairs.weight) == {"full": 1.0, "mostly a": 0.5, "mostly b": 1.5}
    pairs.label_weight[:] = np.nan
    with pytest.raises(RecipeError, match="label of the run's pairs has a weight"):
        apply_label_weights(pairs)


def recipe(name: str, **more) -> Recipe:
    objective = {"name": name} | ({"beta": 1} if name != "sft" else {})
    raw = {"backbone": {"path": "miniature:sd"}, "objective": objective, "steps": 1}
    return parse_recipe(raw | more)


@pytest.mark.parametrize("name", ["sft", "simpo_margin", "diffusion_kto"])
def test_an_objective_without_a_loss_for_them_refuses_graded_labels(store, name):
    pairs = load_pairs(store, labels="original", split="train")
    with pytest.raises(RecipeError, match=rf"{name} cannot train .* 2 labels are graded"):
        refuse_graded(recipe(name), pairs)
    refuse_graded(recipe("diffusion_dpo"), pairs)


def test_pairs_without_a_split_are_trained_on_by_null_and_a_missing_split_is_named(store):
    assert len(load_pairs(store, labels="original", split=None)) == 3
    assert recipe("diffusion_dpo", split=None).split is None
    with pytest.raises(TrainingError, match=r"no pairs of split 'test' \(it has: null 5\)"):
        load_pairs(store, labels="original", split="test")
    ingest_rows(store, "mine", [SourceRow("full", A, B, 1.0, split="train")])
    assert len(load_pairs(store, labels="original", split="train")) == 1
    assert len(load_pairs(store, labels="original", split=None)) == 2


def test_a_run_on_seven_of_ten_is_a_run_of_cdpo(make_store: StoreFactory, recipe_for, tmp_path):
    """Labels of .7 and .3 under DPO move the network as labels of 1 and 0 under cdpo(.3)."""
    store = make_store()
    labels = values_of(read_pairs(store, ["label"])["label"])
    np.save(tmp_path / "soft.npy", 0.3 + 0.4 * labels)
    labels_of_array(store, "soft", str(tmp_path / "soft.npy"))
    rows = {}
    for run, labels, objective in (
        ("soft", "soft", {"name": "diffusion_dpo", "beta": 300}),
        ("hard", "original", {"name": "cdpo", "beta": 300, "a": 0.3}),
    ):
        raw = recipe_for(store, run=run, labels=labels, steps=4, footprints=[],
                         metric={"preset": "history"}).model_dump()  # fmt: skip
        train(parse_recipe(raw | {"objective": objective}))
        with connect(store) as con:
            add_trajectory(con, store, run)
            columns = "pair_id, step, label, err_0[1] AS err, minority, loss"
            table = fetch(con, f"SELECT {columns} FROM trajectory ORDER BY step, pair_id")
        rows[run] = {name: values_of(table[name]) for name in table.column_names[1:]}
    assert set(rows["soft"]["label"]) == {0.0, 1.0}
    for name, values in rows["hard"].items():
        np.testing.assert_allclose(rows["soft"][name], values, rtol=1e-4, atol=1e-6)
    late = rows["hard"]["step"] == 3
    assert np.abs(rows["hard"]["loss"][late] - np.log(2)).max() > 1e-3
