"""What an export asks of a store: every pair in the store's order, and which images are absent.

Conditions of `toolkit.conditions` as SQL, and which pairs of a store pass them.

What a condition can name: prompt, image_0, image_1, label, original_label, split, source, verdict,
votes (how many), the source's own columns (NAME or src_NAME), the columns of a finding, and, as
FINDING.COLUMN, those of the run's other findings, and, as SCORER.gap, by how much a scorer in the
store puts image_0 above image_1. A score counts as null where the pair's label is
not the one that the score was computed under.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from toolkit.conditions import (
    Comparison,
    Condition,
    Contains,
    Flag,
    Joined,
    Kind,
    Membership,
    Not,
    Null,
    names,
    parse,
)
from toolkit.errors import InputError
from toolkit.files.atomic import parts
from toolkit.pairs import SOURCE_PREFIX
from toolkit.store.connection import Connection, connect, effective_labels, fetch, parquet, quoted
from toolkit.store.label_sets import ORIGINAL
from toolkit.store.layout import Store
from toolkit.store.runs import findings, findings_about, read_findings
from toolkit.store.scores import scorers_in, voices
from toolkit.store.verdicts import resolve, verdict_of

_SOURCE_COLUMNS = {
    "model_0": "VARCHAR",
    "model_1": "VARCHAR",
    "user_id": "VARCHAR",
    "created_at": "TIMESTAMP",
    "sample_weight": "DOUBLE",
}


def pair_files(store: Store) -> list[Path]:
    """The pairs' parts of this moment; a reader that walks them twice names them once."""
    return parts(store.folder("pairs"))


def pairs_in_order(
    store: Store, files: list[Path], labels: str = ORIGINAL, seen: str = ORIGINAL
) -> pa.Table:
    """Every pair of `files`, row for row as they lie there, without the source's columns.

    Columns: pair_id, prompt, image_0, image_1, split, label (under the set `labels`),
    original_label, seen_label (under the set `seen`), model_0, model_1, sample_weight, annotator,
    time. Annotator and time are those of the pair's only vote, else what the source's columns say.
    """
    with connect(store) as con:
        under = effective_labels(store, labels)
        con.register("label_under", under)
        con.register("label_seen", under if seen == labels else effective_labels(store, seen))
        if not files:
            con.execute("CREATE VIEW placed AS SELECT *, '' AS place, 0 AS place_row FROM pairs")
        else:
            con.execute(f"CREATE VIEW placed AS {_placed(files)}")
        found = fetch(con, "SELECT * FROM placed LIMIT 0").column_names
        source = {name: _source(name, kind, found) for name, kind in _SOURCE_COLUMNS.items()}
        return fetch(
            con,
            f"""
            SELECT p.pair_id, p.prompt, p.image_0, p.image_1, p.split, l.label, l.original_label,
                s.label AS seen_label, {source["model_0"]} AS model_0,
                {source["model_1"]} AS model_1, {source["sample_weight"]} AS sample_weight,
                coalesce(v.annotator, {source["user_id"]}) AS annotator,
                coalesce(CAST(v.time AS TIMESTAMP), {source["created_at"]}) AS time
            FROM placed p
            LEFT JOIN label_under l USING (pair_id)
            LEFT JOIN label_seen s USING (pair_id)
            LEFT JOIN (
                SELECT pair_id, any_value(annotator) AS annotator, any_value(time) AS time
                FROM votes GROUP BY pair_id HAVING count(*) = 1
            ) v USING (pair_id)
            ORDER BY p.place, p.place_row
            """,
        )


def _placed(files: list[Path]) -> str:
    each = parquet(files).removesuffix(")") + ", filename = '_place', file_row_number = true)"
    return (
        "SELECT * EXCLUDE (_place, file_row_number), _place AS place, "
        f"file_row_number AS place_row FROM {each}"
    )


def _source(name: str, kind: str, found: list[str]) -> str:
    column = SOURCE_PREFIX + name
    return f"TRY_CAST(p.{quoted(column)} AS {kind})" if column in found else f"CAST(NULL AS {kind})"


def absent_images(store: Store, image_ids: pa.ChunkedArray) -> list[str]:
    """Those of the ids that the store's images table does not hold, sorted."""
    with connect(store) as con:
        con.register("wanted", pa.table({"image_id": image_ids}))
        absent = fetch(
            con, "SELECT DISTINCT image_id FROM wanted ANTI JOIN images USING (image_id) ORDER BY 1"
        )
    return list(absent[0].to_pylist())


def images_fingerprint(store: Store) -> str:
    """sha256 over every image_id with its content hash: the images without reading them again."""
    digest = hashlib.sha256()
    with connect(store) as con:
        rows = fetch(con, "SELECT image_id, content_hash FROM images ORDER BY ALL")
    for batch in rows.to_batches():
        for image_id, content in zip(*(column.to_pylist() for column in batch), strict=True):
            digest.update(f"{image_id}\x1f{content}\x1e".encode())
    return digest.hexdigest()


