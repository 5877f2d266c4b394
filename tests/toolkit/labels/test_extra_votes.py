"""Extra votes outvote labels; what is no vote is a sentence."""

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from app.cli.main import registered
from toolkit.errors import InputError
from toolkit.labels.flips import plant_flips
from toolkit.labels.majority import align_votes, majority, outvote, read_votes
from toolkit.store.connection import effective_labels
from toolkit.store.label_sets import label_set_recipe, planted_flips


def truthful(store, voters=4):
    """Votes of annotators who all know the original label."""
    rows = effective_labels(store).to_pylist()
    return pa.Table.from_pylist(
        [
            {"pair_id": row["pair_id"], "annotator": f"v{k}", "choice": row["label"]}
            for row in rows
            for k in range(voters)
        ]
    )


def test_votes_that_know_better_undo_every_planted_flip(make_store):
    store = make_store()
    plant_flips(store, "flip20", rate=0.2, seed=0)
    made = outvote(store, "voted", truthful(store), "flip20")
    assert (made.changed, made.pairs) == (8, 40)
    for row in effective_labels(store, "voted").to_pylist():
        assert row["label"] == row["original_label"]
    assert label_set_recipe(store, "voted")["changed"] == planted_flips(store, "flip20")


def test_one_vote_against_a_label_changes_nothing_but_keeps_the_base(make_store):
    store = make_store()
    plant_flips(store, "flip20", rate=0.2, seed=0)
    made = outvote(store, "voted", truthful(store, 1), "flip20")
    assert (made.changed, made.pairs) == (0, 40)
    assert made.note == "8 votes were even and keep the label"
    assert effective_labels(store, "voted").equals(effective_labels(store, "flip20"))


def test_votes_on_other_pairs_only_are_a_sentence(make_store):
    votes = pa.table({"pair_id": ["x"], "annotator": ["a"], "choice": [1.0]})
    with pytest.raises(InputError, match="None of the 1 votes is on a pair"):
        outvote(make_store(), "voted", votes)


IDS = ["a", "b", "c", "d"]
LABELS = np.array([1.0, 0.0, 0.5, np.nan])


def votes_of(*rows):
    """(pair_id, annotator, choice) each."""
    names = ("pair_id", "annotator", "choice")
    return pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))


def test_the_majority_of_the_label_and_four_votes_changes_a_label():
    votes = votes_of(
        *[("a", f"s{k}", 0.0) for k in range(3)], ("a", "s3", 1.0),  # 3 : 2 against
        *[("b", f"s{k}", 1.0) for k in range(2)], *[("b", f"s{k}", 0.0) for k in (2, 3)],
        *[("c", f"s{k}", 1.0) for k in range(4)],  # a tie stays the tie it is
    )  # fmt: skip
    after, even = majority(LABELS, *align_votes(votes, IDS))
    assert after.tolist()[:3] == [0.0, 0.0, 0.5]
    assert np.isnan(after[3])
    assert even == 0


def test_an_even_vote_keeps_the_label():
    after, even = majority(LABELS, *align_votes(votes_of(("a", "x", 0.0)), IDS))
    assert (after[0], even) == (1.0, 1)


@pytest.mark.parametrize(
    ("votes", "words"),
    [
        (votes_of(("a", "x", 1.3)), "not 1.3"),
        (pa.table({"pair_id": ["a"]}), "no column annotator, choice"),
    ],
)
def test_votes_that_do_not_fit_are_a_sentence(votes, words):
    with pytest.raises(InputError, match=words):
        align_votes(votes, IDS)


@pytest.mark.parametrize("column", ["annotator", "voice"])
def test_a_file_of_earlier_versions_is_read_alike(tmp_path, column):
    path = tmp_path / "votes.csv"
    path.write_text(f"pair_id,{column},choice\np,007,1\np,7,\n")
    assert read_votes(path).to_pylist() == [
        {"pair_id": "p", "annotator": "007", "choice": 1.0},
        {"pair_id": "p", "annotator": "7", "choice": None},
    ]


@pytest.mark.parametrize("column", ["annotator", "someone"])
def test_votes_of_one_person_again_and_of_nobody_in_particular_count(tmp_path, column):
    path = tmp_path / "votes.csv"
    path.write_text(f"pair_id,{column},choice\n" + f"{IDS[0]},7,0\n" * 2)
    votes = read_votes(path)
    assert votes["annotator"].to_pylist() == (["7", "7"] if column == "annotator" else [None, None])
    row, choice = align_votes(votes, IDS)
    after, _ = majority(np.ones(len(IDS)), row, choice)
    assert after.tolist() == [0.0, *[1.0] * (len(IDS) - 1)]


def test_the_command_says_how_many_labels_were_outvoted(make_store, tmp_path):
    store = make_store()
    rows = effective_labels(store).to_pylist()
    path = tmp_path / "votes.csv"
    lines = [f"{row['pair_id']},{v},{1 - row['label']}\n" for row in rows[:3] for v in "ab"]
    path.write_text("pair_id,annotator,choice\n" + "".join(lines))
    result = CliRunner().invoke(
        registered(), ["labels", "outvote", str(store.root), "--votes", str(path)]
    )
    assert result.exit_code == 0, result.output
    assert "Label set outvoted: 3 of 3 labels differ from original (0 votes were" in result.output
