"""Label sets from votes, verdicts, gaps and arrays say what was planted, and carry their base."""

import math

import numpy as np
import pyarrow as pa
import pytest

from tests.toolkit.stores import rows
from toolkit.errors import InputError, StoreError
from toolkit.ingest import SourceImage, SourceRow, Vote, ingest_rows
from toolkit.labels.flips import plant_flips
from toolkit.labels.majority import majority_of_votes
from toolkit.labels.stated import labels_of_array, labels_of_verdicts
from toolkit.store import Store, create_store
from toolkit.store.connection import effective_labels
from toolkit.store.journal import Entry, Journal
from toolkit.store.label_sets import label_set_recipe, planted_flips, write_label_set
from toolkit.store.verdicts import publish


def labels(store: Store, name: str = "original") -> dict[str, float | None]:
    table = effective_labels(store, name)
    return dict(zip(table["pair_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def voted(folder) -> tuple[Store, dict[str, str]]:
    """Pairs by prompt, each with the votes of its name; "turned" shows "plain" the other way."""
    store = create_store(folder / "s")

    def row(prompt: str, label: float, choices: list[float], turned: bool = False) -> SourceRow:
        sides = [SourceImage(f"{prompt}-a"), SourceImage(f"{prompt}-b")]
        if turned:
            sides.reverse()
        votes = tuple(Vote(choice, f"u{turned}{n}") for n, choice in enumerate(choices))
        return SourceRow(prompt, *sides, label, votes=votes, distinguishing=(str(turned),))

    made = [
        row("two against one", 1.0, [0, 0, 1]),
        row("even", 1.0, [0, 1]),
        row("tie votes", 0.0, [0.5, 0.5, 1]),
        row("alone", 1.0, [0]),
        row("both ways", 1.0, [1, 0]),
        row("both ways", 1.0, [1, 0, 1], turned=True),  # two for b, one for a
    ]
    ingest_rows(store, "t", made)
    names = [f"{r.prompt}{'-turned' * (r.distinguishing == ('True',))}" for r in made]
    return store, dict(zip(names, [p["pair_id"] for p in rows(store, "pairs")], strict=True))


def test_the_majority_is_counted_over_the_comparison_whichever_way_round(tmp_path):
    store, ids = voted(tmp_path)
    made = majority_of_votes(store, "majority")
    found = labels(store, "majority")
    assert {name: found[pair_id] for name, pair_id in ids.items()} == {
        "two against one": 0.0,
        "even": 0.5,
        "tie votes": 1.0,
        "alone": 1.0,  # one vote is no majority: the original label stays
        "both ways": 0.0,  # a: 1 + 1, b: 1 + 2
        "both ways-turned": 1.0,
    }
    assert (made.pairs, made.changed) == (5, 4)
    assert label_set_recipe(store, "majority")["min_votes"] == 2
    majority_of_votes(store, "one", min_votes=1)
    assert labels(store, "one")[ids["alone"]] == 0.0


def test_without_enough_votes_there_is_no_set(make_store):
    store = make_store(pairs=4)
    with pytest.raises(InputError, match="has 2 votes; add some with `outvoted ingest votes`"):
        majority_of_votes(store, "m")


def test_verdicts_become_labels_over_a_base_that_is_carried(make_store):
    store = make_store(pairs=8)
    before = labels(store)
    ids = list(before)
    write_label_set(
        store,
        "base",
        pa.table({"pair_id": ids[6:], "label": [1 - before[i] for i in ids[6:]]}),
        {"kind": "test"},
    )
    journal = Journal(store.root / "verdicts.sqlite")
    choices = ("image_0", "image_1", "tie", "drop", "unsure")
    journal.record([Entry(ids[k], "c", choice) for k, choice in enumerate(choices)])
    publish(store, journal)
    labels_of_verdicts(store, "curated", base="base")
    expected = dict(before) | {ids[0]: 1.0, ids[1]: 0.0, ids[2]: 0.5, ids[3]: None}
    expected |= {i: 1 - before[i] for i in ids[6:]}
    assert labels(store, "curated") == expected
    journal.record([Entry(ids[5], "c", "tie")])
    publish(store, journal)
    with pytest.raises(StoreError, match="choose another --name"):  # a set is never overwritten
        labels_of_verdicts(store, "curated", base="base")


def test_an_array_comes_in_by_row(make_store, tmp_path):
    store = make_store(pairs=6)
    values = np.array([1, 0, 0.5, math.nan, 1, 0])
    np.save(tmp_path / "l.npy", values)
    labels_of_array(store, "mine", tmp_path / "l.npy")
    ids = [pair["pair_id"] for pair in rows(store, "pairs")]
    found = labels(store, "mine")
    assert [found[i] for i in ids] == [1, 0, 0.5, None, 1, 0]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([1, 0], "and the store has 6 pairs; give one number a pair"),
        (
            [1, 0, 7, 1, 1, 1],
            r"7 in row 2; a label is a number from 0 to 1: 1 \(image_0\), 0 \(image_1\), 0\.5",
        ),
        (["a"] * 6, "contains <U1 of shape"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(make_store, tmp_path, values, sentence):
    np.save(tmp_path / "l.npy", np.array(values))
    with pytest.raises(InputError, match=sentence):
        labels_of_array(make_store(pairs=6), "mine", tmp_path / "l.npy")


def scored(folder, count: int = 4000) -> Store:
    """Pairs whose gap |score_0 - score_1| is k / count: even spread from 0 to 1."""
    store = create_store(folder / "s")
    made = (
        SourceRow(
            "p",
            SourceImage(f"{k}a"),
            SourceImage(f"{k}b"),
            float(k % 2),
            extra={"score_0": 0.5 + k / count / 2, "score_1": 0.5 - k / count / 2},
        )
        for k in range(count)
    )
    ingest_rows(store, "t", made)
    return store


def test_planted_flips_fall_with_the_gap_as_asked(tmp_path):
    store = scored(tmp_path)
    made = plant_flips(store, "hard", rate=0.2, seed=1, by_gap="score", gap_scale=0.25)
    flipped = set(planted_flips(store, "hard"))
    assert made.changed == len(flipped) == 800
    gaps = [
        p["src_score_0"] - p["src_score_1"] for p in rows(store, "pairs") if p["pair_id"] in flipped
    ]
    shares = np.histogram(gaps, bins=4, range=(0, 1))[0] / 1000
    assert all(shares[k] > 1.5 * shares[k + 1] for k in range(3))
    # Drawing without replacement at this rate bends e^-1 = .37 a quarter apart a little upwards.
    assert shares[1] / shares[0] == pytest.approx(math.exp(-1), abs=0.12)


def test_the_same_seed_plants_the_same_flips_and_another_seed_others(tmp_path):
    store = scored(tmp_path, 400)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        plant_flips(store, name, rate=0.1, seed=seed, by_gap="score")
    assert planted_flips(store, "a") == planted_flips(store, "b") != planted_flips(store, "c")


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    store = scored(tmp_path, 10)
    with pytest.raises(InputError, match=r"have no column 'beauty' \(columns: .*src_score_0"):
        plant_flips(store, "x", rate=0.1, seed=0, by_gap="beauty")
    with pytest.raises(InputError, match="has both a preference and a number in 'prompt'"):
        plant_flips(store, "x", rate=0.1, seed=0, by_gap="prompt")
