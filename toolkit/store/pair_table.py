"""One row per pair: its columns with label, votes, verdict, findings and scores.

The one place where a pair is joined with what is known about it. The desk, conditions, export,
training and analysis all read from here. Columns that can be named:

- the pairs' own; a source's with or without src_
- label and label_weight (under the label set), original_label, is_flipped (the two labels prefer
  different sides)
- votes (how many; on the axis where the label set is one), both_good and both_bad (ties among
  them that say so), annotator and vote_time (of a pair's only vote)
- verdict, curators, differ (the curators disagree)
- with a run, the columns of its finding: `minority`, or `minority_early` for another window
- FINDING.COLUMN of each finding of the run; without a run, of the findings that need none
- SCORER.gap: by how much a scorer puts image_0 above image_1

A score is null if the pair's label differs from the one it was computed under.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from toolkit.conditions import Kind, kind_of, names, to_sql
from toolkit.errors import InputError
from toolkit.preference import lean_sql
from toolkit.schema import SOURCE_PREFIX
from toolkit.store.connection import (
    Connection,
    add_labels,
    connect,
    fetch,
    literal,
    overlay_sql,
    quoted,
)
from toolkit.store.label_sets import ORIGINAL, axis_of, label_sets
from toolkit.store.layout import Store
from toolkit.store.runs import (
    finding_columns,
    finding_file,
    finding_labels,
    finding_schema,
    findings,
    read_findings,
    run_about,
)
from toolkit.store.scores import pair_scores, scorers_in
from toolkit.store.verdicts import resolve, verdict_sql

MINORITY = "minority"
"""The finding whose columns need no prefix."""

PAIR_COLUMNS = (
    *("pair_id", "prompt", "image_0", "image_1", "split", "source", "label", "original_label"),
    *("is_flipped", "votes", "annotator", "verdict"),
)
"""Default columns of a pair table; the columns of a run's finding are appended."""

_VOTES = pa.schema(
    [
        ("votes", pa.int64()),
        ("both_good", pa.int64()),
        ("both_bad", pa.int64()),
        ("annotator", pa.string()),
        ("vote_time", pa.timestamp("us", tz="UTC")),
    ]
)
_VERDICT = pa.schema([("verdict", pa.string()), ("curators", pa.int32()), ("differ", pa.bool_())])


def votes_by_pair(table: str = "votes", axis: str | None = None) -> str:
    """A SELECT of each pair's votes, where it has any; annotator and time if there is one vote.

    `axis`: votes on this axis; None: on which image is preferred overall.
    """
    single = "CASE WHEN count(*) = 1 THEN any_value({}) END AS {}"
    return (
        "SELECT pair_id, count(*) AS votes, count(*) FILTER (both_are = 'good') AS both_good,"
        " count(*) FILTER (both_are = 'bad') AS both_bad,"
        f" {single.format('annotator', 'annotator')}, {single.format('time', 'vote_time')}"
        f" FROM {table}"
        f" WHERE axis IS NOT DISTINCT FROM {literal(axis) if axis else 'NULL'} GROUP BY pair_id"
    )


@dataclass(frozen=True)
class Column:
    """Something that can be named about a pair."""

    name: str
    kind: Kind | None
    """None: a list or the like, which no condition can compare."""
    source: str
    """Where it comes from: pairs, votes, verdict, `finding NAME` or `gap SCORER`."""
    field: pa.Field
    """Name and type in the source."""


