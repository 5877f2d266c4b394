"""The page Map: any two findings against each other; a box on it becomes the view."""

from itertools import islice

import streamlit as st

from app.desk import page as frame
from app.desk import state
from app.desk.components import messages as notice
from app.desk.components import page, scatter
from app.desk.components import status_bar as view_words
from app.desk.components.html_text import literal
from app.desk.components.scatter import Side
from app.desk.queries import map as reads
from app.desk.queries import queue as data
from app.desk.queries import shelf
from app.desk.queries.queue import Desk
from app.desk.views import sidebar as filters
from toolkit.colors import Ground
from toolkit.store import Store
from toolkit.store.queue import histograms as mapping
from toolkit.store.queue import views as listing
from toolkit.store.queue.histograms import Map
from toolkit.store.queue.view import Range, View

_FIRST = (
    ("cartography.variability", "cartography.cartography_confidence"),
    ("stability", "confidence"),
)
"""Axes to begin with, where the run has values of both: the cartography map."""


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The whole page, or what the store lacks for it."""
    page.head(
        "Map",
        "Any two findings against each other. Draw a box, or click a bar: the Queue and the Grid "
        "then show its pairs.",
    )
    desk, view = data.current(store, settings)
    if not desk.run:
        _lacking(store, settings)
        return
    filters.draw(desk, settings, ground)
    x, y = _axes(desk)
    bare = view.with_range(x, None, None).with_range(y, None, None)
    drawn = reads.drawn(desk, bare, x, y)
    if drawn is None:
        notice.news(f"No pair of this view has both {x} and {y}; choose other axes above.")
        return
    _summary(desk, view, drawn, (x, y))
    _charts(view, drawn, (x, y), ground)
    _edges(view, drawn, (x, y))
    if pair_id := st.session_state.get("map-pair"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.html(f'<span class="desk-quiet">clicked: {literal(pair_id)}</span>')
            frame.page_link("pair", "Open this pair", pair=pair_id)


def _lacking(store: Store, settings: state.Settings) -> None:
    run = settings.run or shelf.run_of(store, "") or "RUN"
    place = notice.path(store.root)
    if not store.runs():
        notice.news("A map needs findings, and the store has no run yet. Type in a terminal:")
        notice.command(f"outvoted train RECIPE --store {place}")
    else:
        notice.news("A map needs findings, and no run has any yet. Type in a terminal:")
        notice.command(f"outvoted analyze {place} --run {run}")


def _axes(desk: Desk) -> tuple[str, str]:
    """The two columns, as chosen before on this page or to begin with."""
    names = mapping.numbers_of(desk.columns)
    kept = st.session_state.get("map-axes", ())
    if not kept or not all(name in names for name in kept):
        kept = _first_axes(desk, names)
    left, right = st.columns(2)
    x = left.selectbox("Across", names, index=names.index(kept[0]), key="map-x")
    others = [name for name in names if name != x]
    at = others.index(kept[1]) if kept[1] in others else 0
    y = right.selectbox("Up", others, index=at, key="map-y")
    st.session_state["map-axes"] = (x, y)
    return str(x), str(y)


def _first_axes(desk: Desk, names: list[str]) -> tuple[str, str]:
    """Two columns with values to begin with: an import has no confidence and stability."""
    whole = View(run=desk.run)

    def known(name: str) -> bool:
        return name in names and any(data.spread(desk, whole, name)[0].counts)

    for x, y in _FIRST:
        if known(x) and known(y):
            return x, y
    x, y = [*islice(filter(known, names), 2), *names[:2]][:2]
    return x, y


def _summary(desk: Desk, view: View, drawn: Map, axes: tuple[str, str]) -> None:
    count = listing.count(desk.cursor(view), view)
    with st.container(horizontal=True, vertical_alignment="center", key="map-head"):
        st.html(
            f'<span class="desk-place" id="map-count" data-pairs="{count}">{count:,} pairs</span> '
            f'<span class="desk-quiet">{literal(view_words.words(view))}</span>'
        )
        frame.page_link("queue", "Judge them in the Queue", icon=":material/view_carousel:")
        frame.page_link("grid", "See them in the Grid", icon=":material/apps:")
        boxed = any(view.range_of(name) != Range(name) for name in axes)
        st.button("Clear the box", key="map-clear", disabled=not boxed, type="tertiary",
                  on_click=_cleared, args=(view, axes))  # fmt: skip
    missing = f"; {drawn.missing:,} without one of the two values" if drawn.missing else ""
    how = "a dot a pair" if drawn.dots is not None else "squares are bins"
    st.html(
        f'<p class="desk-quiet">{drawn.known:,} pairs drawn, whatever their verdict ({how})'
        f"{missing}.</p>"
    )


def _cleared(view: View, axes: tuple[str, str]) -> None:
    for name in axes:
        view = view.with_range(name, None, None)
    st.session_state["map-pair"] = None
    state.show(view)


def _charts(view: View, drawn: Map, axes: tuple[str, str], ground: Ground) -> None:
    """The scatter with the histogram of each side; what is picked becomes the view."""
    x, y = axes
    made = st.session_state["chart"]
    bins = {x: drawn.x, y: drawn.y}

    def boxed() -> None:
        event = st.session_state[f"map-{made}"]
        st.session_state["map-pair"] = scatter.picked_pair(event)
        if box := scatter.picked_box(event):
            state.show(mapping.boxed(view, {x: box[0], y: box[1]}, bins))

    def barred(name: str) -> None:
        picked = scatter.picked_bar(st.session_state[f"map-{name}-{made}"])
        if picked is not None:
            state.show(mapping.boxed(view, {name: picked}, bins))

    calm = {"displayModeBar": False, "doubleClick": False}
    left, right = st.columns([6, 1], gap="small")
    with left:
        st.plotly_chart(
            scatter.bars(drawn.x, view.range_of(x), ground, upright=True), theme=None, config=calm,
            key=f"map-{x}-{made}", on_select=lambda: barred(x), selection_mode="points",
            alt=f"Histogram of {x}; a click on a bar shows its pairs",
        )  # fmt: skip
        st.plotly_chart(
            scatter.scatter(drawn, view.range_of(x), view.range_of(y), ground), theme=None,
            config=calm, key=f"map-{made}", on_select=boxed, selection_mode=("points", "box"),
            alt=f"{y} against {x}; a box around pairs shows them",
        )  # fmt: skip
    with right:
        st.html('<div style="height: 80px"></div>')
        st.plotly_chart(
            scatter.bars(drawn.y, view.range_of(y), ground, upright=False), theme=None,
            config=calm, key=f"map-{y}-{made}", on_select=lambda: barred(y),
            selection_mode="points", alt=f"Histogram of {y}; a click on a bar shows its pairs",
        )  # fmt: skip


def _edges(view: View, drawn: Map, axes: tuple[str, str]) -> None:
    """The box by numbers: what the mouse does, for the keyboard."""
    made = st.session_state["chart"]
    with st.expander("The box by numbers"), st.form(f"map-edges-{made}", border=False):
        found: dict[str, Side] = {}
        for place, (name, bins) in zip(
            st.columns(2), zip(axes, (drawn.x, drawn.y), strict=True), strict=True
        ):
            one, said = view.range_of(name), notice.escaped(name)
            low, high = place.columns(2)
            given = [
                low.number_input(f"{said} from", value=one.lowest, format="%.6g",
                                 placeholder=f"{bins.lowest:.4g}", key=f"map-low-{name}-{made}"),
                high.number_input(f"{said} below", value=one.highest, format="%.6g",
                                  placeholder=f"{bins.highest:.4g}", key=f"map-high-{name}-{made}"),
            ]  # fmt: skip
            found[name] = (given[0], given[1])
        if st.form_submit_button("Take this box"):
            bins_by = dict(zip(axes, (drawn.x, drawn.y), strict=True))
            state.show(mapping.boxed(view, found, bins_by))
            st.rerun()
