"""What a row says of a pair is kept: graded and weighted labels, axes, votes of every kind."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import png
from tests.toolkit.stores import snapshot
from toolkit.errors import StoreError
from toolkit.export import export_set
from toolkit.files.atomic import parts
from toolkit.ingest.source import AxisLabel, SourceImage, SourceRow, Vote
from toolkit.ingest.writer import ingest_rows
from toolkit.store import Store, connect, create_store, open_store
from toolkit.store.connection import fetch
from toolkit.store.integrity import check_store
from toolkit.store.label_sets import label_set_recipe, label_sets, write_label_set
from toolkit.store.migrations import migrate
from toolkit.store.pair_table import pair_table
from toolkit.store.pseudonyms import with_exported_names

A, B = (SourceImage(name, png((k, 2, 3))) for k, name in enumerate("ab"))
ROW = SourceRow("a fox", A, B, 1.0)
COLUMNS = ["label", "label_weight", "is_flipped", "votes"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return create_store(tmp_path / "S")


def known(store: Store, labels: str = "original") -> list[tuple]:
    table = pair_table(store, labels=labels, columns=COLUMNS)
    return [tuple(row[name] for name in COLUMNS) for row in table.to_pylist()]


def votes(store: Store, columns: str) -> list[tuple]:
    with connect(store) as con:
        return con.execute(f"SELECT {columns} FROM votes ORDER BY ALL").fetchall()


def test_a_graded_label_keeps_its_value_and_weight(store):
    summary = ingest_rows(store, "mine", [replace(ROW, label=0.7, label_weight=10.0)])
    assert known(store) == [(0.7, 10.0, False, 0)]
    assert summary.lines()[0].startswith("read 1, kept 1 (tied 0, graded 1, unlabelled 0)")
    assert len(pair_table(store, where="label == 0.7 and label_weight > 9")) == 1


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"label": 1.7}, "the label is no number from 0 to 1"),
        ({"label": float("nan")}, "the label is no number from 0 to 1"),
        ({"label_weight": -1.0}, "the label's weight is no number of 0 or more"),
        ({"label_weight": float("nan")}, "the label's weight is no number of 0 or more"),
        ({"votes": (Vote(2.0),)}, "a vote is no number from 0 to 1"),
        ({"votes": (Vote(1.0, weight=-0.5),)}, "a vote's weight is no number of 0 or more"),
        (
            {"votes": (Vote(1.0, both_are="bad"),)},
            "a vote for one image calls both good or bad",
        ),
        (
            {"axes": {"alignment": AxisLabel(3.0)}},
            "the label of axis alignment is no",
        ),
    ],
)
def test_what_is_no_statement_is_set_aside_with_its_reason(store, wrong, reason):
    summary = ingest_rows(store, "mine", [replace(ROW, **wrong), replace(ROW, prompt="else")])
    assert (summary.kept, summary.quarantined) == (1, 1)
    assert next(iter(summary.reasons)).startswith(reason)


def test_a_vote_keeps_its_axis_trust_grade_and_what_a_tie_means(store):
    given = (
        Vote(1.0, "ann", axis="coherence", weight=0.9, grade="A"),
        Vote(0.5, "ann", both_are="bad", grade="bothbad"),
        Vote(0.5),
        Vote(0.5),
    )
    for _ in range(2):
        ingest_rows(store, "mine", [replace(ROW, votes=given)])
    assert votes(store, "annotator, choice, axis, weight, grade, both_are") == [
        ("ann", 0.5, None, None, "bothbad", "bad"),
        ("ann", 1.0, "coherence", 0.9, "A", None),
        (None, 0.5, None, None, None, None),
        (None, 0.5, None, None, None, None),
    ]
    assert known(store) == [(1.0, None, False, 3)]  # the vote on coherence is not on the preference
    assert len(pair_table(store, where="both_bad == 1 and both_good == 0")) == 1
    assert len(pair_table(store, where="both_bad == 0")) == 0


def test_nothing_that_says_otherwise_is_a_duplicate(store):
    rows = [replace(ROW, label=label) for label in (1.0, 0.0, 0.5, 1.0, 0.0)]
    summary = ingest_rows(store, "mine", rows)
    assert (summary.kept, summary.duplicate) == (3, 2)
    before = snapshot(store)
    again = ingest_rows(store, "mine", rows[::-1])
    assert (again.kept, again.duplicate, snapshot(store)) == (0, 5, before)


def test_votes_of_nobody_in_particular_all_stay_and_come_in_once(store):
    rows = [replace(ROW, label=label) for label in (1.0, 0.0, 1.0, 1.0)]
    for number in range(2):
        summary = ingest_rows(store, "mine", rows, labels_are_votes=True)
        assert (summary.kept, summary.duplicate) == ((4, 0), (0, 4))[number]
    assert votes(store, "annotator, choice") == [(None, 0.0), (None, 1.0), (None, 1.0), (None, 1.0)]
    more = ingest_rows(store, "mine", [*rows, ROW, replace(ROW, label=0.5)], labels_are_votes=True)
    assert (more.kept, more.duplicate) == (2, 4)
    assert len(set(pair_table(store)["pair_id"].to_pylist())) == 6


def test_one_person_may_vote_twice_and_once_at_one_moment(store):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    person = replace(ROW, annotator="7", distinguishing=("7",))
    rows = [person, person, replace(person, time=at, distinguishing=("7", "t"))]
    summary = ingest_rows(store, "mine", [*rows, rows[2]], labels_are_votes=True)
    assert (summary.kept, summary.duplicate) == (3, 1)
    assert len(votes(store, "annotator")) == 3


def test_an_axis_is_a_label_set_of_its_own(store):
    rows = [
        replace(ROW, axes={"coherence": AxisLabel(0.2, 7), "alignment": AxisLabel(None)}),
        replace(ROW, prompt="a cow", axes={"alignment": AxisLabel(1.0)}),
    ]
    for _ in range(2):
        summary = ingest_rows(store, "mine", rows)
    assert summary.duplicate == 2
    assert label_sets(store) == ["original", "alignment", "coherence"]
    assert label_set_recipe(store, "coherence") == {"kind": "axis", "axis": "coherence"}
    assert known(store, "coherence") == [(0.2, 7.0, True, 0), (None, None, True, 0)]
    assert known(store, "alignment") == [(None, None, True, 0), (1.0, None, False, 0)]
    assert known(store) == [(1.0, None, False, 0)] * 2
    assert check_store(store).faults == ()


def test_an_axis_grows_and_a_pair_gets_the_split_it_lacked(store):
    ingest_rows(store, "mine", [ROW, replace(ROW, prompt="a cow")])
    more = replace(ROW, split="test", axes={"coherence": AxisLabel(0.0)})
    summary = ingest_rows(store, "mine", [more, replace(ROW, prompt="an owl", split="train")])
    assert (summary.kept, summary.duplicate) == (1, 1)
    assert "1 pairs in the store got a split or an axis they lacked" in summary.lines()
    assert pair_table(store)["split"].to_pylist() == ["test", None, "train"]
    assert known(store, "coherence")[0][0] == 0.0
    denied = ingest_rows(store, "mine", [replace(ROW, axes={"coherence": AxisLabel(1.0)})])
    assert denied.kept == 1
    assert ingest_rows(store, "mine", [replace(more, split="train")]).kept == 0
    assert pair_table(store)["split"].to_pylist()[0] == "test"


def test_an_axis_does_not_take_the_name_of_another_set(store):
    ingest_rows(store, "mine", [ROW])
    overlay = pa.table({"pair_id": pa.array([], pa.string()), "label": pa.array([], pa.float64())})
    write_label_set(store, "coherence", overlay, {"kind": "t"})
    for axis in ("coherence", "original"):
        row = replace(ROW, prompt=axis, axes={axis: AxisLabel(1.0)})
        with pytest.raises(StoreError, match="has a label set of that name already"):
            ingest_rows(store, "mine", [row])


def test_a_store_of_format_3_opens_after_its_migration_and_takes_graded_labels(store):
    ingest_rows(store, "mine", [replace(ROW, annotator="ann")])
    for name, old in (("pairs", "label"), ("votes", "choice")):
        [part] = parts(store.folder(name))
        table = pq.read_table(part)
        added = ("label_weight", "axis", "weight", "grade", "both_are")
        table = table.drop_columns([column for column in added if column in table.column_names])
        place = table.schema.get_field_index(old)
        table = table.set_column(place, old, table[old].cast(pa.float32()))
        pq.write_table(table, part)
    pair_id = pair_table(store, columns=[])["pair_id"]
    overlay = pa.table({"pair_id": pair_id, "label": pa.array([0.0], pa.float32())})
    write_label_set(store, "other", overlay, {"kind": "t"})
    pq.write_table(overlay, store.folder("labels", "other.parquet"))
    about = store.folder("store.json")
    described = json.loads(about.read_text())
    described.pop("checksum", None)
    about.write_text(json.dumps({**described, "format": 3}))
    with pytest.raises(StoreError, match=r"format 3.*--migrate"):
        open_store(store.root)
    assert migrate(store.root) == [4]
    assert check_store(open_store(store.root)).faults == ()
    assert known(store) == [(1.0, None, False, 1)]
    assert known(store, "other") == [(0.0, None, True, 1)]
    graded = replace(ROW, prompt="a cow", label=0.7, votes=(Vote(0.3, grade="3 of 10"),))
    ingest_rows(store, "mine", [graded])
    assert known(store)[1] == (0.7, None, False, 1)
    with connect(store) as con:
        assert fetch(con, "SELECT choice, grade FROM votes").to_pylist() == [
            {"choice": 1.0, "grade": None},
            {"choice": 0.3, "grade": "3 of 10"},
        ]


def test_two_ingests_at_once_that_disagree_leave_two_pairs(store):
    """The outer one has read its row, not written it, when the inner one takes the pair's id."""

    def rows(others: list[SourceRow]):
        yield replace(ROW, annotator="ann")
        ingest_rows(store, "mine", others)

    summary = ingest_rows(store, "mine", rows([replace(ROW, label=0.0)]))
    assert (summary.kept, summary.duplicate) == (1, 0)
    assert [label for label, *_ in known(store)] == [0.0, 1.0]
    assert [count for *_, count in known(store)] == [0, 1]
    again = replace(ROW, prompt="a cow")
    summary = ingest_rows(store, "mine", iter([again]))
    assert ingest_rows(store, "mine", rows([again])).duplicate == 1
    assert check_store(store).faults == ()


