"""Diagnostics that need no run: hand-made stores and votes, then the models against crowd-kit."""

from itertools import combinations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from analysis.detectors.agreement import agreement, conflicts_of, vote_split
from analysis.detectors.consistency import consistency
from analysis.detectors.data_defects import Look, defects, looks_table, split_leaks
from analysis.detectors.vote_models import (
    dawid_skene,
    glad,
    krippendorff_alpha,
    noisy_bradley_terry,
)
from analysis.evaluate_detectors import natural_minority
from analysis.report.page import render
from analysis.run_analysis import analyze_run
from app.cli.main import registered
from toolkit.errors import InputError
from toolkit.export import export_set
from toolkit.export.policy import Policy
from toolkit.files.atomic import write_part
from toolkit.ids import make_comparison_id
from toolkit.schema import PAIRS, VOTES, conform
from toolkit.store import Store, connect, create_store
from toolkit.store.pair_table import pair_facts, pair_table
from toolkit.store.queue.prompt_noise import cycles
from toolkit.store.queue.tables import QueueColumns, make_queue
from toolkit.store.queue.views import View, ids, make_view
from toolkit.store.runs import findings


def frame(*rows: tuple) -> pa.Table:
    """(prompt, image_0, image_1, label[, split]) each, pair_ids p000, p001 ..."""
    return pa.table(
        {
            "pair_id": [f"p{k:03d}" for k in range(len(rows))],
            "comparison_id": [make_comparison_id(*row[:3]) for row in rows],
            "prompt": [row[0] for row in rows],
            "image_0": [row[1] for row in rows],
            "image_1": [row[2] for row in rows],
            "label": pa.array([row[3] for row in rows], pa.float64()),
            "split": [row[4] if len(row) > 4 else "train" for row in rows],
            "source": ["test"] * len(rows),
        }
    )


def votes_of(*rows: tuple[str, str | None, float]) -> pa.Table:
    names = ("pair_id", "annotator", "choice")
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


@pytest.fixture
def store(tmp_path) -> Store:
    """A cycle with one contradicted label, votes of which one pair is outvoted, one vote on p003,
    and a comparison that occurs in two splits."""
    made = create_store(tmp_path / "votes")
    rows = frame(
        ("cat", "a", "b", 1), ("cat", "b", "c", 1), ("cat", "c", "a", 1),
        ("dog", "d", "e", 1), ("dog", "e", "d", 1, "test"), ("owl", "a", "f", 0),
    )  # fmt: skip
    votes = votes_of(
        *[("p000", f"ann{k}", 0.0) for k in range(4)], ("p000", "eve", 1.0),
        *[("p001", f"ann{k}", 1.0) for k in range(4)], ("p002", None, 1.0), ("p002", None, 0.5),
        ("p005", "ann0", 0.0),
    )  # fmt: skip
    write_part(made.folder("pairs"), conform(rows, PAIRS))
    write_part(made.folder("votes"), conform(votes, VOTES))
    return made


def test_votes_on_a_comparison_count_together_and_one_vote_is_no_agreement():
    pairs = frame(
        ("cat", "a", "b", 1), ("cat", "b", "a", 1), ("dog", "a", "b", 0), ("x", "a", "b", 1)
    )
    votes = votes_of(
        ("p000", "x", 1.0), ("p000", None, 0.5), ("p001", "y", 1.0), ("p002", "x", 1.0)
    )
    first, turned, single, none = vote_split(pairs, votes).to_pylist()
    # x is for a, y for b, one tie: no two of the three agree
    assert [first[k] for k in ("votes", "ties", "against")] == [3, 1, 1]
    assert (first["against_share"], first["agreement"]) == (0.5, 0.0)
    assert first["outvoted"] == pytest.approx(0.5)
    assert [turned[k] for k in ("votes", "ties", "against")] == [3, 1, 1]
    assert [single[k] for k in ("votes", "against")] == [1, 1]
    assert [single[k] for k in ("against_share", "agreement", "outvoted")] == [None, None, None]
    assert none["votes"] == 0
    assert none["agreement"] is None


def test_outvoted_knows_how_many_votes_there_are():
    pairs = frame(("a", "i", "j", 1), ("b", "i", "j", 1), ("c", "i", "j", 0.7))
    cast = [("p000", f"v{k}", float(k > 1)) for k in range(3)]
    cast += [("p001", f"v{k}", float(k > 19)) for k in range(30)]
    cast += [("p002", f"v{k}", 1.0) for k in range(3)]
    few, many, graded = vote_split(pairs, votes_of(*cast))["outvoted"].to_pylist()
    # Beta(3, 2) above 1/2: 1 - (6 x^2 - 8 x^3 + 3 x^4 ...) = 11/16
    assert few == pytest.approx(11 / 16)
    assert many > 0.95
    assert graded == pytest.approx(1 / 16)  # leans to image_0, as all three votes do