class PairColumns(Mapping[str, Column]):
    """Every column that can be named of a store's pairs, by name, and the SQL that joins them.

    Bound to a label set and, for findings, to a run. Findings that were computed under a label set
    which the store does not have are left out: nobody can tell which of their scores still count.
    """

    def __init__(
        self,
        con: Connection,
        store: Store,
        *,
        labels: str = ORIGINAL,
        run: str | None = None,
        finding: str = MINORITY,
        pair_files: list[Path] | None = None,
    ) -> None:
        """Makes the view `labelled` in `con`; `pair_files` as of `add_labels`."""
        self.store, self.labels, self.run, self.finding = store, labels, run, finding
        self._home = run or ""
        self._columns: dict[str, Column] = {}
        add_labels(con, store, labels, pair_files)
        own = fetch(con, "SELECT * EXCLUDE (part, part_row) FROM labelled LIMIT 0").schema
        for source, schema in (("pairs", own), ("votes", _VOTES), ("verdict", _VERDICT)):
            for field in schema:
                self._add(field.name, source, field)
        for name in findings(store, self._home):
            self._add_finding(name)
        for field in own:
            self._add(field.name.removeprefix(SOURCE_PREFIX), "pairs", field)
        for name in scorers_in(store):
            self._add(f"{name}.gap", f"gap {name}", pa.field("gap", pa.float64()))

    def _add(self, name: str, source: str, field: pa.Field) -> None:
        self._columns.setdefault(name, Column(name, kind_of(field.type), source, field))

    def _add_finding(self, name: str) -> None:
        if "pair_id" not in finding_schema(self.store, self._home, name).names:
            return
        if finding_labels(self.store, self._home, name) not in label_sets(self.store):
            return
        for alias, at in finding_columns(self.store, self._home, name).items():
            field = at.field.with_name(alias)
            self._add(f"{name}.{alias}", f"finding {name}", field)
            if name == self.finding:
                self._add(alias, f"finding {name}", field)

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def kinds(self) -> dict[str, Kind]:
        """The names that a condition can use, with their kinds."""
        return {name: column.kind for name, column in self.items() if column.kind is not None}

    def condition(self, text: str, option: str) -> tuple[str, list[Any]]:
        """A condition over the columns as a WHERE clause and its parameters.

        InputError (one sentence, naming `option`) where it is no condition.
        """
        return to_sql(text, {name: column.field.type for name, column in self.items()}, option)

    def check(self, wanted: Sequence[str], *, compared: bool = True) -> None:
        """InputError (one sentence) on a name that is no column, or cannot be `compared`.

        StoreError where the run or its finding, which may have it, does not exist.
        """
        for name in wanted:
            if name not in self:
                if self.run is not None:
                    run_about(self.store, self.run)
                    finding_file(self.store, self.run, self.finding)
                raise InputError(self._absent(name))
            if compared and self[name].kind is None:
                raise InputError(
                    f"Column {name!r} holds {self[name].field.type}, which no condition can "
                    "compare; name a column of numbers, texts, flags or times."
                )

    def _absent(self, name: str) -> str:
        if self.run is None:
            return (
                f"The pairs have no column {name!r} (columns: {', '.join(self)}); name one of "
                f"them, or, for a score, the run that has it with --run; `outvoted analyze "
                f"{self.store.root}` adds scores that need no run."
            )
        prefix = f"{self.finding}."
        own = [column.removeprefix(prefix) for column in self if column.startswith(prefix)]
        others = [column for column in self if "." not in column and column not in own]
        return (
            f"Finding {self.finding!r} has no column {name!r} (columns: {', '.join(own)}; of the "
            f"pairs: {', '.join(others)}); compare one of them, or FINDING.COLUMN of another "
            "finding."
        )

    def select(
        self, con: Connection, wanted: Sequence[str], *, base: str = "labelled", also: str = ""
    ) -> str:
        """A SELECT of these columns under their own names, a row a row of `base`.

        `base`: a table of pair_id, label, original_label and what else is wanted of the pairs' own
        columns; `also`: further columns of it (b.NAME). What the SELECT reads of findings, scores
        and verdicts is registered in `con`.
        """
        fields: dict[str, list[str]] = {}
        for name in wanted:
            fields.setdefault(self[name].source, []).append(self[name].field.name)
        alias = {source: f"s{k}" for k, source in enumerate(fields)} | {"pairs": "b"}
        joins = "".join(
            f" LEFT JOIN {self._source(con, source, read)} {alias[source]} USING (pair_id)"
            for source, read in fields.items()
            if source != "pairs"
        )
        shown = [f"{self._value(self[n], alias[self[n].source])} AS {quoted(n)}" for n in wanted]
        return f"SELECT {', '.join([*([also] if also else []), *shown])} FROM {base} b{joins}"

    def _source(self, con: Connection, source: str, fields: list[str]) -> str:
        """A table with pair_id and these fields."""
        kind, _, name = source.partition(" ")
        if kind == "votes":
            return f"({votes_by_pair(axis=axis_of(self.store, self.labels))})"
        table = quoted(f"__{source}")
        if kind == "verdict":
            con.register(f"__{source}", resolve(self.store))
            return table
        if kind == "gap":
            con.register(f"__{source}", pair_scores(self.store, name))
            return f"(SELECT pair_id, score_0 - score_1 AS gap FROM {table})"
        own = list(dict.fromkeys(["pair_id", *fields]))
        con.register(f"__{source}", read_findings(self.store, self._home, name, own))
        seen = finding_labels(self.store, self._home, name)
        if seen in (self.labels, ORIGINAL):
            return table
        overlay, whole = overlay_sql(self.store, seen)
        changed = "true" if whole else "o.pair_id IS NOT NULL"
        return (
            f"(SELECT f.*, {changed} AS __changed, o.label AS __label FROM {table} f"
            f" LEFT JOIN {overlay} o USING (pair_id))"
        )

    def _value(self, column: Column, alias: str) -> str:
        value = f"{alias}.{quoted(column.field.name)}"
        kind, _, name = column.source.partition(" ")
        if column.source == "votes" and pa.types.is_integer(column.field.type):
            return f"coalesce({value}, 0)"
        if column.source == "verdict" and column.name == "verdict":
            return verdict_sql(f"{alias}.choice", "b.label")
        if kind != "finding":
            return value
        seen = finding_labels(self.store, self._home, name)
        tests = [f"NOT isnan({value})"] if pa.types.is_floating(column.field.type) else []
        if seen != self.labels:
            label = "b.original_label"
            if seen != ORIGINAL:
                label = f"CASE WHEN {alias}.__changed THEN {alias}.__label ELSE {label} END"
            tests.append(f"{lean_sql('b.label')} IS NOT DISTINCT FROM {lean_sql(f'({label})')}")
        return f"CASE WHEN {' AND '.join(tests)} THEN {value} END" if tests else value