def test_what_a_killed_ingest_left_is_not_written_twice(store):
    row = replace(ROW, annotator="ann", axes={"look": AxisLabel(0.2)}, votes=(Vote(0.0),))
    ingest_rows(store, "mine", [row])
    [pairs] = parts(store.folder("pairs"))  # it was killed before it wrote the pairs
    pairs.unlink()
    ingest_rows(store, "mine", [row])
    assert known(store) == [(1.0, None, False, 2)]
    assert known(store, "look") == [(0.2, None, True, 0)]
    assert check_store(store).faults == ()


def test_an_export_under_an_axis_has_its_labels_and_names_its_files(store, tmp_path):
    ingest_rows(store, "mine", [replace(ROW, axes={"look": AxisLabel(0.2, 7)})])
    export_set(store, tmp_path / "out", labels="look")
    [data] = tmp_path.glob("out/**/*.parquet")
    exported = pq.read_table(data)
    assert exported["label"].to_pylist() == [0.2]
    assert exported["label_0"].to_pylist() == [0.0]
    about = json.loads((tmp_path / "out" / "curation.json").read_text())
    [part] = parts(store.folder("axes"))
    assert f"axes/{part.name}" in about["inputs"]["files"]


def test_nobody_in_particular_has_no_pseudonym(store):
    ingest_rows(store, "mine", [ROW, replace(ROW, prompt="a cow", annotator="ann")])
    shown = with_exported_names(store, pair_table(store, columns=["annotator"]))
    first, second = shown["annotator"].to_pylist()
    assert first is None
    assert second.isdecimal()
