"""The sidebar: the store, its runs, saved views, and filters with a small histogram each.

The view is the only truth: every widget is set from it before it is drawn, and changes it when it
is changed.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import streamlit as st

from app.desk import page, state
from app.desk.components import charts, text
from app.desk.queries import queue
from app.desk.queries.connection import Desk, runs_with_queue
from toolkit.colors import Ground
from toolkit.store.queue.histograms import Bins
from toolkit.store.queue.tables import ORDERS, SYMBOLS
from toolkit.store.queue.views import SCORERS_AGAINST, STATES, View


def show_sidebar(desk: Desk, settings: state.Settings, ground: Ground) -> None:
    """The whole sidebar."""
    view = state.view()
    st.session_state["filters-fresh"] = state.newly_opened("filters")
    with st.sidebar:
        _store(desk, settings, view)
        _saved_views(settings)
        _field("Prompt contains", "text", view)
        if desk.run:
            _u_filter(desk, view, ground)
            for column in ("confidence", "stability", SCORERS_AGAINST):
                if column in desk.columns:
                    _column_filter(desk, view, column, ground)
        _choice("Show", "state", list(STATES), view, lambda kind: text.STATES.get(kind, kind))
        _order(desk, view)
        with st.expander("More filters", expanded=_more_is_used(view)):
            _more(desk, view)


def changed(**fields: Any) -> None:
    """Change parts of the view, and start at its first pair."""
    state.show(replace(state.view(), **fields))


def _widget(name: str, value: Any) -> str:
    """The key of a widget that shows `value` of the view."""
    key = f"filter-{name}"
    # The widgets of a newly opened page show their defaults until they are set. If they were set
    # each time, a field would lose what is being typed.
    if st.session_state["filters-fresh"] or st.session_state.get(key) != value:
        st.session_state[key] = value
    return key


def _field(label: str, name: str, view: View, **how: Any) -> None:
    key = _widget(name, getattr(view, name))
    st.text_input(
        label, key=key, on_change=lambda: changed(**{name: st.session_state[key].strip()}), **how
    )


def _choice(
    label: str, name: str, options: list[str], view: View, words: Callable[[str], str]
) -> None:
    key = _widget(name, getattr(view, name))
    st.selectbox(
        label,
        options,
        format_func=words,
        key=key,
        on_change=lambda: changed(**{name: st.session_state[key]}),
    )


def _store(desk: Desk, settings: state.Settings, view: View) -> None:
    st.html(
        f'<p class="desk-store"><b>{text.escape(desk.store.root.name)}</b>'
        f'<span class="desk-quiet">{desk.pairs:,} pairs · labels {text.escape(desk.label_set)} · '
        f"curator {text.escape(settings.curator)}</span></p>"
    )
    runs = runs_with_queue(desk.store)
    if len(runs) > 1:
        key = _widget("run", desk.run)
        st.selectbox(
            "Run",
            runs,
            key=key,
            on_change=lambda: state.show(View(run=st.session_state[key], text=view.text)),
        )
    elif desk.run:
        st.html(f'<p class="desk-quiet desk-tight">run {text.escape(desk.run)}</p>')


def _saved_views(settings: state.Settings) -> None:
    views = state.saved_views(settings.journal)
    with st.container(key="saved-views", gap=None):
        for name, kept in views.items():
            page.page_link(state.HOME, name, kept, icon=":material/bookmark:")
    with st.popover("Saved views", icon=":material/bookmark_add:", width="stretch"):
        st.text_input("Name for this view", key="view-name", max_chars=60)

        def save() -> None:
            state.save_view(settings.journal, st.session_state["view-name"], state.view())

        st.button("Save this view", key="save-view", on_click=page.callback(save))
        if views:
            old = st.selectbox("Delete a view", list(views), index=None, key="delete-name")
            st.button(
                "Delete",
                key="delete-view",
                disabled=old is None,
                on_click=page.callback(
                    lambda: state.delete_view(settings.journal, st.session_state["delete-name"])
                ),
            )


def _u_filter(desk: Desk, view: View, ground: Ground) -> None:
    """u: the histogram, whose bars filter when clicked, and a slider below it."""
    whole, shown = queue.histogram(desk, view, "minority")
    name = f"u-{st.session_state['chart']}"

    def picked() -> None:
        bin_number = charts.picked_bin(st.session_state.get(name))
        bounds = (None, None) if bin_number is None else _bounds(whole, bin_number, bin_number + 1)
        state.show(state.view().with_range("minority", *bounds))

    st.html('<span class="desk-quiet">u minority; click a bar</span>')
    st.plotly_chart(
        charts.histogram("u", whole, _within(whole, shown, view, "minority"), ground),
        key=name,
        on_select=picked,
        selection_mode="points",
        config=charts.CALM,
        alt="Histogram of u; a click on a bar shows its pairs only. The same with the range below.",
    )
    _range("minority", "u from, to", whole, view)


def _column_filter(desk: Desk, view: View, column: str, ground: Ground) -> None:
    """A column's small histogram, and a slider below it."""
    whole, shown = queue.histogram(desk, view, column)
    within = _within(whole, shown, view, column)
    word = "scorers against the label" if column == SCORERS_AGAINST else _word(column)
    name, source = text.escape(word), charts.histogram_image(whole, within, ground)
    st.html(
        f'<div class="desk-small"><span class="desk-quiet">{name}</span>'
        f'<img src="{source}" alt="histogram of {name}"></div>'
    )
    _range(column, f"{word} from, to", whole, view)