def pair_table(
    store: Store,
    *,
    labels: str = ORIGINAL,
    run: str | None = None,
    finding: str = MINORITY,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    option: str = "where",
    pair_ids: Sequence[str] | None = None,
    pair_files: list[Path] | None = None,
    by_id: bool = False,
) -> pa.Table:
    """The pairs with what is known about them: pair_id, then `columns`, in the store's order.

    Args:
        store: An opened store.
        labels: The label set that `label` means.
        run: Whose findings can be named.
        finding: The finding of the run whose columns need no prefix.
        columns: Names listed in the module's docstring; by default `PAIR_COLUMNS`, and the
            finding's columns if a run is given.
        where: A condition of `toolkit.conditions`; pairs that do not pass are left out.
        option: What an error calls the condition.
        pair_ids: These pairs only, in the store's order all the same.
        pair_files: The parts of the pairs, where they were listed before.
        by_id: In the order of pair_id instead.

    Raises:
        InputError: A name is no column, or `where` is no condition.
        StoreError: The store has no such label set.
    """
    with connect(store) as con:
        known = PairColumns(
            con, store, labels=labels, run=run, finding=finding, pair_files=pair_files
        )
        if columns is None:
            there = run and finding in findings(store, run)
            scores = finding_schema(store, run, finding).names if run and there else []
            own = [n for n in scores if n in known and known[n].source == f"finding {finding}"]
            columns = [*PAIR_COLUMNS, *own]
        wanted = list(dict.fromkeys(["pair_id", *columns]))
        known.check(wanted, compared=False)
        test, needed = "true", wanted
        values: list[Any] = []
        if where is not None:
            named = names(where, option)
            known.check(named)
            test, values = known.condition(where, option)
            needed = list(dict.fromkeys([*wanted, *named]))
        rows = known.select(con, needed, also="b.part AS __part, b.part_row AS __row")
        if pair_ids is not None:
            con.register("__among", pa.table({"pair_id": pa.array(list(pair_ids), pa.string())}))
            rows += " SEMI JOIN __among USING (pair_id)"
        shown = ", ".join(map(quoted, wanted))
        order = "pair_id" if by_id else "__part, __row"
        sql = f"SELECT {shown} FROM ({rows}) WHERE {test} ORDER BY {order}"
        return fetch(con, sql, *values)


