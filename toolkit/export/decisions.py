"""What happens to every pair under a policy: decided once, before a byte is written.

Row k of every array is the k-th pair in the store's order. NaN: no label, or not known.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toolkit.conditions import kind_of, names
from toolkit.errors import InputError
from toolkit.export.policy import Policy, check, weight_column
from toolkit.files.atomic import parts
from toolkit.minority import weight
from toolkit.preference import Floats, Mask, differs, is_decided, is_tie, reverse, values_of
from toolkit.schema import AXIS, AXIS_WEIGHT
from toolkit.store import Store
from toolkit.store.connection import connect, effective_labels
from toolkit.store.label_sets import (
    ORIGINAL,
    axis_of,
    label_set_recipe,
    label_sets,
    planted_beneath,
    planted_flips,
)
from toolkit.store.pair_table import PairColumns, pair_table, pairs_in_order, passing
from toolkit.store.runs import finding_labels, finding_schema, run_about
from toolkit.store.verdicts import PREFERENCE, resolve, verdict_of

SCORES = ("minority", "confidence", "stability")
TIE, UNLABELLED = "a tie, without --keep-ties", "no label, without --keep-unlabelled"
"""Why such pairs are left out."""


@dataclass(frozen=True)
class Plan:
    """The pairs, and what the policy makes of each."""

    files: list[Path]
    """The parts of the pairs table that were read."""
    labels: str
    """The label set."""
    rows: pa.Table
    """Columns of `pairs_in_order`."""
    label: Floats
    """Under the label set, before verdicts and scores."""
    label_weight: Floats
    """What the label under the set rests on."""
    final: Floats
    """The label that is exported."""
    kept: Mask
    weight: Floats
    scores: dict[str, Floats]
    """Of SCORES, NaN where the finding has none or its label is another."""
    verdict: list[str | None]
    decisions: dict[int, dict[str, Any]]
    """Row to {action, why, by, ...}; a row that is absent is exported as it was."""
    planted: Mask
    """True where a planted flip made the label wrong."""
    without_planted: str | None
    """The label set beneath those flips; None where none were planted."""
    axes: dict[str, Floats]
    """Exported column -> values: the label on each axis, and what that label rests on."""

    @property
    def pair_ids(self) -> list[str]:
        """Of every row."""
        return list(self.rows["pair_id"].to_pylist())

    def renamed(self, rename: Callable[[Iterable[str]], list[str]]) -> "Plan":
        """The plan with its pairs under the names that leave the store."""
        names = pa.array(rename(self.pair_ids), pa.string())
        place = self.rows.schema.get_field_index("pair_id")
        return replace(self, rows=self.rows.set_column(place, "pair_id", names))


def make_plan(store: Store, policy: Policy) -> Plan:
    """Decide about every pair. InputError or StoreError says what the policy cannot find."""
    check(policy)
    draft = _Draft(store, policy)
    outside = draft.apply_conditions()
    if policy.run is not None:
        draft.apply_ranking()
    if policy.verdicts:
        draft.apply_verdicts()
    draft.leave_behind(is_tie(draft.final), TIE, policy.keep_ties)
    draft.leave_behind(np.isnan(draft.final), UNLABELLED, policy.keep_unlabelled)
    for row in outside:
        draft.drop(row, "outside --where", "policy", **draft.verdict_facts(row))
    planted, without = _planted(store, draft)
    weight = draft.weights()
    if policy.resample:
        weight = draft.resample(weight)
    return Plan(
        files=draft.files,
        labels=draft.labels,
        rows=draft.rows,
        label=draft.label,
        label_weight=draft.aligned(draft.labels, "label_weight"),
        final=draft.final,
        kept=draft.kept,
        weight=weight,
        scores=draft.scores,
        verdict=draft.verdict,
        decisions=draft.decisions,
        planted=planted,
        without_planted=without,
        axes=draft.axes(),
    )


class _Draft:
    """The plan while it is being made: each method is one rule of the policy."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self.store, self.policy = store, policy
        self.labels = policy.labels or _labels_of_finding(store, policy)
        self.files = parts(store.folder("pairs"))
        self.rows = pairs_in_order(store, self.files, self.labels)
        self.ids = self.rows["pair_id"].combine_chunks()
        self.label = values_of(self.rows["label"])
        size = len(self.label)
        self.final, self.kept = self.label.copy(), np.ones(size, bool)
        self.scores: dict[str, Floats] = {name: np.full(size, np.nan) for name in SCORES}
        self.verdict: list[str | None] = [None] * size
        self.decisions: dict[int, dict[str, Any]] = {}

    def aligned(self, label_set: str, column: str) -> Floats:
        """A column of `effective_labels`, row by row."""
        table = effective_labels(self.store, label_set)
        place = pc.index_in(self.ids, value_set=table["pair_id"].combine_chunks())
        return values_of(table[column].take(place))

    def axes(self) -> dict[str, Floats]:
        """The columns of every axis; weights where there are any."""
        names = [name for name in label_sets(self.store) if axis_of(self.store, name)]
        labels = {AXIS + name: self.aligned(name, "label") for name in names}
        weights = {AXIS_WEIGHT + name: self.aligned(name, "label_weight") for name in names}
        return labels | {name: w for name, w in weights.items() if not np.isnan(w).all()}

    @property
    def reading(self) -> dict[str, Any]:
        """What the pair table needs to know: label set, run and finding."""
        return {
            "labels": self.labels,
            "run": self.policy.run,
            "finding": self.policy.finding,
        }

    def drop(self, row: int, why: str, by: str, **facts: Any) -> None:
        """Leave a pair out."""
        self.kept[row] = False
        self.decisions[row] = {"action": "dropped", "why": why, "by": by, **facts}

    def relabel(self, row: int, label: float, why: str, by: str, **facts: Any) -> None:
        """Give a pair another label."""
        self.final[row] = label
        action = "tied" if is_tie(label) else "flipped"
        self.decisions[row] = {"action": action, "why": why, "by": by, **facts}

    def verdict_facts(self, row: int) -> dict[str, Any]:
        """What a verdict has added to the row's decision."""
        known = self.decisions.get(row, {})
        return {name: known[name] for name in ("verdict", "verdict_id") if name in known}

    def apply_conditions(self) -> Sequence[int]:
        """Flip, then drop, the pairs that pass; the rows outside `where`."""
        conditions = self.policy.conditions
        passed = passing(self.store, conditions, **self.reading)
        owners = self._owners([names(text, option) for option, text in conditions])
        outside: Sequence[int] = ()
        drops = []
        for (option, text), ids, by in zip(conditions, passed, owners, strict=True):
            place = pc.index_in(pa.array(ids, pa.string()), value_set=self.ids)
            rows = np.sort(place.drop_null().to_numpy())
            why = " ".join(text.split())
            if option == "--where":
                outside = np.setdiff1d(np.arange(len(self.label)), rows).tolist()
            elif option == "--drop":
                drops.append((rows, why, by))
            else:
                for row in rows[is_decided(self.label[rows])].tolist():
                    self.relabel(row, float(reverse(self.label[row])), why, by)
        for rows, why, by in drops:
            for row in rows.tolist():
                self.drop(row, why, by)
        return outside

    def _owners(self, named: Sequence[Iterable[str]]) -> list[str]:
        """For each condition's columns, who decides: the findings among them, else "condition"."""
        if not named:
            return []
        with connect(self.store) as con:
            known = PairColumns(con, self.store, **self.reading)
            sources = [[known[name].source for name in columns] for columns in named]
        mine = [[s.partition(" ")[2] for s in of if s.startswith("finding ")] for of in sources]
        return [_by(self.policy.run, findings) if findings else "condition" for findings in mine]

    def apply_ranking(self) -> None:
        """Read the finding's scores; drop or flip the pairs with the highest."""
        policy = self.policy
        assert policy.run is not None
        columns = self._finding_columns(policy.run)
        for name in SCORES:
            self.scores[name] = columns.get(name, self.scores[name])
        if policy.reweight and "minority" not in columns:
            raise InputError(
                f"--reweight needs the column minority, and finding {policy.finding!r} has "
                f"{', '.join(columns)}; use --finding minority."
            )
        if share := policy.drop_top or policy.flip_top:
            name = _ranking_column(policy.finding, columns)
            why, by = f"{name} among the top {share:g}", _by(policy.run, [policy.finding])
            for row in self._top(columns[name], share):
                if policy.drop_top:
                    self.drop(row, why, by)
                else:
                    self.relabel(row, float(reverse(self.label[row])), why, by)

    def _finding_columns(self, run: str) -> dict[str, Floats]:
        """The finding's numbers, NaN where the label is not the one that they are about.

        In their own precision: 0.1 stored in 32 bits is not more than 0.1.
        """
        finding = self.policy.finding
        test = pa.types
        schema = finding_schema(self.store, run, finding)
        numbers = [f.name for f in schema if test.is_floating(f.type) or test.is_integer(f.type)]
        named = [f"{finding}.{name}" for name in numbers]
        table = pair_table(self.store, **self.reading, columns=named, pair_files=self.files)
        columns = {}
        for name, values in zip(numbers, table.columns[1:], strict=True):
            kind = values.type if test.is_floating(values.type) else pa.float64()
            columns[name] = values.cast(kind).to_numpy()
        return columns

    def _top(self, score: Floats, share: float) -> list[int]:
        """The rows with the highest scores among those with a score and a choice; ties by id."""
        known = np.flatnonzero(~np.isnan(score) & is_decided(self.label))
        ids = np.asarray(self.ids.to_pylist(), np.str_)[known]
        order = np.lexsort((ids, -score[known]))
        count = int(share * len(known) + 1e-9)  # 0.29 of 100 is 29, whatever floats make of it
        return [int(row) for row in known[order][:count]]

    def apply_verdicts(self) -> None:
        """What curators decided replaces what scores and conditions decided."""
        resolved = resolve(self.store)
        place = pc.index_in(resolved["pair_id"], value_set=self.ids).to_pylist()
        for row, given in zip(place, resolved.to_pylist(), strict=True):
            if row is None:
                continue
            label = None if np.isnan(self.label[row]) else float(self.label[row])
            verdict = verdict_of(given["choice"], label)
            self.verdict[row] = verdict
            facts = {"verdict": verdict, "verdict_id": given["verdict_id"]}
            if verdict == "unsure":
                why = "curators are split" if given["split"] else "a curator is unsure"
                self.decisions.setdefault(row, {"action": "kept", "why": why, "by": "curator"})
                self.decisions[row] |= facts
                continue
            self.kept[row], self.final[row] = True, self.label[row]
            why = f"verdict {verdict}"
            if verdict == "drop":
                self.drop(row, why, "curator", **facts)
            elif verdict == "keep":
                self.decisions[row] = {"action": "kept", "why": why, "by": "curator", **facts}
            else:
                self.relabel(row, PREFERENCE[given["choice"]], why, "curator", **facts)

    def leave_behind(self, mask: Mask, why: str, keep: bool) -> None:
        """Drop what the policy does not `keep`, and say what made it so."""
        for row in () if keep else np.flatnonzero(mask & self.kept).tolist():
            before = self.decisions.get(row)
            full = f"{before['why']}: {why}" if before else why
            by = before["by"] if before else "policy"
            self.drop(row, full, by, **self.verdict_facts(row))

    def weights(self) -> Floats:
        """The source's own sample_weight, times W of Eq. 15 or a column; 1 where unknown."""
        policy, own = self.policy, values_of(self.rows["sample_weight"])
        factor = np.where(np.isfinite(own), own, 1.0)
        same = self.final == self.label  # a score is about the label it was computed under
        if policy.reweight:
            u = np.where(same, self.scores["minority"].astype(np.float64), np.nan)
            return factor * np.asarray(weight(u, "linear", policy.k1))
        if named := weight_column(policy):
            column, subtracted = named
            known = pair_table(self.store, **self.reading, columns=[column], pair_files=self.files)[
                column
            ]
            if (kind := kind_of(known.type)) != "number":
                raise InputError(f"--weight names {column}, a {kind or known.type}; name a number.")
            values = known.cast(pa.float64()).to_numpy()
            values = 1 - values if subtracted else values
            if np.nanmin(values, initial=0) < 0:
                raise InputError(
                    f"--weight {policy.weight!r} is below 0 for some pair; a weight is 0 or more."
                )
            return factor * np.where(same & np.isfinite(values), values, 1.0)
        return factor

    def resample(self, weight: Floats) -> Floats:
        """Keep each pair with probability weight / largest weight; the weights after that, 1.

        A pair's draw depends on the seed and its id alone, whatever else is in the set.
        """
        largest = weight[self.kept].max(initial=0)
        if largest <= 0:
            raise InputError("--resample finds no pair with a weight above 0; leave it out.")
        keys = [f"{self.policy.seed} {pair_id}".encode() for pair_id in self.ids.to_pylist()]
        bits = b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in keys)
        draws = np.frombuffer(bits, ">u8") / 2.0**64
        self.leave_behind(draws >= weight / largest, "not drawn by its weight, --resample", False)
        return np.ones_like(weight)


