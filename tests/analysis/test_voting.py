import pyarrow as pa
import pytest
from typer.testing import CliRunner

from analysis.planted import plant_in_store
from analysis.voting import vote_in_store
from app.cli.main import registered
from toolkit.errors import InputError
from toolkit.store.connection import effective_labels
from toolkit.store.label_sets import label_set_recipe, planted_flips


def truthful(store, voices=4):
    """Ballots of voices that all know the original label."""
    rows = effective_labels(store).to_pylist()
    return pa.Table.from_pylist(
        [
            {"pair_id": row["pair_id"], "voice": f"v{k}", "choice": row["label"]}
            for row in rows
            for k in range(voices)
        ]
    )


def test_voices_that_know_better_undo_every_planted_flip(make_store):
    store = make_store()
    plant_in_store(store, rate=0.2, seed=0, name="flip20")
    assert vote_in_store(store, truthful(store), name="voted", base="flip20") == (8, 40)
    for row in effective_labels(store, "voted").to_pylist():
        assert row["label"] == row["original_label"]
    assert label_set_recipe(store, "voted")["changed"] == planted_flips(store, "flip20")


def test_one_voice_against_a_label_changes_nothing_but_keeps_the_base(make_store):
    store = make_store()
    plant_in_store(store, rate=0.2, seed=0, name="flip20")
    assert vote_in_store(store, truthful(store, 1), name="voted", base="flip20") == (0, 40)
    assert effective_labels(store, "voted").equals(effective_labels(store, "flip20"))


def test_ballots_on_strangers_are_a_sentence(make_store):
    ballots = pa.table({"pair_id": ["x"], "voice": ["a"], "choice": [1.0]})
    with pytest.raises(InputError, match="None of the 1 ballots is on a pair"):
        vote_in_store(make_store(), ballots, name="voted")


def test_the_command_says_how_many_labels_were_outvoted(make_store, tmp_path):
    store = make_store()
    rows = effective_labels(store).to_pylist()
    path = tmp_path / "ballots.csv"
    lines = [f"{row['pair_id']},{v},{1 - row['label']}\n" for row in rows[:3] for v in "ab"]
    path.write_text("pair_id,voice,choice\n" + "".join(lines))
    result = CliRunner().invoke(
        registered(), ["labels", "outvote", str(store.root), "--ballots", str(path)]
    )
    assert result.exit_code == 0, result.output
    assert "Label set outvoted: 3 labels outvoted of 3 pairs" in result.output
