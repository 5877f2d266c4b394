"""Conditions mean what they say, refuse what does not fit, and null passes nothing."""

from collections.abc import Iterable
from datetime import datetime

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toolkit.pickapic_source import SCHEMA as SOURCE
from tests.toolkit.pickapic_source import source_row, write_source
from toolkit.conditions import to_sql
from toolkit.errors import InputError
from toolkit.files.atomic import write_part
from toolkit.ingest import ingest
from toolkit.store import Store, connect, create_store
from toolkit.store.connection import read_pairs
from toolkit.store.label_sets import planted_flips
from toolkit.store.pair_table import passing
from toolkit.store.queue.tables import QueueColumns, make_queue
from toolkit.store.queue.views import Range, View, ids, make_view
from toolkit.store.runs import write_findings

SCHEMA = pa.schema(
    [
        ("minority", pa.float32()),
        ("votes", pa.int64()),
        ("prompt", pa.string()),
        ("nsfw", pa.bool_()),
        ("time", pa.timestamp("us")),
    ]
)
TYPES = dict(zip(SCHEMA.names, SCHEMA.types, strict=True))
ROWS = pa.Table.from_pylist(
    [
        {
            "minority": minority,
            "votes": k,
            "prompt": ("a Cat's hat", 'so "quoted"', None)[k % 3],
            "nsfw": (True, False, None)[k % 3],
            "time": datetime(2023, 5, 1 + k),
        }
        for k, minority in enumerate([0.1, 0.5, None, 0.9, 0.1, 0.3])
    ],
    schema=SCHEMA,
)


