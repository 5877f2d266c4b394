"""What becomes of every pair: decided once, before a byte is written, and shown by --preview.

Row k of every array is the k-th pair in the store's order. NaN: no label, or not known.

What becomes of every pair, as arrays, and the two ways to change it.

Row k of every array is the k-th pair in the store's order. NaN: no label, or not known.

What a finding decides: the pairs that it ranks highest are dropped or flipped.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from toolkit.errors import InputError
from toolkit.export.policy import Policy, check, weight_column
from toolkit.files.atomic import parts
from toolkit.minority import weight
from toolkit.store import Store
from toolkit.store.connection import effective_labels
from toolkit.store.label_sets import ORIGINAL, label_set_recipe, planted_beneath, planted_flips
from toolkit.store.pair_table import column_of, pair_table, pairs_in_order, passing
from toolkit.store.runs import finding_labels, finding_schema, run_about
from toolkit.store.verdicts import PREFERENCE, resolve, verdict_of

Floats = npt.NDArray[np.floating]

SCORES = ("minority", "confidence", "stability")


@dataclass
class Plan:
    """The pairs (columns of `pairs_in_order`) and what the policy makes of each."""

    files: list[Path]
    labels: str
    rows: pa.Table
    label: Floats
    """Under the label set, before verdicts and scores."""
    final: Floats
    kept: npt.NDArray[np.bool_]
    weight: Floats
    scores: dict[str, Floats]
    verdict: list[str | None]
    decisions: dict[int, dict[str, Any]]
    """Row to {action, why, by, ...}; a row that is absent is exported as it was."""
    own_weight: Floats
    """The sample_weight that the source came with."""
    planted: npt.NDArray[np.bool_]
    """True where the label is one that planted flips made wrong."""
    without: str | None
    """The label set beneath those flips; None where none were planted."""

    @property
    def pair_ids(self) -> list[str]:
        """Of every row."""
        return list(self.rows["pair_id"].to_pylist())


def facts_of(decision: dict[str, Any]) -> dict[str, Any]:
    """What a verdict added to a decision."""
    return {name: decision[name] for name in ("verdict", "verdict_id") if name in decision}


def drop(plan: Plan, row: int, why: str, by: str, **facts: Any) -> None:
    """Leave a pair out, and say why and by whom."""
    plan.kept[row] = False
    plan.decisions[row] = {"action": "dropped", "why": why, "by": by, **facts}


def relabel(plan: Plan, row: int, label: float, why: str, by: str) -> None:
    """Give a pair another label, and say why and by whom."""
    plan.final[row] = label
    action = "tied" if label == 0.5 else "flipped"
    plan.decisions[row] = {"action": action, "why": why, "by": by}


def floats(values: pa.ChunkedArray) -> Floats:
    """A column as an array, NaN where it is null."""
    return np.asarray(values.cast(pa.float64()).to_numpy(), np.float64)


def apply_scores(plan: Plan, store: Store, policy: Policy) -> None:
    """Put the finding's scores beside the pairs; drop or flip the highest by --drop-top or
    --flip-top. InputError where the finding lacks the column that is asked for."""
    assert policy.run is not None
    columns = _finding_columns(plan, store, policy)
    for name in SCORES:
        plan.scores[name] = columns.get(name, plan.scores[name])
    if policy.reweight and "minority" not in columns:
        raise InputError(
            f"--reweight needs the column minority, and finding {policy.finding!r} has "
            f"{', '.join(columns)}; use --finding minority."
        )
    finding = f"finding {policy.finding} of run {policy.run}"
    if policy.drop_top or policy.flip_top:
        name = _score_column(policy.finding, columns)
        share = policy.drop_top or policy.flip_top
        for row in _top(plan, columns[name], share):
            if policy.drop_top:
                drop(plan, row, f"{name} among the top {share:g}", finding)
            else:
                relabel(plan, row, 1 - plan.label[row], f"{name} among the top {share:g}", finding)


def _finding_columns(plan: Plan, store: Store, policy: Policy) -> dict[str, Floats]:
    """The finding's numbers in the plan's order, NaN where the label is not the one they speak of.

    In their own precision: 0.1 stored in 32 bits is not more than 0.1.
    """
    assert policy.run is not None
    schema = finding_schema(store, policy.run, policy.finding)
    test = pa.types
    names = [f.name for f in schema if test.is_floating(f.type) or test.is_integer(f.type)]
    table = pair_table(
        store,
        labels=plan.labels,
        run=policy.run,
        finding=policy.finding,
        columns=[f"{policy.finding}.{name}" for name in names],
        pair_files=plan.files,
    )
    columns = {}
    for name, values in zip(names, table.columns[1:], strict=True):
        kind = values.type if pa.types.is_floating(values.type) else pa.float64()
        columns[name] = values.cast(kind).to_numpy()
    return columns


def _score_column(finding: str, columns: dict[str, Floats]) -> str:
    """The column a finding is ranked by: its own name, or what its name begins with."""
    fitting = [name for name in columns if finding == name or finding.startswith(f"{name}_")]
    if not fitting:
        raise InputError(
            f"Finding {finding!r} has no column of its name to rank by (columns: "
            f"{', '.join(columns)}); use --drop with one of them."
        )
    return max(fitting, key=len)


def _top(plan: Plan, score: Floats, share: float) -> list[int]:
    """The rows with the highest scores among those with a score and a choice; ties by pair_id."""
    known = np.flatnonzero(~np.isnan(score) & np.isin(plan.label, (0.0, 1.0)))
    ids = np.asarray(plan.pair_ids, np.str_)[known]
    order = np.lexsort((ids, -score[known]))
    count = int(share * len(known) + 1e-9)  # 0.29 of 100 are 29, whatever floats make of it
    return [int(row) for row in known[order][:count]]


def make_plan(store: Store, policy: Policy) -> Plan:
    """Decide about every pair. InputError or StoreError says what the policy cannot find."""
    check(policy)
    files = parts(store.folder("pairs"))
    labels = policy.labels or _labels_of_finding(store, policy)
    rows = pairs_in_order(store, files, labels)
    label = floats(rows["label"])
    size = len(label)
    plan = Plan(
        files,
        labels,
        rows,
        label,
        label.copy(),
        np.ones(size, bool),
        np.ones(size),
        {name: np.full(size, np.nan) for name in SCORES},
        [None] * size,
        {},
        floats(rows["sample_weight"]),
        *_planted(store, labels, rows["pair_id"].to_pylist(), label),
    )
    outside = _apply_conditions(plan, store, policy)
    if policy.run is not None:
        apply_scores(plan, store, policy)
    if policy.verdicts:
        _apply_verdicts(plan, store)
    _leave_behind(plan, policy)
    for row in outside:
        drop(plan, row, "outside --where", "policy", **facts_of(plan.decisions.get(row, {})))
    _weigh(plan, store, policy)
    return plan


def _apply_conditions(plan: Plan, store: Store, policy: Policy) -> list[int]:
    """Flip and drop by condition; the rows that --where leaves out."""
    found = passing(
        store,
        policy.conditions,
        run=policy.run,
        finding=policy.finding,
        labels=plan.labels,
    )
    place = {pair_id: row for row, pair_id in enumerate(plan.pair_ids)} if found else {}
    by = "condition" if policy.run is None else f"finding {policy.finding} of run {policy.run}"
    outside: list[int] = []
    flips: list[tuple[str, list[int]]] = []
    drops: list[tuple[str, list[int]]] = []
    for (option, text), ids in zip(policy.conditions, found, strict=True):
        rows = sorted(place[pair_id] for pair_id in ids)
        if option == "--where":
            outside = sorted(set(range(len(plan.label))) - set(rows))
        else:
            (drops if option == "--drop" else flips).append((" ".join(text.split()), rows))
    for why, rows in flips:
        for row in rows:
            if plan.label[row] in (0.0, 1.0):
                relabel(plan, row, 1 - plan.label[row], why, by)
    for why, rows in drops:
        for row in rows:
            drop(plan, row, why, by)
    return outside


def _weigh(plan: Plan, store: Store, policy: Policy) -> None:
    """The source's own sample_weight, times W of Eq. 15 or a column; 1 where nothing is known."""
    plan.weight = np.where(np.isfinite(plan.own_weight), plan.own_weight, 1.0)
    same = plan.final == plan.label  # a score speaks of the label it was computed under
    if policy.reweight:
        u = np.where(same, plan.scores["minority"].astype(np.float64), np.nan)
        plan.weight = plan.weight * np.asarray(weight(u, "linear", policy.k1))
    elif named := weight_column(policy):
        column, turned = named
        known = column_of(
            store,
            column,
            "--weight",
            run=policy.run,
            finding=policy.finding,
            labels=plan.labels,
        )
        values = np.array([known.get(pair_id, np.nan) for pair_id in plan.pair_ids])
        values = 1 - values if turned else values
        if np.nanmin(values, initial=0) < 0:
            raise InputError(
                f"--weight {policy.weight!r} is below 0 for some pair; a weight is 0 or more."
            )
        plan.weight = plan.weight * np.where(same & np.isfinite(values), values, 1.0)