def _bounds(bins: Bins, low: int, high: int) -> tuple[float | None, float | None]:
    """Edges of bins as bounds of a view; the outermost edges are no bounds."""
    n = len(bins.counts)
    return (bins.edge(low) if low > 0 else None, bins.edge(high) if high < n else None)


def _within(whole: Bins, shown: Bins, view: View, column: str) -> Bins:
    """The histogram of the view, with empty bins outside its bounds on the column."""
    low, high = _edges(whole, view, column)
    counts = tuple(n if low <= k < high else 0 for k, n in enumerate(shown.counts))
    return replace(shown, counts=counts)


def _edges(bins: Bins, view: View, column: str) -> tuple[int, int]:
    """The edges nearest to the view's bounds on a column, by number."""
    bounds, n = view.range_of(column), len(bins.counts)
    wide = (bins.highest - bins.lowest) / n or 1.0

    def nearest(value: float) -> int:
        inside = min(bins.highest, max(bins.lowest, value))  # a link may say 1e308
        return min(n, max(0, round((inside - bins.lowest) / wide)))

    low = 0 if bounds.lowest is None else nearest(bounds.lowest)
    high = n if bounds.highest is None else nearest(bounds.highest)
    return (low, high) if low < high else (min(low, n - 1), min(low, n - 1) + 1)


def _range(column: str, label: str, bins: Bins, view: View) -> None:
    """The slider of a column's bounds.

    A slider keeps the value it was created with. If the view got its bounds elsewhere, a new slider
    replaces it; if the slider itself was dragged, it stays, and keeps the keyboard's focus.
    """
    edges = _edges(bins, view, column)
    version, initial, shown = st.session_state.get(f"slider-{column}", (0, edges, edges))
    if shown != edges:
        version, initial = version + 1, edges
    st.session_state[f"slider-{column}"] = (version, initial, edges)
    key = f"range-{column}-{version}"

    def dragged() -> None:
        low, high = st.session_state[key]
        st.session_state[f"slider-{column}"] = (version, initial, (low, high))
        state.show(state.view().with_range(column, *_bounds(bins, low, high)))

    st.select_slider(
        label,
        options=range(len(bins.counts) + 1),
        value=initial,
        format_func=lambda edge: text.number(bins.edge(edge)),
        key=key,
        on_change=dragged,
        label_visibility="collapsed",
    )


def _order(desk: Desk, view: View) -> None:
    others = [
        column.name
        for column in desk.columns.values()
        if column.kind == "number" and column.name not in ORDERS
    ]
    _choice("Order by", "order", [*ORDERS, *others], view, _word)
    key = _widget("descending", view.descending)
    st.toggle("Largest first", key=key, on_change=lambda: changed(descending=st.session_state[key]))


def _word(column: str) -> str:
    symbol = next((sign for name, sign in SYMBOLS.items() if name == column), "")
    return f"{symbol}  {column}".strip()


def _more_is_used(view: View) -> bool:
    return bool(view.where or view.model or view.annotator)


def _more(desk: Desk, view: View) -> None:
    if "model_0" in desk.columns:
        _field("Model", "model", view, placeholder="of either image")
    _field("Annotator", "annotator", view)
    _field("Condition", "where", view, placeholder="minority > 0.5 and votes > 1")
    with st.popover("Columns of a condition", width="stretch"):
        st.text(", ".join(desk.columns))
    st.toggle("Blur pairs marked unsafe", value=True, key="blur")
