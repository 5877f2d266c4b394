"""One row a pair: every join by hand, and scores that count only under their own labels."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import StoreFactory
from toolkit.errors import InputError, StoreError
from toolkit.files.atomic import parts, write_part, write_whole
from toolkit.labels.flips import plant_flips
from toolkit.schema import VOTES
from toolkit.store import Store
from toolkit.store.connection import read_pairs
from toolkit.store.journal import Entry, Journal
from toolkit.store.label_sets import ORIGINAL, planted_flips, write_label_set
from toolkit.store.pair_table import PAIR_COLUMNS, column_kinds, pair_table, passing
from toolkit.store.runs import start_run, write_findings
from toolkit.store.scores import write_scores
from toolkit.store.verdicts import publish


@pytest.fixture
def store(make_store: StoreFactory) -> Store:
    """Ten pairs, 2 of them flipped in flip20, and a run whose u is .05 k under the flipped set."""
    made: Store = make_store(pairs=10)
    plant_flips(made, "flip20", rate=0.2, seed=0)
    start_run(made, "r", {"models": ["policy"], "labels": "flip20"}, "")
    ids = read_pairs(made, ["pair_id"])["pair_id"]
    u = pa.array([k / 20 for k in range(10)])
    write_findings(made, "r", "minority", pa.table({"pair_id": ids, "minority": u}), {})
    return made


def by_id(table: pa.Table, column: str) -> dict[str, object]:
    return dict(zip(table["pair_id"].to_pylist(), table[column].to_pylist(), strict=True))


def test_a_score_of_a_flipped_set_is_compared_only_where_the_label_is_the_one_it_speaks_of(
    store: Store,
) -> None:
    """Nobody says under which labels the finding was computed: the finding does."""
    ids = read_pairs(store, ["pair_id"])["pair_id"].to_pylist()
    flipped = set(planted_flips(store, "flip20") or [])
    high = {pair for k, pair in enumerate(ids) if k / 20 > 0.2}
    conditions = [("--where", "minority > 0.2"), ("--where", "minority is null")]
    above, unknown = passing(store, conditions, run="r")  # under the original labels
    assert set(above) == high - flipped
    assert set(unknown) == flipped
    assert len(flipped) == 2
    above, unknown = passing(store, conditions, run="r", labels="flip20")
    assert set(above) == high
    assert unknown == []
    table = pair_table(store, run="r", columns=["minority", "minority.minority"])
    assert {pair for pair, u in by_id(table, "minority").items() if u is None} == flipped
    assert table["minority"].equals(table["minority.minority"])


def test_a_third_label_set_is_compared_pair_by_pair(store: Store) -> None:
    """`mine` turns one pair that flip20 turns too, and one that it does not."""
    table = pair_table(store, labels="flip20", columns=["label", "original_label", "is_flipped"])
    rows = table.to_pylist()
    turned = next(row for row in rows if row["is_flipped"])
    right = next(row for row in rows if not row["is_flipped"])
    assert turned["label"] == 1 - turned["original_label"]
    overlay = [
        {"pair_id": turned["pair_id"], "label": turned["label"]},
        {"pair_id": right["pair_id"], "label": 1 - right["label"]},
    ]
    write_label_set(store, "mine", pa.Table.from_pylist(overlay), {"kind": "imported"})
    known = by_id(pair_table(store, labels="mine", run="r", columns=["minority"]), "minority")
    assert known[turned["pair_id"]] is not None
    assert known[right["pair_id"]] is None
    other = next(r for r in rows if r["is_flipped"] and r["pair_id"] != turned["pair_id"])
    assert known[other["pair_id"]] is None  # mine has the source's label there, flip20 has not
    assert sum(value is None for value in known.values()) == 2


def test_rows_come_in_the_stores_order_and_pair_id_first(store: Store) -> None:
    (part,) = parts(store.folder("pairs"))
    more = pq.read_table(part)
    names = pa.array([f"zz{k:010d}" for k in range(10)][::-1])
    write_part(store.folder("pairs"), more.set_column(0, "pair_id", names))
    expected = read_pairs(store, ["pair_id"])["pair_id"].to_pylist()
    assert len(expected) == 20
    table = pair_table(store, labels="flip20", run="r", columns=["minority", "votes", "verdict"])
    assert table.column_names == ["pair_id", "minority", "votes", "verdict"]
    assert table["pair_id"].to_pylist() == expected
    some = [expected[14], expected[3]]
    assert pair_table(store, columns=["label"], pair_ids=some)["pair_id"].to_pylist() == some[::-1]
    later = pair_table(store, columns=[], pair_files=[part])
    assert later["pair_id"].to_pylist() == expected[:10]


def test_the_default_columns_are_the_pairs_and_the_findings(store: Store) -> None:
    assert pair_table(store).column_names == list(PAIR_COLUMNS)
    assert pair_table(store, run="r").column_names == [*PAIR_COLUMNS, "minority"]


def test_votes_and_the_annotator_of_the_only_vote(store: Store) -> None:
    ids = read_pairs(store, ["pair_id"])["pair_id"].to_pylist()
    when = datetime(2024, 5, 1, tzinfo=UTC)
    further = [{"pair_id": ids[0], "annotator": "someone else", "choice": 1.0, "time": when}]
    write_part(store.folder("votes"), pa.Table.from_pylist(further, schema=VOTES))
    (part,) = parts(store.folder("pairs"))
    alone = pq.read_table(part).slice(0, 1)
    write_part(store.folder("pairs"), alone.set_column(0, "pair_id", pa.array(["unvoted00000"])))
    rows = pair_table(store, columns=["votes", "annotator"]).to_pylist()
    assert rows[0] == {"pair_id": ids[0], "votes": 2, "annotator": None}
    assert rows[1] == {"pair_id": ids[1], "votes": 1, "annotator": "annotator-1"}
    assert rows[10] == {"pair_id": "unvoted00000", "votes": 0, "annotator": None}


def test_a_verdict_is_held_against_the_label_of_the_set(store: Store, tmp_path) -> None:
    rows = pair_table(store, labels="flip20", columns=["label", "is_flipped"]).to_pylist()
    turned = next(row for row in rows if row["is_flipped"])
    right = next(row for row in rows if not row["is_flipped"])
    journal = Journal(tmp_path / "journal.sqlite")
    choice = {1.0: "image_0", 0.0: "image_1"}
    journal.record(
        [
            Entry(turned["pair_id"], "ada", choice[1 - turned["label"]]),  # the source's label
            Entry(right["pair_id"], "ada", "drop"),
        ]
    )
    publish(store, journal)
    columns = ["verdict", "curators"]
    now = {r["pair_id"]: r for r in pair_table(store, columns=columns).to_pylist()}
    assert now[turned["pair_id"]] == {
        "pair_id": turned["pair_id"],
        "verdict": "keep",
        "curators": 1,
    }
    assert now[right["pair_id"]]["verdict"] == "drop"
    assert sum(row["verdict"] is None for row in now.values()) == 8
    flipped = pair_table(store, labels="flip20", columns=["verdict"], where='verdict = "flip"')
    assert flipped["pair_id"].to_pylist() == [turned["pair_id"]]


def test_source_columns_scores_of_scorers_and_nan(store: Store) -> None:
    (part,) = parts(store.folder("pairs"))
    table = pq.read_table(part)
    risk = [float("nan"), *(k / 10 for k in range(1, 10))]
    tags = pa.array([["a"], *([[]] * 9)], pa.list_(pa.string()))
    table = table.append_column("src_risk", pa.array(risk)).append_column("src_tags", tags)
    write_whole(part, table)
    about = {"scorer": "s", "version": "1", "preprocessing": "none", "dtype": "float32"}
    first = table.slice(0, 1).to_pylist()[0]
    write_scores(
        store,
        "s",
        [{**about, "image_id": first[f"image_{k}"], "score": (2.5, 1.0)[k]} for k in (0, 1)],
    )
    rows = pair_table(store, columns=["risk", "src_risk", "tags", "s.gap"]).to_pylist()
    assert (rows[0]["risk"], rows[0]["tags"], rows[0]["s.gap"]) == (None, ["a"], 1.5)
    assert (rows[1]["src_risk"], rows[1]["s.gap"]) == (0.1, None)
    kinds = column_kinds(store, run="r")
    expected = {
        "risk": "number", "src_risk": "number", "s.gap": "number", "minority.minority": "number",
        "minority": "number", "prompt": "text", "is_flipped": "flag", "vote_time": "time",
    }  # fmt: skip
    assert {name: kinds.get(name) for name in expected} == expected
    assert "tags" not in kinds
    with pytest.raises(InputError, match=r"'tags' holds list<.*>, which no condition can compare"):
        pair_table(store, where="tags is null")


def test_the_runs_own_score_is_meant_where_the_source_has_one_of_that_name(store: Store) -> None:
    (part,) = parts(store.folder("pairs"))
    table = pq.read_table(part)
    write_whole(part, table.append_column("src_minority", pa.array([7.0] * 10)))
    old = pair_table(store, columns=["minority"])["minority"].to_pylist()
    assert old == [7.0] * 10  # without a run the source's
    new = pair_table(store, labels="flip20", run="r", columns=["minority", "src_minority"])
    assert new["minority"].to_pylist() == [k / 20 for k in range(10)]
    assert new["src_minority"].to_pylist() == old


def test_a_finding_whose_label_set_is_not_there_cannot_be_named(store: Store) -> None:
    ids = read_pairs(store, ["pair_id"])
    score = ids.append_column("score", pa.array([0.5] * 10))
    write_findings(store, "r", "stray", score, {"labels": "left at home"})
    with pytest.raises(InputError, match=r"no column 'stray\.score'"):
        pair_table(store, run="r", columns=["stray.score"])
    write_findings(store, "r", "near", score, {"labels": ORIGINAL})
    assert pair_table(store, run="r", columns=["near.score"])["near.score"].null_count == 0


@pytest.mark.parametrize(
    ("columns", "where", "sentence"),
    [
        (["beauty"], None, r"Finding 'minority' has no column 'beauty' \(columns: minority; of"),
        ([], "beauty > 1", "no column 'beauty'"),
        ([], "minority >", "where 'minority >' is no comparison"),
    ],
)
def test_what_is_not_there_is_one_sentence(store: Store, columns, where, sentence) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        pair_table(store, run="r", columns=columns, where=where)
    assert "\n" not in str(caught.value)


def test_a_run_or_a_finding_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match=r"no run 'other' \(runs: r\)"):
        pair_table(store, run="other", columns=["minority"])
    start_run(store, "fresh", {"models": ["policy"], "labels": "flip20"}, "")
    with pytest.raises(StoreError, match=r"no finding 'minority' .*`outvoted analyze"):
        pair_table(store, run="fresh", where="minority > 0.5")
    assert pair_table(store, run="fresh").column_names == list(PAIR_COLUMNS)


def test_an_empty_store_has_an_empty_table(make_store: StoreFactory) -> None:
    assert pair_table(make_store(pairs=0)).num_rows == 0
