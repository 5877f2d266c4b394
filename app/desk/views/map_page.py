"""The page Map: any two findings against each other; a box on the map becomes the view."""

from itertools import islice

import streamlit as st

from app.desk import page, state
from app.desk.components import charts, text
from app.desk.components.charts import Bounds
from app.desk.queries import queue
from app.desk.queries.connection import Desk, current, run_of
from app.desk.views.getting_started import run_command
from app.desk.views.sidebar import show_sidebar
from toolkit.colors import Ground
from toolkit.store import Store
from toolkit.store.queue import histograms, views
from toolkit.store.queue.histograms import Map
from toolkit.store.queue.views import Range, View

_FIRST_AXES = (
    ("cartography.variability", "cartography.cartography_confidence"),
    ("stability", "confidence"),
)
"""The axes of a new map, if the run has values of both: the cartography map."""


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The page, or what the store still needs."""
    page.head(
        "Map",
        "Any two findings against each other. Draw a box or click a bar: the Queue and the Grid "
        "then show its pairs.",
    )
    desk, view = current(store, settings)
    if not desk.run:
        lack = "no run has any" if store.runs() else "the store has no run"
        command = run_command(store, settings.run or run_of(store, ""))
        text.hint(f"A map needs findings, and {lack} yet.", command)
        return
    show_sidebar(desk, settings, ground)
    x, y = _choose_axes(desk)
    bare = view.with_range(x, None, None).with_range(y, None, None)
    points = queue.map_of(desk, bare, x, y)
    if points is None:
        text.info(f"No pair of this view has both {x} and {y}; choose other axes above.")
        return
    _show_summary(desk, view, points, (x, y))
    _show_charts(view, points, (x, y), ground)
    _show_bounds_form(view, points, (x, y))
    if pair_id := st.session_state.get("map-pair"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.html(f'<span class="desk-quiet">clicked: {text.escape(pair_id)}</span>')
            page.page_link("pair", "Open this pair", pair=pair_id)


def _choose_axes(desk: Desk) -> tuple[str, str]:
    """The two columns; the last choice on this page comes first."""
    names = histograms.numbers_of(desk.columns)
    kept = st.session_state.get("map-axes", ())
    if not kept or not all(name in names for name in kept):
        kept = _first_axes(desk, names)
    left, right = st.columns(2)
    x = left.selectbox("Horizontal", names, index=names.index(kept[0]), key="map-x")
    others = [name for name in names if name != x]
    at = others.index(kept[1]) if kept[1] in others else 0
    y = right.selectbox("Vertical", others, index=at, key="map-y")
    st.session_state["map-axes"] = (x, y)
    return str(x), str(y)


def _first_axes(desk: Desk, names: list[str]) -> tuple[str, str]:
    """Two columns that have values: an import may lack confidence and stability."""
    whole = View(run=desk.run)

    def has_values(name: str) -> bool:
        return name in names and any(queue.histogram(desk, whole, name)[0].counts)

    for x, y in _FIRST_AXES:
        if has_values(x) and has_values(y):
            return x, y
    x, y = [*islice(filter(has_values, names), 2), *names[:2]][:2]
    return x, y


def _show_summary(desk: Desk, view: View, points: Map, axes: tuple[str, str]) -> None:
    count = views.count(desk.cursor(view), view)
    with st.container(horizontal=True, vertical_alignment="center", key="map-head"):
        st.html(
            f'<span class="desk-place" id="map-count" data-pairs="{count}">{count:,} pairs</span> '
            f'<span class="desk-quiet">{text.escape(text.describe_view(view))}</span>'
        )
        page.page_link("queue", "Judge them in the Queue", icon=":material/view_carousel:")
        page.page_link("grid", "Show them in the Grid", icon=":material/apps:")
        boxed = any(view.range_of(name) != Range(name) for name in axes)
        st.button("Clear the box", key="map-clear", disabled=not boxed, type="tertiary",
                  on_click=_clear_box, args=(view, axes))  # fmt: skip
    missing = f"; {points.missing:,} have no value on one axis" if points.missing else ""
    kind = "a dot for each pair" if points.dots is not None else "a square for each bin"
    text.quiet(f"{points.known:,} pairs drawn, with and without a verdict ({kind}){missing}.")


def _clear_box(view: View, axes: tuple[str, str]) -> None:
    for name in axes:
        view = view.with_range(name, None, None)
    st.session_state["map-pair"] = None
    state.show(view)


def _show_charts(view: View, points: Map, axes: tuple[str, str], ground: Ground) -> None:
    """The map with a histogram on two sides; what is selected becomes the view."""
    x, y = axes
    version = st.session_state["chart"]
    bins = {x: points.x, y: points.y}

    def box_drawn() -> None:
        event = st.session_state[f"map-{version}"]
        st.session_state["map-pair"] = charts.picked_pair(event)
        if box := charts.picked_box(event):
            state.show(histograms.boxed(view, {x: box[0], y: box[1]}, bins))

    def bar_clicked(name: str) -> None:
        bounds = charts.picked_bar(st.session_state[f"map-{name}-{version}"])
        if bounds is not None:
            state.show(histograms.boxed(view, {name: bounds}, bins))

    left, right = st.columns([6, 1], gap="small")
    with left:
        st.plotly_chart(
            charts.side_histogram(points.x, view.range_of(x), ground, upright=True), theme=None,
            config=charts.CALM, key=f"map-{x}-{version}", on_select=lambda: bar_clicked(x),
            selection_mode="points", alt=f"Histogram of {x}; click a bar to show its pairs",
        )  # fmt: skip
        st.plotly_chart(
            charts.map_figure(points, view.range_of(x), view.range_of(y), ground), theme=None,
            config=charts.CALM, key=f"map-{version}", on_select=box_drawn,
            selection_mode=("points", "box"),
            alt=f"{y} against {x}; draw a box around pairs to show them",
        )  # fmt: skip
    with right:
        st.html('<div style="height: 80px"></div>')
        st.plotly_chart(
            charts.side_histogram(points.y, view.range_of(y), ground, upright=False), theme=None,
            config=charts.CALM, key=f"map-{y}-{version}", on_select=lambda: bar_clicked(y),
            selection_mode="points", alt=f"Histogram of {y}; click a bar to show its pairs",
        )  # fmt: skip


def _show_bounds_form(view: View, points: Map, axes: tuple[str, str]) -> None:
    """The box as numbers: what the mouse does, for the keyboard."""
    version = st.session_state["chart"]
    bins = dict(zip(axes, (points.x, points.y), strict=True))
    with st.expander("The box as numbers"), st.form(f"map-bounds-{version}", border=False):
        bounds: dict[str, Bounds] = {}
        for column, name in zip(st.columns(2), axes, strict=True):
            limits, word = view.range_of(name), text.escape_markdown(name)
            low, high = column.columns(2)
            bounds[name] = (
                low.number_input(f"{word} from", value=limits.lowest, format="%.6g",
                                 placeholder=f"{bins[name].lowest:.4g}",
                                 key=f"map-low-{name}-{version}"),
                high.number_input(f"{word} below", value=limits.highest, format="%.6g",
                                  placeholder=f"{bins[name].highest:.4g}",
                                  key=f"map-high-{name}-{version}"),
            )  # fmt: skip
        if st.form_submit_button("Apply"):
            state.show(histograms.boxed(view, bounds, bins))
            st.rerun()


PAGE = page.Page("map", "Map", ":material/scatter_plot:", draw)