def chosen(text: str) -> list[int]:
    """Numbers of the rows that pass."""
    sql, values = to_sql(text, TYPES)
    con = duckdb.connect()
    con.register("t", ROWS)
    rows = con.execute(f"SELECT votes FROM t WHERE {sql} ORDER BY votes", values).fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("minority > 0.1", [1, 3, 5]),  # .1 in 32 bits is not more than .1
        ("minority >= .1 and minority<=0.3", [0, 4, 5]),
        ("not minority > 0.1", [0, 4]),  # the unknown passes neither way
        ("minority is null", [2]),
        ("minority is not null and nsfw", [0, 3]),
        ("not nsfw", [1, 4]),
        ("nsfw = false or votes in [2, 3]", [1, 2, 3, 4]),
        ("votes not in (0, 1)", [2, 3, 4, 5]),
        ('prompt contains "CAT\'s"', [0, 3]),
        ("prompt = 'so \"quoted\"'", [1, 4]),
        ('prompt = "so \\"quoted\\""', [1, 4]),
        ('time >= "2023-05-05"', [4, 5]),
        ("votes = 1 or votes = 2 and nsfw", [1]),  # `and` binds before `or`
        ("(votes = 1 or votes = 3) and nsfw", [3]),
        ("`votes` != -1 and `minority` == 9e-1", [3]),
        ('prompt = "x\'; DROP TABLE t; --"', []),
    ],
)
def test_a_condition_chooses_the_rows_it_says(text, expected):
    assert chosen(text) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("minority", "is no comparison; write COLUMN > NUMBER"),
        ("minority >", "a value to compare minority with is missing"),
        ('minority > "high"', "minority is a number, and it is compared with a number, not"),
        ("prompt > 'a'", "prompt is a text, and > needs a number or a time"),
        ("votes contains '1'", "votes is a number, and contains needs a text"),
        ("nsfw = 1", "nsfw is a flag, and it is compared with true or false, not 1"),
        ("time > 'soon'", '"soon" is no time like "2023-05-01"'),
        (
            "beauty > 1",
            r"names the column 'beauty', which does not exist \(columns: minority, votes",
        ),
        ("votes > 1 votes", "'votes' is unexpected"),
        ("(votes > 1", r"'\)' is missing"),
        ("votes > 1; DROP", r"cannot be read from '; DROP' on"),
        ("", "a column's name is missing"),
        ("and", "a column's name is needed instead of 'and'"),
        ("votes in [1", r"'\]' is missing"),
    ],
)
def test_what_does_not_fit_is_one_sentence_with_what_is_allowed(text, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        to_sql(text, TYPES, "--drop")
    assert "--drop" in str(caught.value)
    assert "\n" not in str(caught.value)


def truth(condition: tuple, row: dict) -> bool | None:
    """Three-valued truth by hand, for the columns of whole numbers and flags."""
    word, *rest = condition
    if word == "not":
        found = truth(rest[0], row)
        return None if found is None else not found
    if word in ("and", "or"):
        found = [truth(part, row) for part in rest[0]]
        decisive = word == "or"
        if decisive in found:
            return decisive
        return None if None in found else not decisive
    value = row[rest[0]]
    if word == "is null":
        return value is None
    if value is None:
        return None
    return {
        "flag": lambda: value,
        "contains": lambda: rest[1].lower() in value.lower(),
        "in": lambda: value in rest[1],
        ">": lambda: value > rest[1],
        ">=": lambda: value >= rest[1],
        "<": lambda: value < rest[1],
        "<=": lambda: value <= rest[1],
        "=": lambda: value == rest[1],
        "!=": lambda: value != rest[1],
    }[word]()


def written(condition: tuple) -> str:
    """The same condition as a person writes it."""
    word, *rest = condition
    if word == "not":
        return f"not ({written(rest[0])})"
    if word in ("and", "or"):
        return f" {word} ".join(f"({written(part)})" for part in rest[0])
    if word == "flag":
        return str(rest[0])
    if word == "is null":
        return f"{rest[0]} is null"
    if word == "contains":
        return f'{rest[0]} contains "{rest[1]}"'
    return f"{rest[0]} {word} {list(rest[1]) if word == 'in' else rest[1]}"


LEAVES = st.one_of(
    st.tuples(
        st.sampled_from([">", ">=", "<", "<=", "=", "!="]), st.just("votes"), st.integers(-1, 7)
    ),
    st.tuples(st.just("in"), st.just("votes"), st.lists(st.integers(0, 6), min_size=1)),
    st.tuples(st.just("contains"), st.just("prompt"), st.sampled_from(["cat", "Q", "", "%", "'"])),
    st.tuples(st.just("is null"), st.sampled_from(["minority", "prompt", "nsfw"])),
    st.just(("flag", "nsfw")),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(CONDITIONS)
def test_the_database_and_three_valued_logic_by_hand_agree(condition):
    expected = [row["votes"] for row in ROWS.to_pylist() if truth(condition, row) is True]
    assert chosen(written(condition)) == expected


def sentence(text: str) -> str:
    """What is wrong with a text; nothing where it is a condition."""
    try:
        to_sql(text, TYPES)
    except InputError as problem:
        return str(problem)
    return ""


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(codec=None), max_size=30))
def test_any_text_is_a_condition_or_one_sentence(text):
    said = sentence(text)
    assert "\n" not in said
    assert said.encode() or chosen(text) is not None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("(" * 300 + "nsfw" + ")" * 300, "more than 50 parentheses or `not` inside each other"),
        ("not " * 3000 + "nsfw", "more than 50 parentheses or `not` inside each other"),
        ("votes > 1e999", "1e999 is too large"),
        ("prompt = '\udcff'", r"'\\udcff' is not valid UTF-8|is not valid UTF-8"),
        ("\udcff > 1", "cannot be read from"),
        ("lower(prompt) = 'a'", "must be compared|does not exist"),
        ("votes > (select 1)", "it is compared with a number, not"),
        ("votes > 1 -- and more", "cannot be read from '-- and more' on"),
        ("votes > minority", "it is compared with a number, not minority"),
    ],
)
def test_what_would_break_a_parser_is_one_sentence_too(text, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        to_sql(text, TYPES)
    str(caught.value).encode()


def test_many_conditions_may_be_joined_and_names_of_sql_are_columns():
    assert chosen(" or ".join(f"votes = {k}" for k in range(1000))) == [0, 1, 2, 3, 4, 5]
    types = {name: pa.int64() for name in ("if", "case", "order", "select", "left")}
    sql, values = to_sql("if > 1 and case = 2 or order < 3 and select in [4] or left != 5", types)
    assert values == [1, 2, 3, 4, 5]
    assert '"if" > ?' in sql


def test_conditions_over_a_store_know_votes_source_columns_and_findings(make_store):
    store = make_store(pairs=20)
    [cats, votes, none] = passing(
        store,
        [
            ("--where", 'prompt contains "number 2"'),
            ("--where", "votes = 1 and verdict is null"),
            ("--where", "label = 0.5"),
        ],
    )
    assert (len(cats), len(votes), len(none)) == (4, 20, 0)
    with pytest.raises(InputError, match=r"no column 'minority' .*the run that has it with --run"):
        passing(store, [("--drop", "minority > 1")])


RISKY = (0.6, float("nan"), 0.9)
"""Parquet's statistics of these say: from .6 to .9, without nulls."""
ASKED = {
    "risk > 0.5": ["a prompt, number 0", "a prompt, number 2"],
    "risk >= 0.95": [],
    "not risk <= 0.6": ["a prompt, number 2"],
    "risk != 0.6": ["a prompt, number 2"],
    "risk is null": ["a prompt, number 1"],
    "not risk is null and risk < 100": ["a prompt, number 0", "a prompt, number 2"],
}


def risky_source(folder, kind: pa.DataType, drop: tuple[str, ...]):
    made = [source_row(4 * k, label_0=1.0, label_1=0.0, risk=risk) for k, risk in enumerate(RISKY)]
    schema = SOURCE.append(pa.field("risk", kind))
    return write_source(folder / "train.parquet", made, schema=schema, drop=drop)


def prompts_passing(store: Store, texts: Iterable[str]) -> dict[str, list[str]]:
    found = passing(store, [("--where", text) for text in texts])
    with connect(store) as con:
        known = dict(con.execute("SELECT pair_id, prompt FROM pairs").fetchall())
    return {
        text: sorted(known[pair_id] for pair_id in ids)
        for text, ids in zip(texts, found, strict=True)
    }


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
@pytest.mark.parametrize("drop", [(), ("jpg_0", "jpg_1")])
def test_a_nan_of_the_source_comes_in_as_a_null_and_passes_nothing_else(tmp_path, kind, drop):
    source = risky_source(tmp_path, kind, drop)
    assert pq.read_table(source)["risk"].null_count == 0
    store = create_store(tmp_path / "s")
    assert ingest(store, "pickapic", [source]).kept == 3
    [part] = store.folder("pairs").glob("*.parquet")
    assert pq.read_table(part)["src_risk"].null_count == 1
    assert prompts_passing(store, ASKED) == ASKED


def test_a_nan_that_an_earlier_version_left_in_a_part_passes_nothing_either(make_store):
    store = make_store(pairs=3)
    [part] = store.folder("pairs").glob("*.parquet")
    held = pq.read_table(part)
    prompts = pa.array([f"a prompt, number {k}" for k in range(3)])
    held = held.set_column(held.schema.get_field_index("prompt"), "prompt", prompts)
    part.unlink()
    write_part(store.folder("pairs"), held.append_column("src_risk", pa.array(RISKY)))
    assert prompts_passing(store, ASKED) == ASKED
    with connect(store) as con:  # and on the desk: a range, and the order
        make_queue(con, store)
        columns = QueueColumns(con, store)
        for bounds, count in (((0.5, None), 2), ((0.95, None), 0), ((None, 100), 2)):
            view = View(ranges=(Range("risk", *bounds),))
            make_view(con, columns, view)
            assert len(ids(con, view)) == count
        view = View(order="risk")
        make_view(con, columns, view)
        risk = dict(con.execute("SELECT pair_id, src_risk FROM pairs").fetchall())
        assert [risk[pair_id] for pair_id in ids(con, view)] == [0.9, 0.6, None]


def test_each_finding_speaks_of_the_labels_it_was_computed_under(make_store):
    """`other`, of flip20, knows nothing of pairs whose label there is not the one that is meant."""
    store = make_store(pairs=20, run=True)
    flipped = set(planted_flips(store, "flip20"))
    every = read_pairs(store, ["pair_id"])["pair_id"]
    table = pa.table({"pair_id": every, "value": pa.array([0.5] * 20)})
    for name, labels in (("mine", "original"), ("other", "flip20")):
        write_findings(store, "r", name, table, {"labels": labels})
    conditions = [("--where", f"{name} > 0") for name in ("value", "mine.value", "other.value")]
    ask = {"run": "r", "finding": "mine"}
    under, mine, other = passing(store, conditions, labels="original", **ask)
    assert set(under) == set(mine) == set(every.to_pylist())
    assert set(other) == set(every.to_pylist()) - flipped
    under, _, other = passing(store, conditions, labels="flip20", **ask)
    assert set(under) == set(every.to_pylist()) - flipped
    assert set(other) == set(every.to_pylist())
    assert len(flipped) == 4
