"""What a finding decides: the pairs that it ranks highest are dropped or flipped."""

import numpy as np
import pyarrow as pa

from toolkit.errors import InputError
from toolkit.export.decisions import SCORES, Floats, Plan, drop, floats, relabel
from toolkit.export.policy import Policy
from toolkit.store import Store
from toolkit.store.runs import read_findings


def apply_scores(plan: Plan, store: Store, policy: Policy) -> None:
    """Put the finding's scores beside the pairs; drop or flip the highest by --drop-top or
    --flip-top. InputError where the finding lacks the column that is asked for."""
    assert policy.run is not None
    table = read_findings(store, policy.run, policy.finding)
    columns = _aligned(plan, table)
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


def _aligned(plan: Plan, table: pa.Table) -> dict[str, Floats]:
    """The finding's numbers in the plan's order, where its label is the one that is exported."""
    ids = np.asarray(table["pair_id"].to_pylist(), np.str_)
    order = np.argsort(ids)
    mine = np.asarray(plan.pair_ids, np.str_)
    spots = np.minimum(np.searchsorted(ids[order], mine), max(len(ids) - 1, 0))
    there = ids[order][spots] == mine if len(ids) else np.zeros(len(mine), bool)
    there &= plan.label == floats(plan.rows["seen_label"])
    columns = {}
    for field in table.schema:
        if pa.types.is_floating(field.type) or pa.types.is_integer(field.type):
            # In their own precision: 0.1 stored in 32 bits is not more than 0.1.
            values = table[field.name].to_numpy()[order]
            kind = values.dtype if values.dtype.kind == "f" else np.float64
            columns[field.name] = np.full(len(mine), np.nan, kind)
            columns[field.name][there] = values[spots[there]]
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