def _labels_of_finding(store: Store, policy: Policy) -> str:
    if policy.run is None:
        return ORIGINAL
    run_about(store, policy.run)  # StoreError where the store has no such run
    return finding_labels(store, policy.run, policy.finding)


def _planted(
    store: Store, labels: str, pair_ids: list[str], label: Floats
) -> tuple[npt.NDArray[np.bool_], str | None]:
    """Which labels are planted flips, and the set that they were planted in."""
    name = planted_beneath(store, labels)
    if name is None:
        return np.zeros(len(label), bool), None
    base = str(label_set_recipe(store, name).get("base", ORIGINAL))
    under, right = _labels(store, name), _labels(store, base)
    wrong = {k for k in planted_flips(store, name) or () if under.get(k) != right.get(k)}
    found = [k in wrong and under[k] == at for k, at in zip(pair_ids, label, strict=True)]
    return np.array(found, bool), base


def _labels(store: Store, name: str) -> dict[str, float | None]:
    table = effective_labels(store, name)
    return dict(zip(table["pair_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def _apply_verdicts(plan: Plan, store: Store) -> None:
    place = {pair_id: row for row, pair_id in enumerate(plan.pair_ids)}
    for outcome in resolve(store).to_pylist():
        row = place.get(outcome["pair_id"])
        if row is None:
            continue
        label = None if np.isnan(plan.label[row]) else float(plan.label[row])
        verdict = verdict_of(outcome["choice"], label)
        plan.verdict[row] = verdict
        facts = {"verdict": verdict, "verdict_id": outcome["verdict_id"]}
        if verdict == "unsure":
            why = "curators are split" if outcome["split"] else "a curator is unsure"
            plan.decisions.setdefault(row, {"action": "kept", "why": why, "by": "curator"})
            plan.decisions[row] |= facts
            continue
        plan.kept[row], plan.final[row] = True, plan.label[row]  # the verdict wins over scores
        if verdict == "drop":
            drop(plan, row, "verdict drop", "curator", **facts)
        elif verdict == "keep":
            plan.decisions[row] = {"action": "kept", "why": "verdict keep", "by": "curator"} | facts
        else:
            relabel(plan, row, PREFERENCE[outcome["choice"]], f"verdict {verdict}", "curator")
            plan.decisions[row] |= facts


def _leave_behind(plan: Plan, policy: Policy) -> None:
    """Ties and pairs without a label, unless they were asked for."""
    for keep, mask, why in (
        (policy.keep_ties, plan.final == 0.5, "a tie, without --keep-ties"),
        (policy.keep_unlabelled, np.isnan(plan.final), "no label, without --keep-unlabelled"),
    ):
        if keep:
            continue
        for row in np.flatnonzero(mask & plan.kept):
            before = plan.decisions.get(int(row), {})
            by = before.get("by", "policy")
            drop(
                plan, int(row), f"{before['why']}: {why}" if before else why, by, **facts_of(before)
            )