def _by(run: str | None, findings: Sequence[str]) -> str:
    """Who decides by scores: "finding minority of run r", or of no run."""
    unique = list(dict.fromkeys(findings))
    of = f" of run {run}" if run else ""
    return f"finding{'s' * (len(unique) > 1)} {', '.join(unique)}{of}"


def _ranking_column(finding: str, columns: Iterable[str]) -> str:
    """The column a finding is ranked by: its own name, or what its name begins with."""
    fitting = [name for name in columns if finding == name or finding.startswith(f"{name}_")]
    if not fitting:
        raise InputError(
            f"Finding {finding!r} has no column of its name to rank by (columns: "
            f"{', '.join(columns)}); use --drop with one of them."
        )
    return max(fitting, key=len)


def _labels_of_finding(store: Store, policy: Policy) -> str:
    if policy.run is None:
        return ORIGINAL
    run_about(store, policy.run)  # StoreError where the store has no such run
    return finding_labels(store, policy.run, policy.finding)


def _planted(store: Store, draft: _Draft) -> tuple[Mask, str | None]:
    """Which labels are planted flips, and the set beneath the one that they were planted in."""
    name = planted_beneath(store, draft.labels)
    if name is None:
        return np.zeros(len(draft.label), bool), None
    base = str(label_set_recipe(store, name).get("base", ORIGINAL))
    under, right = effective_labels(store, name), effective_labels(store, base)
    flips = pa.array(planted_flips(store, name) or [], pa.string())
    label = values_of(under["label"])
    wrong = pc.is_in(under["pair_id"], value_set=flips).to_numpy() & differs(
        label, values_of(right["label"])
    )
    place = pc.index_in(under["pair_id"].filter(pa.array(wrong)), value_set=draft.ids)
    known, rows = place.is_valid().to_numpy(), place.drop_null().to_numpy()
    planted = np.zeros(len(draft.label), bool)
    planted[rows] = ~differs(label[wrong][known], draft.label[rows])
    return planted, base
