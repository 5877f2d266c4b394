"""Axes and other sets blend by weight; majorities of votes keep their share and their number."""

from dataclasses import replace

import pytest

from tests.factories import png
from toolkit.errors import InputError, StoreError
from toolkit.ingest.source import AxisLabel, SourceImage, SourceRow, Vote
from toolkit.ingest.writer import ingest_rows
from toolkit.labels import LABEL_MAKERS
from toolkit.labels.flips import plant_flips
from toolkit.labels.majority import majority_of_votes
from toolkit.store import Store, create_store
from toolkit.store.pair_table import pair_table

A, B = (SourceImage(name, png((k, 2, 3))) for k, name in enumerate("ab"))
VOTES = (Vote(1.0, weight=3.0), Vote(1.0), Vote(0.0), Vote(0.0), Vote(0.5), Vote(1.0, axis="x"))


@pytest.fixture
def store(tmp_path) -> Store:
    """Four pairs on two axes; the first has votes: 2.5 of 5, or 4.5 of 7 by trust."""
    made = create_store(tmp_path / "S")
    axes = [
        {"look": AxisLabel(1.0, 10), "text": AxisLabel(0.1, 20)},
        {"look": AxisLabel(0.5), "text": AxisLabel(0.53)},
        {"text": AxisLabel(0.0, 4)},
        {},
    ]
    rows = [SourceRow(f"p{k}", A, B, 1.0, axes=axes[k]) for k in range(4)]
    rows[0] = replace(rows[0], votes=VOTES)
    ingest_rows(made, "mine", rows)
    return made


def labels(store: Store, name: str) -> list[tuple]:
    table = pair_table(store, labels=name, columns=["prompt", "label", "label_weight"])
    rows = sorted(table.to_pylist(), key=lambda row: row["prompt"])
    return [(row["label"], row["label_weight"]) for row in rows]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(0.7, 40 / 3), (0.51, None), (0.0, 4.0), (None, None)]),
        ({"tie_within": 0.01}, [(0.7, 40 / 3), (0.5, None), (0.0, 4.0), (None, None)]),
        ({"decide": True}, [(1.0, 40 / 3), (1.0, None), (0.0, 4.0), (None, None)]),
    ],
)
def test_a_blend_is_the_mean_label_of_the_sets_that_have_one(store, options, expected):
    made = LABEL_MAKERS["blend"](store, "mix", axis=["look=2", "text=1"], **options)
    assert made.pairs == 3
    for (label, weight), (wanted, trust) in zip(labels(store, "mix"), expected, strict=True):
        assert label == (wanted if wanted is None else pytest.approx(wanted))
        assert weight == (trust if trust is None else pytest.approx(trust))


@pytest.mark.parametrize(
    ("axis", "sentence"),
    [
        (["look"], "write a label set and a weight above 0"),
        (["look=-1"], "write a label set and a weight above 0"),
        (["look=nan"], "write a label set and a weight above 0"),
        (["look=1", "look=2"], "names a label set twice"),
        ([], "needs a label set"),
    ],
)
def test_weights_that_are_none_are_refused(store, axis, sentence):
    with pytest.raises(InputError, match=sentence):
        LABEL_MAKERS["blend"](store, "mix", axis=axis)
    with pytest.raises(StoreError, match="no label set 'hue'"):
        LABEL_MAKERS["blend"](store, "mix", axis=["hue=1"])


@pytest.mark.parametrize(
    ("options", "label", "weight"),
    [
        ({}, 0.5, 5.0),
        ({"trust": True}, 1.0, 7.0),
        ({"trust": True, "graded": True}, 4.5 / 7, 7.0),
        ({"trust": True, "graded": True, "tie_within": 0.2}, 0.5, 7.0),
        ({"axis": "x", "min_votes": 1}, 1.0, 1.0),
    ],
)
def test_a_majority_can_be_a_share_with_the_votes_behind_it(store, options, label, weight):
    majority_of_votes(store, "m", **options)
    assert labels(store, "m") == [(pytest.approx(label), weight), *[(1.0, None)] * 3]


def test_a_set_over_an_axis_leaves_other_pairs_unlabelled_and_keeps_weights(store):
    plant_flips(store, "wrong", "text", rate=1.0)
    assert labels(store, "wrong") == [
        (0.9, 20.0),
        (pytest.approx(0.47), None),
        (1.0, 4.0),
        (None, None),
    ]