def test_patterns_are_counted_for_any_number_of_judges():
    labels = frame(
        ("a", "i", "j", 1), ("b", "i", "j", 1), ("c", "i", "j", 0), ("d", "i", "j", None)
    )
    votes = votes_of(
        ("p000", "s1", 1.0), ("p000", "s2", 0.9), ("p001", "s1", 1.0), ("p001", "s2", 0.0),
        ("p002", "s1", 1.0), ("p003", "s1", 1.0), ("elsewhere", "s1", 0.0),
    )  # fmt: skip
    conflicts = conflicts_of(labels, votes, agreement(labels, votes))
    assert conflicts.patterns == {
        1: {"all with": 0, "mixed": 0, "all against": 1},
        2: {"all with": 1, "mixed": 1, "all against": 0},
    }
    assert [(j.scorer, j.pairs, j.agreed) for j in conflicts.judges] == [("s1", 3, 2), ("s2", 2, 1)]


def test_what_splits_share_is_counted():
    pairs = frame(
        ("cat", "a", "b", 1, "train"), ("cat", "b", "a", 1, "test"), ("cat", "a", "b", 1, "train"),
        ("cat", "a", "z", 1, "test"), ("dog", "a", "b", 1, "test"), ("cat", "q", "r", 1, None),
    )  # fmt: skip
    rows = split_leaks(pairs).to_pylist()
    counts = [[row[k] for k in ("same_comparison", "reversed", "same_image")] for row in rows[:5]]
    assert counts == [[1, 1, 2], [2, 2, 2], [1, 1, 2], [0, 0, 2], [0, 0, 0]]
    assert [row["leak"] for row in rows] == [1.0, 1.0, 1.0, 1.0, 0.0, None]
    assert [row["same_prompt"] for row in rows] == [2, 2, 2, 2, 0, None]
    # By its bytes q is a: the pair's comparison is another, but the image is shared.
    looks = looks_table({"q": Look("A", 0, 9.0), "a": Look("A", 0, 9.0)})
    named = pairs.set_column(6, "split", pa.array([*["train"] * 3, "test", "test", "test"]))
    assert split_leaks(named, looks)["leak"].to_pylist()[5] == 1.0


def test_copies_are_found_whatever_their_ids():
    looks = looks_table(
        {
            "a": Look("A", 0b0, 50.0), "copy": Look("A", 0b0, 50.0),
            "near": Look("N", 0b1111, 50.0),
            "far": Look("F", 0b11111 << 30, 50.0), "flat": Look("0", 0b1, 0.0),
            "beyond": Look("B", 0b11111, 50.0),
        }
    )  # fmt: skip
    pairs = frame(
        ("cat", "a", "copy", 1), ("dog", "near", "far", 1), ("owl", "beyond", "flat", 1),
        ("cat", "a", "a", 1), ("emu", "gone", "gone", 1),
    )  # fmt: skip
    rows = defects(pairs, looks).to_pylist()
    assert [row["identical"] for row in rows] == [True, False, False, True, True]
    assert [row["copies"] for row in rows] == [1, 0, 0, 1, 0]
    # 0b1111 is 4 bits from 0 and 1 from 0b11111, which is 5 from 0
    assert [row["near_copies"] for row in rows] == [1, 2, 1, 1, None]
    assert [row["image_defect"] for row in rows] == [1.0, 0.0, 1.0, 1.0, 1.0]


def test_a_large_prompt_is_counted_whole(tmp_path):
    rng = np.random.default_rng(0)
    pairs = combinations(range(60), 2)
    rows = [("p", f"i{a:03d}", f"i{b:03d}", float(rng.random() < 0.7)) for a, b in pairs]
    wins = np.zeros((60, 60))
    for _, a, b, label in rows:
        one, other = int(a[1:]), int(b[1:])
        wins[(one, other) if label else (other, one)] = 1
    expected = int(np.trace(wins @ wins @ wins)) // 3
    made = create_store(tmp_path / "large")
    write_part(made.folder("pairs"), conform(frame(*rows), PAIRS))
    con = connect(made)
    make_queue(con, made)
    assert cycles(con, limit=3)[0] == expected > 1000
    assert sum(consistency(pair_facts(made))["cycles"].to_pylist()) == 3 * expected


