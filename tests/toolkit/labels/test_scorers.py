"""The vote of scorers and label: by hand, with ties and missing scores in it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from analysis.run_analysis import analyze_run
from app.cli.main import registered
from tests.factories import StoreFactory
from toolkit.errors import InputError
from toolkit.files.atomic import parts, write_part
from toolkit.ingest import SOURCES
from toolkit.labels.scorers import agreement_with_labels, vote_of_scorers, votes_of_scorers
from toolkit.scoring import SCORERS
from toolkit.store import Store
from toolkit.store.connection import effective_labels, read_pairs
from toolkit.store.pair_table import passing
from toolkit.store.runs import read_findings
from toolkit.store.scores import SCORES


def give(store: Store, scorer: str, scores: dict[str, float | None]) -> None:
    rows = [
        {
            "image_id": image_id,
            "scorer": scorer,
            "version": "1",
            "preprocessing": "none",
            "dtype": "float64",
            "score": score,
            "reason": None if score is not None else "unreadable",
        }
        for image_id, score in scores.items()
    ]
    write_part(store.folder("scores", scorer), pa.Table.from_pylist(rows, schema=SCORES))


def chosen(store: Store, scorer: str, choices: list[float | None]) -> None:
    """Scores under which `scorer` makes these choices on the pairs, in their order; None: none."""
    pairs = read_pairs(store, ["image_0", "image_1"]).to_pylist()
    scores: dict[str, float | None] = {}
    for pair, choice in zip(pairs, choices, strict=True):
        scores[pair["image_0"]] = choice
        scores[pair["image_1"]] = None if choice is None else 0.5
    give(store, scorer, scores)


def labels(store: Store, name: str = "original") -> list[float]:
    ids = read_pairs(store, ["pair_id"])["pair_id"].to_pylist()
    table = effective_labels(store, name).to_pylist()
    by_id = {row["pair_id"]: row["label"] for row in table}
    return [by_id[pair_id] for pair_id in ids]


@pytest.fixture
def store(make_store: StoreFactory) -> Store:
    """Eight pairs, four scorers: a right, b wrong, c right but for one tie and one missing score,
    d wrong on the first three pairs only."""
    made = make_store(pairs=8)
    true = labels(made)
    wrong = [1 - label for label in true]
    chosen(made, "a", list(true))
    chosen(made, "b", list(wrong))
    chosen(made, "c", [0.5, None, *true[2:]])
    chosen(made, "d", [*wrong[:3], *true[3:]])
    return made


def test_votes_are_choices_ties_and_missing_scores(store: Store) -> None:
    table = votes_of_scorers(store)
    assert table is not None
    assert table.num_rows == 32
    third = [row["choice"] for row in table.to_pylist() if row["annotator"] == "c"]
    assert sorted(third, key=str).count(None) == 1
    assert third.count(0.5) == 1
    wide = votes_of_scorers(store, ["a"], margin=0.5)
    assert wide is not None
    assert set(wide["choice"].to_pylist()) == {0.5}


def test_accuracy_ties_missing_and_agreement_are_the_counted_ones(store: Store) -> None:
    found = agreement_with_labels(store, ["a", "b", "c", "d"])
    told = {row.scorer: row for row in found.accuracies}
    assert [told[name].value for name in "abcd"] == [1.0, 0.0, 1.0, 5 / 8]
    assert (told["c"].pairs, told["c"].ties, told["c"].missing) == (6, 1, 1)
    # Wilson 1927 for 5 of 8 at z = 1.96: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    z2 = 1.959964**2
    centre, spread = 0.625 + z2 / 16, 1.959964 * np.sqrt(0.625 * 0.375 / 8 + z2 / 256)
    assert told["d"].low == pytest.approx((centre - spread) / (1 + z2 / 8))
    assert told["d"].high == pytest.approx((centre + spread) / (1 + z2 / 8))
    # pair 3: a and c for the label, b and d against; pairs 4 to 8: only b against
    assert found.counts == {0: 0, 1: 0, 2: 1, 3: 5, 4: 0}
    assert found.incomplete == 2
    # pairs 1 and 2: label and a against b and d, c silent: even
    assert found.even == 2


def test_the_five_votes_outvote_a_label_and_an_even_vote_leaves_it(store: Store) -> None:
    before = labels(store)
    chosen(store, "e", [1 - label for label in before[:1]] + list(before[1:]))
    made = vote_of_scorers(store, "vote", scorer=["b", "c", "d", "e"])
    assert (made.changed, made.pairs) == (1, 8)
    after = labels(store, "vote")
    assert after[0] == 1 - before[0]  # b, d and e against label; c is a tie
    assert after[1:] == before[1:]


def test_a_scorer_that_knows_the_labels_is_warned_about(store: Store) -> None:
    found = agreement_with_labels(
        store, ["a", "b"], trained_on={"a": ("test",), "b": ("elsewhere",)}
    )
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("a was trained on labels of test")


def test_every_source_that_a_scorer_was_trained_on_is_one_that_can_be_taken_in() -> None:
    """Else no store would ever hold it, and the warning never come."""
    sources = {source.stored_as for source in SOURCES.values()}
    told = {name: set(scorer.trained_on) for name, scorer in SCORERS.items()}
    assert set().union(*told.values()) <= sources
    assert told["pickscore"] == {"pickapic"}
    assert told["image_reward"] == {"imagereward"}
    assert told["hps"] == {"hpd"}


def test_the_command_warns_of_pickscore_on_pickapic(store: Store) -> None:
    for part in parts(store.folder("pairs")):
        table = pq.read_table(part)
        at = table.schema.get_field_index("source")
        source = pa.array(["pickapic"] * table.num_rows)
        pq.write_table(table.set_column(at, table.schema.field(at), source), part)
    true = labels(store)
    for name in ("pickscore", "clip"):
        chosen(store, name, list(true))
    args = [
        "labels",
        "vote",
        str(store.root),
        "--scorer",
        "pickscore",
        "--scorer",
        "clip",
        "--look",
    ]
    told = CliRunner().invoke(registered(), args).output
    warnings = [line for line in told.splitlines() if line.startswith("Warning: ")]
    assert len(warnings) == 1
    assert warnings[0].startswith("Warning: pickscore was trained on labels of pickapic, which")


def test_the_command_tells_and_makes_the_set(store: Store, make_store: StoreFactory) -> None:
    run = CliRunner().invoke
    args = ["labels", "vote", str(store.root), "--scorer", "a", "--scorer", "b", "--scorer", "d"]
    looked = run(registered(), [*args, "--look"])
    assert "a: agrees with original on 100.0%" in looked.output
    assert "Scorers for the label: 3 of 3: 0, 2 of 3: 5, 1 of 3: 3, 0 of 3: 0" in looked.output
    assert "Label set" not in looked.output
    made = run(registered(), args)
    assert "Label set vote: 0 of 8 labels differ from original (3 votes were even" in made.output
    bare = run(registered(), ["labels", "vote", str(make_store(name="bare").root)])
    assert isinstance(bare.exception, InputError)
    assert "has no scores; `outvoted score" in str(bare.exception)


def test_scores_speak_in_a_runs_findings_and_in_conditions(make_store: StoreFactory) -> None:
    made = make_store(pairs=20, run=True)
    true = labels(made)
    for name, row in (("a", true), ("b", [1 - label for label in true])):
        chosen(made, name, list(row))
    pairs = [("--where", "a.gap > 0"), ("--where", "b.gap > 0")]
    first, second = (set(ids) for ids in passing(made, pairs))
    assert len(first) == sum(true)
    assert len(first) + len(second) == 20
    assert not first & second
    analyze_run(made, "r", open_images=False)
    table = read_findings(made, "r", "agreement").to_pylist()
    assert {row["votes"] for row in table} == {2}
    assert {row["against"] for row in table} == {1}
    mixed = [("--where", "agreement.against = 1")]
    assert len(passing(made, mixed, run="r", labels="flip20")[0]) == 20
