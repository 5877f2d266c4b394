"""A detector that is registered runs, is stored, evaluated, named in conditions and reported."""

import re

import pyarrow as pa
import pytest

from analysis.detectors import DETECTORS
from analysis.detectors.detector import Detector, Evidence, Score, scored_table
from analysis.report.page import render
from analysis.run_analysis import analyze_run
from toolkit.store.pair_table import passing
from toolkit.store.runs import finding_windows, read_findings


def mine(evidence: Evidence, window: str) -> pa.Table:
    values = -evidence.digest.tallies["z"].mean(window)
    return scored_table(evidence.digest, window, {"mine": (values, "minus mean z")})


SCORE = Score("mine", "mine", "high", "-mean z", "what area_under_margin assumes", "this test")


def test_a_registered_detector_is_stored_evaluated_and_reported(make_store, monkeypatch):
    detector = Detector("mine", mine, ("trajectory", "labels"), (SCORE,), windows=True)
    monkeypatch.setitem(DETECTORS, "mine", detector)
    store = make_store(run=True, pairs=60)
    found = analyze_run(store, "r", open_images=False)
    table = read_findings(store, "r", "mine")
    assert table.column_names == ["pair_id", "visits", "mine"]
    assert finding_windows(store, "r", "mine") == ["late", "all", "early", "last"]
    by_name = {row.name: row for row in found.detections}
    margin = by_name["area_under_margin"].auroc.value
    assert by_name["mine"].auroc.value == pytest.approx(margin)
    assert re.search(r"<th[^>]*>\s*mine\s*</th>", render(found))
    early = passing(store, [("--where", "mine.mine_early > 0")], run="r", labels="flip20")
    assert len(early) == 1


def test_a_detector_whose_need_is_not_met_does_not_run(make_store, monkeypatch):
    def fails(*_: object) -> None:
        raise AssertionError("no folds, one split, no votes of scorers here")

    for need in ("fold", "splits", "scores"):
        detector = Detector(f"needs_{need}", fails, (need,), (SCORE,))
        monkeypatch.setitem(DETECTORS, detector.finding, detector)
    found = analyze_run(make_store(run=True, pairs=20), "r", open_images=False)
    assert "trajectory_ell" in found.tables
    assert not {"needs_fold", "needs_splits", "needs_scores"} & set(found.tables)