def drawn(tasks: int, voters: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    truth, skill = rng.integers(0, 2, tasks), rng.uniform(0.6, 0.95, voters)
    task, worker = (part.ravel() for part in np.mgrid[:tasks, :voters])
    kept = (rng.random(len(task)) < 0.4) | (worker == 0)
    task, worker = task[kept], worker[kept]
    choice = np.where(rng.random(len(task)) < skill[worker], truth[task], 1 - truth[task])
    return task, worker, np.where(rng.random(len(task)) < 0.1, 2, choice), truth, skill


def test_models_of_votes_agree_with_crowd_kit_and_know_the_truth():
    from crowdkit.aggregation import GLAD, DawidSkene
    from crowdkit.metrics.data import alpha_krippendorff

    task, worker, choice, truth, skill = drawn(200, 12)
    table = pd.DataFrame({"task": task, "worker": worker, "label": choice})
    assert krippendorff_alpha(task, choice) == pytest.approx(alpha_krippendorff(table))
    skene = dawid_skene(task, worker, choice, rounds=4)
    rival = DawidSkene(n_iter=4).fit(table).probas_.reindex(columns=[0, 1, 2])
    assert np.abs(skene.probability - rival.to_numpy()).max() < 1e-6
    ours = glad(task, worker, choice)
    other = GLAD(n_iter=30).fit(table)
    assert np.corrcoef(ours.voter, other.alphas_.sort_index())[0, 1] > 0.99
    same = ours.probability.argmax(axis=1) == other.probas_.reindex(
        columns=[0, 1, 2]
    ).to_numpy().argmax(axis=1)
    assert same.mean() > 0.97
    assert (ours.probability.argmax(axis=1) == truth).mean() > 0.9
    assert np.corrcoef(ours.voter, skill)[0, 1] > 0.8
    chose = choice < 2
    strength, skills = noisy_bradley_terry(
        2 * task[chose], 2 * task[chose] + 1, worker[chose], np.where(choice == 0, 1, -1)[chose],
        images=400,
    )  # fmt: skip
    assert ((strength[1::2] > strength[::2]) == truth).mean() > 0.9
    assert np.corrcoef(skills, skill)[0, 1] > 0.6


def test_a_store_is_analyzed_without_a_run_and_its_findings_are_named(store):
    analysis = analyze_run(store)
    assert findings(store, "") == [
        "annotators", "consistency", "image_defects", "overlap", "split_leaks", "vote_split",
    ]  # fmt: skip
    assert store.runs() == []
    columns = [
        "vote_split.outvoted",
        "consistency.cyclic",
        "split_leaks.leak",
        "vote_split.agreement",
    ]
    table = pair_table(store, columns=columns, by_id=True)
    assert table["split_leaks.leak"].to_pylist() == [0, 0, 0, 1, 1, 0]
    assert table["consistency.cyclic"].to_pylist()[:3] == [1, 1, 1]
    assert table["vote_split.agreement"][5].as_py() is None
    assert table["vote_split.outvoted"][0].as_py() == pytest.approx(1 - 7 / 64)
    assert analysis.ranking == "noisy_bradley_terry"
    assert analysis.suspicious()[0] == 0
    con = connect(store)
    make_queue(con, store)
    view = View(order="vote_split.outvoted")
    make_view(con, QueueColumns(con, store), view)
    assert ids(con, view)[0] == "p000"
    page = render(analysis)
    for text in (
        "Votes and labels of votes", "1 labels have most votes against them", "4 : 1",
        "3 of 3 pairs that share a third image are part of a cycle", "with the sides exchanged",
    ):  # fmt: skip
        assert text.replace("4 : 1", "1 : 4") in " ".join(page.split())


def test_an_export_drops_by_a_finding_without_a_run_and_says_so(store, tmp_path):
    analyze_run(store)
    out = tmp_path / "out"
    result = export_set(
        store, out, Policy(drop="consistency.cyclic > 0", images=False), form="pickapic"
    )
    assert result.counts["dropped"] == 3
    assert "finding consistency" in (out / "curation.json").read_text()


def test_a_score_of_another_label_set_counts_only_where_labels_agree(store):
    from toolkit.labels.flips import plant_flips

    analyze_run(store)
    plant_flips(store, "half", rate=0.5, seed=0)
    table = pair_table(
        store, labels="half", columns=["is_flipped", "consistency.cyclic"], by_id=True
    )
    for flipped, cyclic in zip(
        *(table[n].to_pylist() for n in table.column_names[1:]), strict=True
    ):
        assert cyclic is None or not flipped


def test_the_command_reports_without_a_run_and_refuses_dynamics(store, tmp_path):
    out = tmp_path / "report.html"
    done = CliRunner().invoke(registered(), ["analyze", str(store.root), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "Outvoted labels: 50.0%" in done.output
    assert "<h2>Do the votes agree?</h2>" in out.read_text()
    refused = CliRunner().invoke(registered(), ["analyze", str(store.root), "--dynamics", "d"])
    assert isinstance(refused.exception, InputError)
    assert "name it with --run" in str(refused.exception)


def test_a_store_of_bare_labels_says_that_nothing_is_known(make_store):
    store = make_store(pairs=8)
    for part in store.folder("votes").glob("*.parquet"):
        part.unlink()
    page = " ".join(render(analyze_run(store, open_images=False)).split())
    assert "The store has no votes, only labels" in page


def test_a_vote_that_the_others_contradict_is_a_natural_minority():
    """60 prompts with one pair and 7 votes: 6 for one image, 1 for the other."""
    pairs = frame(*[(f"prompt {k}", "i", "j", 1) for k in range(60)])
    cast = [(f"p{k:03d}", f"v{n}", float(n > 0)) for k in range(60) for n in range(7)]
    result = natural_minority(pairs, votes_of(*cast), seen=2, draws=4)
    assert result.pairs == 240
    first = next(row for row in result.detections if row.name == "outvoted")
    # The label is the odd one in a seventh of the draws, and then both votes seen are against it.
    assert 0.05 < first.base_rate < 0.25
    assert first.auroc.value == 1.0
    with pytest.raises(InputError, match="No pair has 8 votes"):
        natural_minority(pairs, votes_of(*cast), seen=5)
