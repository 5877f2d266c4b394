"""The standard world holds what its record promises, and its truth stays apart."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from toolkit.miniworld.pixel_scorer import read
from toolkit.miniworld.reward import warmth
from toolkit.miniworld.scenes import ATTRIBUTES, parse
from toolkit.miniworld.world import (
    KINDS,
    STANDARD,
    BuiltWorld,
    annotators_of,
    build,
    careless_error,
    comparison,
    oracle,
    prefers_first,
    roster,
)


@pytest.fixture(scope="module")
def built() -> BuiltWorld:
    return build(pairs=1500, seed=0)


def column(built: BuiltWorld, name: str) -> np.ndarray:
    return np.asarray(built.truth.column(name).to_pylist())


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    above = score[positive][:, None] - score[~positive][None]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


def test_a_pair_is_the_same_whatever_the_number_of_pairs(built: BuiltWorld) -> None:
    few = build(pairs=20, seed=0)
    assert few.pairs == built.pairs[:20]
    assert few.truth.equals(built.truth.slice(0, 20))


def test_another_seed_is_another_set_by_the_same_annotators(built: BuiltWorld) -> None:
    other = build(pairs=20, seed=1)
    uids = {pair.image_0_uid for pair in built.pairs}
    assert not uids & {pair.image_0_uid for pair in other.pairs}
    assert {pair.annotator for pair in other.pairs} <= {one.name for one in annotators_of(STANDARD)}


def test_the_record_of_version_1_is_pinned() -> None:
    first = build(pairs=3, seed=0)
    assert STANDARD.version == 1
    assert [(pair.prompt, pair.label, pair.annotator) for pair in first.pairs] == [
        ("a star on a dark background", 0, "annotator-061"),
        ("a small blue cross at the top on a grey background", 0, "annotator-052"),
        ("a yellow star", 1, "annotator-000"),
    ]
    assert first.pairs[0].image_0_uid == "e0c4396fd393368cd2356f1c7dd4bff6"
    assert first.truth.column("reward_gap").to_pylist() == pytest.approx(
        [-0.39699448, -0.87181469, 1.72053068]
    )


def test_every_label_is_correct_erroneous_or_subjective(built: BuiltWorld) -> None:
    kind, label, true = (column(built, name) for name in ("kind", "label", "true_label"))
    assert set(kind) == {"correct", "erroneous", "subjective"}
    assert ((kind == "correct") == (label == true)).all()
    assert (true == (column(built, "reward_gap") > 0)).all()
    assert set(column(built, "annotator_kind")[kind == "subjective"]) == {"minority"}
    assert [pair.label for pair in built.pairs] == label.tolist()


def test_natural_noise_is_moderate(built: BuiltWorld) -> None:
    kind, who = column(built, "kind"), column(built, "annotator_kind")
    assert 0.10 <= np.mean(kind != "correct") <= 0.15
    assert 0.05 <= np.mean(kind[who == "majority"] == "erroneous") <= 0.09
    assert np.mean(kind == "subjective") >= 0.015


def test_each_kind_casts_its_share_of_the_votes(built: BuiltWorld) -> None:
    people = annotators_of(STANDARD)
    for kind in KINDS:
        promised = STANDARD.shares[kind]
        activity = sum(one.activity for one in people if one.kind == kind)
        assert activity == pytest.approx(promised)
        assert np.mean(column(built, "annotator_kind") == kind) == pytest.approx(promised, abs=0.03)


def test_annotators_vote_on_unequal_numbers_of_pairs(built: BuiltWorld) -> None:
    _, votes = np.unique(column(built, "annotator"), return_counts=True)
    assert len(votes) > 90
    assert votes.max() > 10 * np.median(votes) / 3


def test_names_do_not_tell_the_kind() -> None:
    people = roster(1000, STANDARD.shares, seed=3)
    number = np.arange(1000)
    for kind in KINDS:
        mean = number[[one.kind == kind for one in people]].mean()
        assert mean == pytest.approx(499.5, abs=90)


def test_close_pairs_are_where_careless_annotators_err() -> None:
    gaps = np.linspace(0.0, 4.0, 9)
    errors = [careless_error(gap, STANDARD.habits) for gap in gaps]
    assert errors[0] == 0.5
    assert np.all(np.diff(errors) < 0)
    assert errors[-1] == pytest.approx(STANDARD.habits.careless_floor, abs=0.01)
    careless = build(dataclasses.replace(STANDARD, shares=ONLY_CARELESS), pairs=800, seed=2)
    wrong = column(careless, "kind")[column(careless, "annotator_kind") == "careless"] != "correct"
    gap = np.abs(column(careless, "reward_gap"))[column(careless, "annotator_kind") == "careless"]
    assert wrong[gap < 0.5].mean() > wrong[gap > 1.5].mean() + 0.15


def test_votes_follow_the_gap() -> None:
    for kind in KINDS:
        assert prefers_first(kind, 5.0, 5.0, STANDARD.habits) > 0.85
        assert prefers_first(kind, -5.0, -5.0, STANDARD.habits) < 0.15
    assert prefers_first("minority", 5.0, -5.0, STANDARD.habits) < 0.15


def test_the_minority_votes_for_cool_colours(built: BuiltWorld) -> None:
    who, label = column(built, "annotator_kind"), column(built, "label")
    scenes = [comparison(STANDARD, 0, k).scenes for k in range(len(label))]
    warmer = np.array([warmth(first) - warmth(second) for first, second in scenes])
    clear = np.abs(warmer) > 0.5
    chose_warm = (warmer > 0) == (label == 1)
    minority = chose_warm[clear & (who == "minority")].mean()
    assert minority < 0.3
    assert chose_warm[clear & (who == "majority")].mean() > minority + 0.2


def test_most_pairs_differ_in_something_that_was_asked_for(built: BuiltWorld) -> None:
    differ = []
    for index in range(len(built.pairs)):
        behind = comparison(STANDARD, 0, index)
        first, second = behind.scenes
        differ.append(
            any(getattr(first, name) != getattr(second, name) for name in behind.prompt.mentioned)
        )
    assert np.mean(differ) == pytest.approx(1 - STANDARD.close, abs=0.03)


def test_better_makers_keep_to_more_of_the_prompt(built: BuiltWorld) -> None:
    kept: dict[str, list[bool]] = {maker.name: [] for maker in STANDARD.makers}
    for index in range(len(built.pairs)):
        behind = comparison(STANDARD, 0, index)
        for scene, maker in zip(behind.scenes, behind.makers, strict=True):
            asked = behind.prompt.mentioned.items()
            kept[maker] += [getattr(scene, name) == word for name, word in asked]
    best, middle, worst = (np.mean(kept[maker.name]) for maker in STANDARD.makers)
    assert best > middle + 0.05 > worst + 0.1


def test_images_show_what_the_truth_says(built: BuiltWorld) -> None:
    for index in range(0, 200, 9):
        pair, behind = built.pairs[index], comparison(STANDARD, 0, index)
        assert parse(pair.prompt) == behind.prompt
        for data, scene in zip((pair.image_0, pair.image_1), behind.scenes, strict=True):
            reading = read(Image.open(io.BytesIO(data)))
            assert all(reading.best(name) == getattr(scene, name) for name in ATTRIBUTES)


def test_a_pair_record_holds_nothing_of_the_truth(built: BuiltWorld) -> None:
    fields = {field.name for field in dataclasses.fields(built.pairs[0])}
    assert not fields & {"kind", "reward_gap", "own_gap", "true_label", "annotator_kind"}


def test_prompts_come_again_so_that_figures_can_be_grouped_by_prompt(built: BuiltWorld) -> None:
    assert 200 < len({pair.prompt for pair in built.pairs}) <= STANDARD.prompts


def test_the_oracle_finds_planted_flips_as_well_as_natural_noise_lets_it(
    built: BuiltWorld,
) -> None:
    label, true = column(built, "label"), column(built, "true_label")
    planted = np.random.default_rng(0).random(len(label)) < 0.2
    flipped = np.where(planted, 1 - label, label)
    score = oracle(built.truth, flipped)
    assert 0.90 <= auroc(score, planted) <= 0.96
    assert auroc(score, flipped != true) == 1.0


def test_the_oracle_turns_its_sign_with_the_label(built: BuiltWorld) -> None:
    label = column(built, "label")
    assert (oracle(built.truth, 1 - label) == -oracle(built.truth)).all()


ONLY_CARELESS = {"majority": 0.04, "careless": 0.95, "minority": 0.01}