_HIDDEN = ("comparison_id",)


def kinds_of(schema: pa.Schema) -> dict[str, Kind]:
    """The language's types for Arrow columns; lists and the like have none and are left out."""
    test = pa.types
    found: dict[str, Kind] = {}
    for field in schema:
        if test.is_boolean(field.type):
            found[field.name] = "flag"
        elif test.is_integer(field.type) or test.is_floating(field.type):
            found[field.name] = "number"
        elif test.is_string(field.type) or test.is_large_string(field.type):
            found[field.name] = "text"
        elif test.is_timestamp(field.type):
            found[field.name] = "time"
    return found


def to_sql(condition: Condition, schema: pa.Schema) -> tuple[str, list[Any]]:
    """A WHERE clause and its parameters over columns of `schema`.

    A number is compared in the column's own precision: .1 stored in 32 bits is not more than .1.
    """
    match condition:
        case Comparison(column, sign, value):
            return f"{quoted(column)} {sign} {_cast(schema, column)}", [value]
        case Membership(column, members):
            held = ", ".join([_cast(schema, column)] * len(members))
            return f"{quoted(column)} IN ({held})", list(members)
        case Contains(column, text):
            return f"contains(lower({quoted(column)}), lower(?))", [text]
        case Null(column):
            return f"{quoted(column)} IS NULL", []
        case Flag(column):
            return quoted(column), []
        case Not(part):
            sql, values = to_sql(part, schema)
            return f"NOT ({sql})", values
        case Joined(word, parts):
            each = [to_sql(part, schema) for part in parts]
            sql = f" {word.upper()} ".join(f"({sql})" for sql, _ in each)
            return sql, [value for _, values in each for value in values]


def _cast(schema: pa.Schema, column: str) -> str:
    kind = schema.field(column).type
    if pa.types.is_float32(kind):
        return "CAST(? AS FLOAT)"
    return "CAST(? AS TIMESTAMP)" if pa.types.is_timestamp(kind) else "?"


def passing(
    store: Store,
    conditions: Sequence[tuple[str, str]],
    *,
    run: str | None = None,
    finding: str = "minority",
    labels: str = ORIGINAL,
    seen: str = ORIGINAL,
) -> list[list[str]]:
    """The pair_ids that pass each of the (option, text) conditions, in no order.

    `labels` is the set that `label` means, `seen` the one the finding was computed under.
    """
    if not conditions:
        return []
    named = [name for option, text in conditions for name in names(text, option)]
    with connect(store) as con:
        schema = make_candidates(
            con, store, named, run=run, finding=finding, labels=labels, seen=seen
        )
        columns = kinds_of(schema)
        found = []
        for option, text in conditions:
            _check_names(names(text, option), columns, schema, run, finding)
            sql, values = to_sql(parse(text, columns, option), schema)
            rows = fetch(con, f"SELECT pair_id FROM candidates WHERE {sql}", *values)
            found.append(list(rows[0].to_pylist()))
    return found


def column_of(
    store: Store,
    column: str,
    option: str,
    *,
    run: str | None = None,
    finding: str = "minority",
    labels: str = ORIGINAL,
    seen: str = ORIGINAL,
) -> dict[str, float]:
    """A column's numbers by pair_id, nulls left out; named as in a condition."""
    with connect(store) as con:
        schema = make_candidates(
            con, store, [column], run=run, finding=finding, labels=labels, seen=seen
        )
        kinds = kinds_of(schema)
        _check_names([column], kinds, schema, run, finding)
        if kinds[column] != "number":
            raise InputError(f"{option} names {column}, a {kinds[column]}; name a number.")
        sql = f"SELECT pair_id, {quoted(column)} FROM candidates WHERE {quoted(column)} IS NOT NULL"
        rows = fetch(con, sql)
    return dict(zip(*(c.to_pylist() for c in rows.columns), strict=True))


def make_candidates(
    con: Connection,
    store: Store,
    named: Sequence[str],
    *,
    run: str | None,
    finding: str,
    labels: str,
    seen: str,
) -> pa.Schema:
    """Make view `candidates`: a row a pair, with every column that a condition can name."""
    under = effective_labels(store, labels)
    con.register("label_under", under)
    con.register("label_seen", under if seen == labels else effective_labels(store, seen))
    con.register("judged", _judged(store, under))
    own = fetch(con, "SELECT * FROM pairs LIMIT 0").column_names
    hidden = (*_HIDDEN, "label")
    columns = [f"p.{quoted(name)}" for name in own if name not in hidden]
    bare = {name.removeprefix(SOURCE_PREFIX) for name in own if name.startswith(SOURCE_PREFIX)}
    taken = {*own, "original_label", "verdict", "votes"}
    columns += [
        f"p.{quoted(SOURCE_PREFIX + name)} AS {quoted(name)}" for name in sorted(bare - taken)
    ]
    joins, scores = _joined_findings(con, store, named, run, (finding, seen), taken | bare)
    more, gaps = _joined_gaps(con, store, named)
    joins, scores = joins + more, scores + gaps
    con.execute(
        f"CREATE OR REPLACE TEMP VIEW candidates AS SELECT {', '.join(columns)}, l.label,"
        " l.original_label, j.verdict, coalesce(v.votes, 0) AS votes"
        f"{''.join(', ' + score for score in scores)} FROM pairs p"
        " LEFT JOIN label_under l USING (pair_id) LEFT JOIN label_seen s USING (pair_id)"
        " LEFT JOIN judged j USING (pair_id) LEFT JOIN (SELECT pair_id, count(*) AS votes"
        f" FROM votes GROUP BY pair_id) v USING (pair_id){joins}"
    )
    return fetch(con, "SELECT * FROM candidates LIMIT 0").schema


