"""Audits: what blind answers say, by hand; and the page that asks for them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from analysis.audits import (
    answers_in,
    choice_of_side,
    compare,
    interval,
    newest_answer,
    rates,
    reliability,
    swapped,
)
from tests.app.desk_pages import button, card, journalled, open_page, press, shown
from tests.app.desk_stores import judgeable
from tests.factories import StoreFactory
from toolkit.store.audits import Audit, audits, read_audit
from toolkit.store.connection import effective_labels
from toolkit.store.journal import Entry, Journal
from toolkit.store.runs import write_findings

SAMPLE = Audit("s", "r", "flip20", 0, 0.1, ("a", "b", "c", "d"), ("c", "d", "e"), tuple("abcde"))
LABELS = {"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.0, "e": 1.0}


def row(pair_id: str, choice: str, number: int, curator: str = "anna", **shown: Any) -> dict:
    return {
        "verdict_id": f"v{number}", "sequence": number, "pair_id": pair_id, "curator": curator,
        "choice": choice, "undoes": shown.pop("undoes", None), "shown": json.dumps(shown),
        "time": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
    }  # fmt: skip


def test_only_blind_answers_to_this_sample_count_and_the_last_one_wins() -> None:
    rows = [
        row("a", "image_0", 1, audit="s"),
        row("a", "image_1", 2, audit="s"),
        row("b", "image_0", 3, page="grid"),
        row("c", "tie", 4, audit="another"),
        row("d", "unsure", 5, audit="s"),
        row("d", "undo", 6, undoes="v5"),
        row("e", "image_0", 7, curator="berta", audit="s"),
        row("zzz", "image_0", 8, audit="s"),
    ]
    assert answers_in(SAMPLE, rows) == {"anna": {"a": "image_1"}, "berta": {"e": "image_0"}}
    newest = newest_answer(SAMPLE, rows[:7], "anna")
    assert newest is not None
    assert newest["verdict_id"] == "v2"
    assert newest_answer(SAMPLE, rows, "carl") is None


def test_rates_by_hand() -> None:
    """random: a kept, b flipped, c flipped, d tie. top: c flipped, d tie, e unsure."""
    said = {"a": "image_0", "b": "image_1", "c": "image_0", "d": "tie", "e": "unsure"}
    probability = {"a": 0.2, "b": 0.4, "c": 0.9, "d": 0.5}
    random, top = rates(SAMPLE, LABELS, {"anna": said}, probability)
    assert (random.answers, random.kept, random.flipped, random.ties, random.unsure) == (
        4, 1, 2, 1, 0,
    )  # fmt: skip
    assert random.share == pytest.approx(2 / 3)
    assert random.expected == pytest.approx((0.2 + 0.4 + 0.9) / 3)
    assert (top.answers, top.flipped, top.ties, top.unsure, top.share) == (3, 1, 1, 1, 1.0)
    assert top.expected == pytest.approx(0.9)


def test_two_curators_count_each() -> None:
    answers = {"anna": {"a": "image_0"}, "berta": {"a": "image_1"}}
    random, top = rates(SAMPLE, LABELS, answers, {})
    assert (random.answers, random.share, random.expected) == (2, 0.5, None)
    assert (top.answers, top.share, top.low, top.high) == (0, None, None, None)


def test_an_interval_is_wilsons_worked_out_by_hand_and_of_nothing_there_is_none() -> None:
    # 5 of 10: centre .5, half width z sqrt(.025 + z^2 / 400) / (1 + z^2 / 10) = .2634.
    assert interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert interval(0, 0) == (None, None)


def test_sides_are_drawn_once_for_pair_and_curator_and_are_fair() -> None:
    drawn = [swapped(SAMPLE, "anna", f"pair-{k}") for k in range(400)]
    assert drawn == [swapped(SAMPLE, "anna", f"pair-{k}") for k in range(400)]
    assert drawn != [swapped(SAMPLE, "berta", f"pair-{k}") for k in range(400)]
    assert 160 < sum(drawn) < 240


def test_a_side_is_the_image_that_stood_there() -> None:
    assert choice_of_side("left", False) == choice_of_side("right", True) == "image_0"
    assert choice_of_side("right", False) == choice_of_side("left", True) == "image_1"
    assert choice_of_side("tie", True) == "tie"
    assert compare("image_1", 0.0) == "keep"
    assert compare("image_1", 1.0) == "flip"
    for nothing in (None, 0.5):  # a label that states no preference can be neither
        assert compare("image_0", nothing) == compare("image_1", nothing) == "none"


def test_reliability_bins_hold_equal_counts_in_order() -> None:
    ids = [f"p{k}" for k in range(10)]
    labels = dict.fromkeys(ids, 1.0)
    said = {pair: "image_1" if k >= 5 else "image_0" for k, pair in enumerate(ids)}
    probability = {pair: k / 10 for k, pair in enumerate(ids)}
    low, high = reliability(labels, {"anna": said}, probability, bins=2)
    assert (low.count, low.share, low.expected) == (5, 0.0, pytest.approx(0.2))
    assert (high.count, high.share, high.expected) == (5, 1.0, pytest.approx(0.7))
    assert reliability(labels, {}, probability) == []


def test_a_sample_is_drawn_judged_blind_undone_and_gone_on_with(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    app = open_page(monkeypatch, store, "audit")
    app.number_input(key="audit-size").set_value(2).run()
    app = button(app, "Draw the sample").click().run()
    (name,) = audits(store)
    audit = read_audit(store, name)
    first, second = audit.order[:2]
    page = shown(app)
    assert "1 of " in page
    for told in ("chosen", "rejected", "<i>u</i>"):
        assert told not in page
    app = press(app, "Left")
    (row_,) = journalled(store)
    turned = row_["shown"]["sides"] == ["image_1", "image_0"]
    assert row_["pair_id"] == first
    assert row_["choice"] == ("image_1" if turned else "image_0")
    assert (row_["shown"]["blind"], row_["shown"]["audit"]) == (True, name)
    again = open_page(monkeypatch, store, "audit")
    assert card(again)["pair"] == second
    again = press(again, "Undo")
    assert card(again)["pair"] == first
    assert journalled(store)[-1]["undoes"] == row_["verdict_id"]


def test_results_hold_people_against_the_label_and_each_other(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    app = open_page(monkeypatch, store, "audit")
    app.number_input(key="audit-size").set_value(4).run()
    app = button(app, "Draw the sample").click().run()
    audit = read_audit(store, audits(store)[0])
    labels = {r["pair_id"]: r["label"] for r in effective_labels(store, "flip20").to_pylist()}
    journal = Journal(store.folder("verdicts.sqlite"))
    for curator in ("anna", "berta"):
        for k, pair_id in enumerate(audit.order):
            against = "image_1" if labels[pair_id] == 1 else "image_0"
            choice = "tie" if curator == "berta" and k == 0 else against
            shown_ = {"page": "audit", "audit": audit.name, "blind": True}
            journal.record([Entry(pair_id, curator, choice, "flip20", shown=shown_)])
    journal.close()
    import streamlit as st

    st.cache_resource.clear()  # another desk wrote the journal: this one starts anew
    app = open_page(monkeypatch, store, "audit")
    app = app.sidebar.radio[0].set_value("Results").run()
    said = shown(app)
    assert not app.exception
    assert "100 %" in said
    assert "Krippendorff" in said
    assert f"over {len(audit.order)} pairs" in said
    assert "no calibrated probability" in said


def test_the_calibrated_probability_is_shown_beside_the_answers(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pair is flipped with probability .25, and the first answer flips its label."""
    store = judgeable(make_store)
    ids = effective_labels(store, "flip20")["pair_id"]
    table = pa.table({"pair_id": ids, "probability": pa.array([0.25] * len(ids))})
    write_findings(store, "r", "calibrated", table, {"labels": "flip20"})
    app = open_page(monkeypatch, store, "audit")
    app.number_input(key="audit-size").set_value(4).run()
    app = button(app, "Draw the sample").click().run()
    press(app, "Left")
    app = open_page(monkeypatch, store, "audit")
    app = app.sidebar.radio[0].set_value("Results").run()
    app = app.toggle(key="audit-early").set_value(True).run()
    assert not app.exception
    assert "<td>25 %</td>" in shown(app)
    assert "no calibrated probability" not in shown(app)
    assert "People against the calibration" in shown(app)
