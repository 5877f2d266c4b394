"""One pair's errors by role: the gap between the two lines is ell."""

import numpy as np
import pytest

from analysis.figures.curves import (
    pair_errors_figure,
    pair_errors_table,
    pair_trajectory_table,
)
from analysis.trajectory import COLUMNS, load
from tests.factories import StoreFactory
from toolkit.store.connection import effective_labels
from toolkit.store.trajectory import read_trajectory


def test_rejected_less_chosen_is_ell(make_store: StoreFactory) -> None:
    store = make_store(pairs=20, run=True)
    for row in effective_labels(store, "flip20").to_pylist()[:6]:
        rows = read_trajectory(store, "r", COLUMNS, label_set="flip20", pairs=[row["pair_id"]])
        table = pair_errors_table(rows, row["label"])
        ell = pair_trajectory_table(load(rows, ["policy", "ema_0.99", "ema_0.5"]), row["pair_id"])
        assert table["step"].to_pylist() == ell["step"].to_pylist()
        gap = np.subtract(table["rejected"].to_pylist(), table["chosen"].to_pylist())
        assert gap == pytest.approx(ell["policy"].to_pylist(), abs=1e-7)


def test_a_visit_written_twice_counts_once_and_a_broken_one_not_at_all(
    make_store: StoreFactory,
) -> None:
    import pyarrow as pa

    store = make_store(pairs=20, run=True)
    pair_id = effective_labels(store)["pair_id"][0].as_py()
    rows = read_trajectory(store, "r", COLUMNS, label_set="flip20", pairs=[pair_id])
    assert rows.num_rows == 6
    twice = pa.concat_tables([rows, rows])
    assert pair_errors_table(twice, 1.0).num_rows == 6
    broken = rows.slice(0, 1).to_pylist()
    broken[0]["err_ref_0"] = float("nan")
    left = pa.concat_tables([rows.slice(1), pa.Table.from_pylist(broken, schema=rows.schema)])
    assert pair_errors_table(left, 1.0).num_rows == 5


def test_the_roles_are_told_apart_by_more_than_colour(make_store: StoreFactory) -> None:
    store = make_store(pairs=20, run=True)
    pair_id = effective_labels(store)["pair_id"][0].as_py()
    rows = read_trajectory(store, "r", COLUMNS, label_set="flip20", pairs=[pair_id])
    drawn = pair_errors_figure(pair_errors_table(rows, 1.0)).data
    assert [trace.name for trace in drawn] == ["chosen", "rejected"]
    assert len({trace.line.dash for trace in drawn}) == len({t.marker.symbol for t in drawn}) == 2