def pair_facts(store: Store, labels: str = ORIGINAL) -> pa.Table:
    """What an analysis needs of every pair, by pair_id.

    Columns: pair_id, prompt, image_0, image_1, source, split, comparison_id, label, annotator.
    """
    columns = ["prompt", "image_0", "image_1", "source", "split", "comparison_id", "label"]
    columns.append("annotator")
    return pair_table(store, labels=labels, columns=columns, by_id=True)


def column_kinds(
    store: Store, *, labels: str = ORIGINAL, run: str | None = None, finding: str = MINORITY
) -> dict[str, Kind]:
    """What a condition can name, with its kind: number, text, flag or time."""
    with connect(store) as con:
        return PairColumns(con, store, labels=labels, run=run, finding=finding).kinds


def passing(
    store: Store,
    conditions: Sequence[tuple[str, str]],
    *,
    run: str | None = None,
    finding: str = MINORITY,
    labels: str = ORIGINAL,
) -> list[list[str]]:
    """The pair_ids that pass each of the (option, text) conditions, in the store's order.

    InputError names the option whose text is no condition.
    """
    ask: dict[str, Any] = {"run": run, "finding": finding, "labels": labels, "columns": []}
    return [
        list(pair_table(store, where=text, option=option, **ask)["pair_id"].to_pylist())
        for option, text in conditions
    ]


_SOURCE_COLUMNS = {
    "model_0": "VARCHAR",
    "model_1": "VARCHAR",
    "user_id": "VARCHAR",
    "created_at": "TIMESTAMP",
    "sample_weight": "DOUBLE",
}


def pairs_in_order(store: Store, files: list[Path], labels: str = ORIGINAL) -> pa.Table:
    """Every pair of `files`, row for row, with what an export says of it.

    Columns: pair_id, prompt, image_0, image_1, split, label (under the set `labels`),
    original_label, model_0, model_1, sample_weight, annotator, time. Annotator and time are those
    of the pair's only vote, else what the source's columns say.
    """
    own = ["pair_id", "prompt", "image_0", "image_1", "split", "label", "original_label"]
    with connect(store) as con:
        known = PairColumns(con, store, labels=labels, pair_files=files)
        source = {}
        for name, kind in _SOURCE_COLUMNS.items():
            stored = SOURCE_PREFIX + name
            value = f"TRY_CAST({quoted(stored)} AS {kind})"
            source[name] = value if stored in known else f"CAST(NULL AS {kind})"
        there = [SOURCE_PREFIX + name for name in source if SOURCE_PREFIX + name in known]
        wanted = [*own, "annotator", "vote_time", *there]
        rows = known.select(con, wanted, also="b.part, b.part_row")
        return fetch(
            con,
            f"SELECT {', '.join(own)}, {source['model_0']} AS model_0,"
            f" {source['model_1']} AS model_1, {source['sample_weight']} AS sample_weight,"
            f" coalesce(annotator, {source['user_id']}) AS annotator,"
            f" coalesce(CAST(vote_time AS TIMESTAMP), {source['created_at']}) AS time"
            f" FROM ({rows}) ORDER BY part, part_row",
        )
