"""Random conditions: most are grammatical, and every part may be swapped for a hostile one."""

import random
from collections.abc import Iterator
from datetime import datetime

import duckdb
import pyarrow as pa

from toolkit.conditions import names, to_sql
from toolkit.errors import InputError

TABLE = pa.table(
    {
        "minority": pa.array([0.1, None, float("nan"), 3e38], pa.float32()),
        "gap": pa.array([0.1, None, -1e308, float("inf")], pa.float64()),
        "votes": pa.array([1, None, -(2**63), 2**63 - 1], pa.int64()),
        "few": pa.array([1, None, -128, 127], pa.int8()),
        "prompt": pa.array(["a cat", None, "", 'so "quoted"\n'], pa.string()),
        "nsfw": pa.array([True, None, False, True], pa.bool_()),
        "time": pa.array([datetime(2023, 5, 1), None, datetime.min, datetime.max]),
        "select": pa.array([1, 2, 3, None], pa.int32()),
        "tags": pa.array([["a"], None, [], ["b", "c"]], pa.list_(pa.string())),
    }
)
TYPES = dict(zip(TABLE.column_names, TABLE.schema.types, strict=True))

_NUMBERS = ("0", "1", "-1", ".5", "1e39", "-1e39", "1e308", "1e309", "1e-400", "9" * 40, "9" * 5000)
_NUMBERS += (
    "9223372036854775808",
    "127.5",
    "128",
    "+3",
    "0x10",
    "1_000",
    "nan",
    "inf",
    "1.",
    "--1",
)
_TEXTS = ('"cat"', "'cat'", '""', '"\\""', '"\udcff"', '"\x00"', '"é🐈"', '"2023-05-01"', "'")
_TEXTS += ('"0001-01-01"', '"9999-12-31T23:59:59.999999+14:00"', '"2023-02-30"', '"infinity"')
_SIGNS = (">", "<", ">=", "<=", "=", "==", "!=", "contains", "in", "not in", "is null", "<>", "~")
_HOSTILE = (
    "; drop table t",
    "--",
    "/*",
    "\x00",
    "\udcff",
    "`",
    "$1",
    "?",
    "%s",
    "(",
    ")",
    "[",
    "]",
)


def random_conditions(seed: int, count: int) -> Iterator[str]:
    """`count` conditions, the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        text = _condition(rng, 0)
        if rng.random() < 0.2:
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(_HOSTILE) + text[at + rng.randrange(3) :]
        if rng.random() < 0.02:
            depth = rng.choice((49, 50, 51, 300, 5000))
            text = "(" * depth + text + ")" * depth
        if rng.random() < 0.01:
            text = "not " * rng.choice((49, 51, 3000)) + text
        if rng.random() < 0.01:
            text = " or ".join([text] * rng.choice((100, 2000)))
        yield text


def _condition(rng: random.Random, depth: int) -> str:
    if depth < 3 and rng.random() < 0.4:
        parts = [_condition(rng, depth + 1) for _ in range(rng.randrange(1, 4))]
        text = f" {rng.choice(('and', 'or', 'AND'))} ".join(parts)
        return f"{rng.choice(('', 'not '))}({text})"
    column = rng.choice([*TYPES, *TYPES, "absent", "a.b", "`select`", "`no\udcffname`", "null"])
    sign = rng.choice(_SIGNS)
    value = rng.choice((*_NUMBERS, *_TEXTS, "true", "FALSE", "null", column))
    if rng.random() < 0.8 and column in TYPES:  # what the column's type is compared with
        if pa.types.is_string(TYPES[column]) or pa.types.is_timestamp(TYPES[column]):
            value = rng.choice(_TEXTS)
        elif pa.types.is_boolean(TYPES[column]):
            sign, value = rng.choice(("=", "!=")), rng.choice(("true", "FALSE"))
        else:
            sign, value = rng.choice((*_SIGNS[:7], "in")), rng.choice(_NUMBERS)
    if "in" in sign.split():
        value = f"[{', '.join([value] * rng.randrange(4))}]"
    return f"{column} {sign} {'' if sign == 'is null' else value}"


def attack_condition(text: str, con: duckdb.DuckDBPyConnection) -> str:
    """ "refused" with a sentence, or "passed": it ran. Anything else raises."""
    try:
        names(text)
        sql, values = to_sql(text, TYPES)
    except InputError as problem:
        return refusal(problem)
    con.execute(f"SELECT count(*) FROM attacked WHERE {sql}", values).fetchone()
    return "passed"


def refusal(problem: Exception) -> str:
    """ "refused"; raises where the sentence is none that a terminal can show."""
    text = str(problem)
    text.encode()
    if not text or "\n" in text or len(text) > 2000:
        raise AssertionError(f"no sentence: {text[:200]!r}")
    return "refused"


def connection() -> duckdb.DuckDBPyConnection:
    """DuckDB with TABLE in it."""
    con = duckdb.connect(config={"threads": 1})
    con.register("attacked", TABLE)
    return con
