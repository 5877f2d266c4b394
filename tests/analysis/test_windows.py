"""Findings with a row for each pair and window: on disk, by name, and from a store of format 2."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from analysis.detectors import DETECTORS
from analysis.run_analysis import analyze_run
from tests.factories import StoreFactory
from toolkit.files.atomic import write_whole
from toolkit.store import Store, open_store
from toolkit.store import migrations as steps
from toolkit.store.migrations import migrate
from toolkit.store.pair_details import findings_on
from toolkit.store.pair_table import passing
from toolkit.store.runs import (
    finding_columns,
    finding_windows,
    findings,
    findings_about,
    read_findings,
    write_findings,
)

WINDOWS = ("all", "early", "late", "last")


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory) -> Store:
    made = StoreFactory(tmp_path_factory.mktemp("windows"))(run=True, pairs=60)
    analyze_run(made, "r", open_images=False)
    return made


@pytest.fixture
def store(analyzed, tmp_path) -> Store:
    return open_store(shutil.copytree(analyzed.root, tmp_path / "store"))


def as_format_2(store: Store) -> dict[str, pa.Table]:
    """Rewrite findings as format 2 had them: SCORE, then SCORE_WINDOW for every window."""
    wide = {}
    for name in findings(store, "r"):
        if not finding_windows(store, "r", name):
            continue
        table = read_findings(store, "r", name)
        scores = [c for c in table.column_names if c not in ("pair_id", "visits", "forgetting")]
        kept = table.select(["pair_id", "visits", *scores])
        for window in WINDOWS:
            part = read_findings(store, "r", name, window=window)
            for score in scores:
                kept = kept.append_column(f"{score}_{window}", part[score])
        if "forgetting" in table.column_names:
            kept = kept.append_column("forgetting", table["forgetting"])
        wide[name] = kept
        write_whole(store.findings("r") / f"{name}.parquet", kept)
    about = json.loads((store.root / "store.json").read_text())
    about.pop("checksum")  # of a later version
    (store.root / "store.json").write_text(json.dumps({**about, "format": 2}))
    return wide


def test_the_rows_of_a_window_follow_each_other_with_the_same_pairs(store):
    path = store.findings("r") / "trajectory_ell.parquet"
    table = pq.read_table(path)
    assert table.column_names == ["pair_id", "window", "visits", "trajectory_ell", "first_ell"]
    assert table["window"].to_pylist() == [w for w in ("late", *("all", "early", "last"))
                                           for _ in range(60)]  # fmt: skip
    only = pq.read_table(path, filters=[("window", "=", "early")])
    assert only.drop(["window"]).equals(read_findings(store, "r", "trajectory_ell", window="early"))
    with pq.ParquetFile(path) as file:
        assert file.num_row_groups == 4


def test_a_window_that_lacks_a_pair_is_refused(store):
    table = pa.table({"pair_id": ["a", "b", "a"], "window": ["late", "late", "all"]})
    with pytest.raises(ValueError, match="the same pairs in the same order"):
        write_findings(store, "r", "odd", table, {})
    again = pa.table({"pair_id": ["a", "a", "a"], "window": ["late", "all", "late"]})
    with pytest.raises(ValueError, match="the same pairs in the same order"):
        write_findings(store, "r", "odd", again, {})


def test_names_with_a_window_are_columns_of_that_window(store):
    known = finding_columns(store, "r", "cartography")
    assert known["variability"].window == known["variability_late"].window == "late"
    assert known["variability_early"].window == "early"
    assert "forgetting" in known
    assert "forgetting_early" not in known
    assert finding_columns(store, "r", "consistency")["cyclic"].window is None


@pytest.mark.parametrize("name", ["minority_early", "minority.minority_early"])
def test_a_condition_names_another_window(store, name):
    early = read_findings(store, "r", "minority", window="early")
    expected = early.filter(pc.greater(early["minority"], 0.1))["pair_id"].to_pylist()
    assert 0 < len(expected) < 60
    found = passing(store, [("--where", f"{name} > 0.1")], run="r", labels="flip20")
    assert sorted(found[0]) == sorted(expected)


def test_a_pair_shows_its_value_in_every_window(store):
    pair = read_findings(store, "r", "minority")["pair_id"].to_pylist()[7]
    shown = {(v.finding, v.column): v.value for v in findings_on(store, "r", pair)}
    for window in WINDOWS:
        part = read_findings(store, "r", "cartography", window=window)
        value = part["variability"][7].as_py()
        assert shown["cartography", f"variability_{window}"] == value
    assert shown["cartography", "variability"] == shown["cartography", "variability_late"]


def test_a_store_of_format_2_keeps_every_number(store):
    wide = as_format_2(store)
    assert len(wide) == sum(detector.windows for detector in DETECTORS.values())
    assert migrate(store.root) == [3, 4]
    opened = open_store(store.root)
    for name, old in wide.items():
        assert finding_windows(opened, "r", name) == ["late", "all", "early", "last"]
        assert findings_about(opened, "r", name)["window"] == "late"
        for column in old.column_names[1:]:
            found = read_findings(opened, "r", name, ["pair_id", column])
            assert found["pair_id"].equals(old["pair_id"])
            assert found[column].combine_chunks().equals(old[column].combine_chunks()), column
        visits = read_findings(opened, "r", name, window="early")["visits"]
        assert visits.null_count == 60  # format 2 counted visits in the default window alone


def test_an_interrupted_migration_leaves_readable_findings_and_goes_further(store, monkeypatch):
    wide = as_format_2(store)
    written = []

    def fails_at_the_third(path, *rest):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        return write_whole(path, *rest)

    monkeypatch.setattr(steps, "write_whole", fails_at_the_third)
    with pytest.raises(steps.StoreError, match="It can be used; free space, then run the same"):
        migrate(store.root)
    opened = open_store(store.root)
    for name, old in wide.items():
        for column in (old.column_names[2], f"{old.column_names[2]}_early"):
            assert read_findings(opened, "r", name, ["pair_id", column])[column].combine_chunks() \
                .equals(old[column].combine_chunks())  # fmt: skip
    monkeypatch.undo()
    assert migrate(store.root) == []
    assert all(finding_windows(opened, "r", name) for name in wide)


def test_an_imported_finding_with_such_names_is_left_alone(store):
    as_format_2(store)
    ids = read_findings(store, "r", "minority")["pair_id"]
    mine = pa.table({"pair_id": ids, "loss": np.zeros(60), "loss_all": np.ones(60)})
    write_findings(store, "r", "mine", mine, {"origin": "elsewhere"})
    migrate(store.root)
    assert read_findings(open_store(store.root), "r", "mine").equals(mine)
