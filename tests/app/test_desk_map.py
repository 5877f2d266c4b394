"""The page Map and what is picked on it: boxes, bins, bars and dots, without a browser."""

import pytest

from app.desk.components.charts import map_figure, picked_bar, picked_box, picked_pair
from tests.app.desk_pages import button, open_page, shown
from tests.app.desk_stores import judgeable
from tests.factories import StoreFactory
from toolkit.store.queue.histograms import Bins, Cell, Map
from toolkit.store.queue.views import Range, View


def test_a_drawn_box_is_read_whichever_corner_it_began_at() -> None:
    event = {"selection": {"box": [{"x": [0.9, 0.2], "y": [3.0, 1.0]}], "points": []}}
    assert picked_box(event) == ((0.2, 0.9), (1.0, 3.0))
    assert picked_box({"selection": {"box": [], "points": []}}) is None
    assert picked_box(None) is None


def test_a_clicked_bin_a_bar_and_a_dot_are_told_apart() -> None:
    def clicked(held):
        return {"selection": {"points": [{"customdata": held}], "box": []}}

    assert picked_box(clicked([9, 1, 0, 0.1, 0.2, 0.3, 0.4])) == ((0.1, 0.2), (0.3, 0.4))
    assert picked_pair(clicked([9, 1, 0, 0.1, 0.2, 0.3, 0.4])) is None
    assert picked_pair(clicked(["abc", "no verdict"])) == "abc"
    assert picked_box(clicked(["abc", "no verdict"])) is None
    assert picked_bar(clicked([0.25, 0.5])) == (0.25, 0.5)


def test_bins_say_how_many_pairs_by_size_too() -> None:
    bins = Bins(0.0, 1.0, (100, 1), 0)
    points = Map(bins, bins, (Cell(0, 0, 100, 5, 2), Cell(1, 1, 1, 0, 0)), 101, 0, None)
    (trace,) = map_figure(points, Range("a"), Range("b"), "light").data
    full, thin = trace.marker.size
    assert full > thin
    assert trace.customdata[0] == (100, 5, 2, 0.0, 0.5, 0.0, 0.5) or list(trace.customdata[0]) == [
        100,
        5,
        2,
        0.0,
        0.5,
        0.0,
        0.5,
    ]


def test_a_box_in_the_link_is_the_view_and_can_be_cleared(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    whole = open_page(monkeypatch, store, "map")
    assert 'data-pairs="40"' in shown(whole)
    app = open_page(monkeypatch, store, "map", query={"range": "confidence:0.5:"})
    assert not app.exception
    narrowed = app.session_state["view"]
    assert narrowed == View(ranges=(Range("confidence", 0.5, None),))
    assert 'data-pairs="40"' not in shown(app)
    assert "40 pairs drawn" in shown(app)  # the map shows what lies around the box too
    app = button(app, "Clear the box").click().run()
    assert app.session_state["view"] == View()
    assert 'data-pairs="40"' in shown(app)


def test_the_box_can_be_given_by_numbers(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page(monkeypatch, judgeable(make_store), "map")
    field = next(one for one in app.number_input if one.label == "confidence from")
    field.set_value(0.6)
    app = button(app, "Apply").click().run()
    assert app.session_state["view"].range_of("confidence").lowest == 0.6