def _joined_findings(
    con: Connection,
    store: Store,
    named: Sequence[str],
    run: str | None,
    main: tuple[str, str],
    taken: set[str],
) -> tuple[str, list[str]]:
    """JOINs of the run's findings that are named, and their columns. `main`: the finding whose
    columns need no prefix, and the label set it was computed under; others say theirs."""
    if run is None:
        return "", []
    finding, seen = main
    wanted = dict.fromkeys([finding, *(name.split(".")[0] for name in named if "." in name)], None)
    joins, scores = "", []
    for number, name in enumerate(wanted):
        if name != finding and name not in findings(store, run):
            continue
        table = read_findings(store, run, name)
        con.register(f"finding_{number}", table)
        joins += f" LEFT JOIN finding_{number} f{number} ON f{number}.pair_id = p.pair_id"
        own = str(findings_about(store, run, name).get("labels", seen))
        met = "s.label"
        if own != seen and name != finding:
            con.register(f"seen_{number}", effective_labels(store, own))
            joins += f" LEFT JOIN seen_{number} s{number} ON s{number}.pair_id = p.pair_id"
            met = f"s{number}.label"
        for column in table.column_names:
            if column == "pair_id":
                continue
            value = f"CASE WHEN l.label = {met} THEN f{number}.{quoted(column)} END"
            if pa.types.is_floating(table.schema.field(column).type):
                held = f"f{number}.{quoted(column)}"
                value = f"CASE WHEN l.label = {met} AND NOT isnan({held}) THEN {held} END"
            if name == finding and column not in taken:
                scores.append(f"{value} AS {quoted(column)}")
            scores.append(f"{value} AS {quoted(f'{name}.{column}')}")
    return joins, scores


def _joined_gaps(con: Connection, store: Store, named: Sequence[str]) -> tuple[str, list[str]]:
    """JOINs of the scorers whose SCORER.gap is named, and these columns."""
    known = scorers_in(store)
    wanted = [name for name in known if f"{name}.gap" in named]
    for number, name in enumerate(wanted):
        con.register(f"gap_{number}", voices(store, [name]))
    joins = "".join(
        f" LEFT JOIN gap_{number} g{number} ON g{number}.pair_id = p.pair_id"
        for number in range(len(wanted))
    )
    columns = [
        f"g{number}.score_0 - g{number}.score_1 AS {quoted(f'{name}.gap')}"
        for number, name in enumerate(wanted)
    ]
    return joins, columns


def _judged(store: Store, under: pa.Table) -> pa.Table:
    """pair_id, verdict: the resolved choice held against the label of the set."""
    outcomes = resolve(store).to_pylist()
    label: Mapping[str, float | None] = {}
    if outcomes:
        ids, values = (under[name].to_pylist() for name in ("pair_id", "label"))
        label = dict(zip(ids, values, strict=True))
    known = [row for row in outcomes if row["pair_id"] in label]
    return pa.table(
        {
            "pair_id": pa.array([row["pair_id"] for row in known], pa.string()),
            "verdict": pa.array(
                [verdict_of(row["choice"], label[row["pair_id"]]) for row in known], pa.string()
            ),
        }
    )


def _check_names(
    named: Sequence[str],
    columns: Mapping[str, Kind],
    schema: pa.Schema,
    run: str | None,
    finding: str,
) -> None:
    for name in named:
        if name in columns:
            continue
        if name in schema.names:
            raise InputError(
                f"Column {name!r} holds {schema.field(name).type}, which no condition can compare;"
                " name a column of numbers, texts, flags or times."
            )
        if run is None:
            raise InputError(
                f"The pairs have no column {name!r} (columns: {', '.join(columns)}); name one of "
                "them, or, for a score, the run that has it with --run."
            )
        prefix = f"{finding}."
        own = [column.removeprefix(prefix) for column in columns if column.startswith(prefix)]
        others = [column for column in columns if "." not in column and column not in own]
        raise InputError(
            f"Finding {finding!r} has no column {name!r} (columns: {', '.join(own)}; of the pairs: "
            f"{', '.join(others)}); compare one of them, or FINDING.COLUMN of another finding."
        )
