"""The sidebar: which store and run, saved views, and the filters with a small histogram each.

The view is the one truth: a widget is set from it before it is drawn, and changes it when it is
changed.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import streamlit as st

from app.desk import page as frame
from app.desk import saved_views as saved
from app.desk import state
from app.desk.components import histogram
from app.desk.components import messages as notice
from app.desk.components import status_bar as view_words
from app.desk.components.html_text import literal, number
from app.desk.queries import queue as data
from app.desk.queries.queue import Desk
from toolkit.colors import Ground
from toolkit.store.queue.columns import VOICES
from toolkit.store.queue.tables import ORDERS, SYMBOLS, Bins
from toolkit.store.queue.view import STATES, View


def draw(desk: Desk, settings: state.Settings, ground: Ground) -> None:
    """The whole sidebar."""
    view = state.view()
    st.session_state["filters-fresh"] = state.newly_opened("filters")
    with st.sidebar:
        _place(desk, settings, view)
        _saved(settings, view)
        _field("Prompt contains", "text", view)
        if desk.run:
            _clickable(desk, view, ground)
            for column in ("confidence", "stability", VOICES):
                if column in desk.columns:
                    _drawn(desk, view, column, ground)
        _choice("Show", "state", list(STATES), view, lambda kind: view_words.STATES.get(kind, kind))
        _order(desk, view)
        with st.expander("More filters", expanded=_more_is_used(view)):
            _more(desk, view)


def changed(**fields: Any) -> None:
    """Change parts of the view; the pairs begin anew."""
    state.show(replace(state.view(), **fields))


def _widget(name: str, value: Any) -> str:
    """The key of a widget that shows `value` of the view."""
    key = f"filter-{name}"
    # A page's first drawing makes new widgets in the browser, which show their own defaults until
    # they are told; told at every drawing, a field would lose what is being typed.
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


def _place(desk: Desk, settings: state.Settings, view: View) -> None:
    st.html(
        f'<p class="desk-store"><b>{literal(desk.store.root.name)}</b>'
        f'<span class="desk-quiet">{desk.pairs:,} pairs · labels {literal(desk.label_set)} · '
        f"curator {literal(settings.curator)}</span></p>"
    )
    runs = data.runs_with_queue(desk.store)
    if len(runs) > 1:
        key = _widget("run", desk.run)
        st.selectbox(
            "Run",
            runs,
            key=key,
            on_change=lambda: state.show(View(run=st.session_state[key], text=view.text)),
        )
    elif desk.run:
        st.html(f'<p class="desk-quiet desk-tight">run {literal(desk.run)}</p>')


def _saved(settings: state.Settings, view: View) -> None:
    views = saved.saved_views(settings.journal)
    with st.container(key="saved-views", gap=None):
        for name, kept in views.items():
            frame.page_link(state.HOME, name, kept, icon=":material/bookmark:")
    with st.popover("Saved views", icon=":material/bookmark_add:", width="stretch"):
        name = st.text_input("Name for this view", key="view-name", max_chars=60)
        st.button(
            "Save this view",
            key="save-view",
            on_click=frame.told(lambda: saved.save_view(settings.journal, name, view)),
        )
        if views:
            gone = st.selectbox("Forget a view", list(views), index=None, key="forget-name")
            st.button(
                "Forget it",
                key="forget-view",
                disabled=gone is None,
                on_click=frame.told(lambda: saved.forget_view(settings.journal, str(gone))),
            )


def _clickable(desk: Desk, view: View, ground: Ground) -> None:
    """u: the histogram that a click filters, and the range below it."""
    whole, shown = data.spread(desk, view, "minority")
    name = f"u-{st.session_state['chart']}"

    def picked() -> None:
        bin_number = histogram.picked_bin(st.session_state.get(name))
        bounds = (None, None) if bin_number is None else _bounds(whole, bin_number, bin_number + 1)
        state.show(state.view().with_range("minority", *bounds))

    st.html('<span class="desk-quiet">u minority; click a bar</span>')
    st.plotly_chart(
        histogram.clickable("u", whole, _within(whole, shown, view, "minority"), ground),
        key=name,
        on_select=picked,
        selection_mode="points",
        config={"displayModeBar": False, "doubleClick": False},
        alt="Histogram of u; a click on a bar shows its pairs only. The same with the range below.",
    )
    _range("minority", "u from, to", whole, view)


def _drawn(desk: Desk, view: View, column: str, ground: Ground) -> None:
    """A column's small histogram, and the range below it."""
    whole, shown = data.spread(desk, view, column)
    within = _within(whole, shown, view, column)
    word = "voices against the label" if column == VOICES else _word(column)
    st.html(
        f'<div class="desk-small"><span class="desk-quiet">{literal(word)}</span><img '
        f'src="{histogram.drawing(whole, within, ground)}" alt="histogram of {literal(word)}">'
        "</div>"
    )
    _range(column, f"{word} from, to", whole, view)


def _bounds(bins: Bins, low: int, high: int) -> tuple[float | None, float | None]:
    """Edges as a view's bounds; the outermost are none."""
    n = len(bins.counts)
    return (bins.edge(low) if low > 0 else None, bins.edge(high) if high < n else None)


def _within(whole: Bins, shown: Bins, view: View, column: str) -> Bins:
    """The view's bins, those outside its bounds on the column emptied."""
    low, high = _edges(whole, view, column)
    counts = tuple(n if low <= k < high else 0 for k, n in enumerate(shown.counts))
    return replace(shown, counts=counts)


def _edges(bins: Bins, view: View, column: str) -> tuple[int, int]:
    """Numbers of the edges nearest to the view's bounds on a column."""
    bounds, n = view.range_of(column), len(bins.counts)
    wide = (bins.highest - bins.lowest) / n or 1.0

    def nearest(value: float) -> int:
        return min(n, max(0, round((value - bins.lowest) / wide)))

    low = 0 if bounds.lowest is None else nearest(bounds.lowest)
    high = n if bounds.highest is None else nearest(bounds.highest)
    return (low, high) if low < high else (min(low, n - 1), min(low, n - 1) + 1)


def _range(column: str, label: str, bins: Bins, view: View) -> None:
    """The slider of a column's bounds.

    A slider keeps what it was made with: where the view got other bounds than it gave, it is made
    anew; where it was dragged itself, it stays, and with it the keyboard's focus.
    """
    at = _edges(bins, view, column)
    made, begun, stands = st.session_state.get(f"slider-{column}", (0, at, at))
    if stands != at:
        made, begun = made + 1, at
    st.session_state[f"slider-{column}"] = (made, begun, at)
    key = f"range-{column}-{made}"

    def dragged() -> None:
        low, high = st.session_state[key]
        st.session_state[f"slider-{column}"] = (made, begun, (low, high))
        state.show(state.view().with_range(column, *_bounds(bins, low, high)))

    st.select_slider(
        label,
        options=range(len(bins.counts) + 1),
        value=begun,
        format_func=lambda edge: number(bins.edge(edge)),
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
        _field("Model", "model", view, placeholder="either image's")
    _field("Annotator", "annotator", view)
    _field("Condition", "where", view, placeholder="minority > 0.5 and votes > 1")
    with st.popover("What a condition can name", width="stretch"):
        st.text(", ".join(desk.columns))
    st.toggle("Blur pairs marked unsafe", value=True, key="blur")


def words(view: View) -> str:
    """What the view leaves out, as Markdown that shows it as it is; empty for every pair."""
    return notice.escaped(" · ".join(view_words.limits(view)))
