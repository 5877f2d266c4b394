"""A view and its link are each other's inverse; a bad link is a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import InputError
from toolkit.store.queue.views import STATES, Range, View, view_from_query, view_to_query

TEXT = st.text(max_size=12)
BOUND = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def views(draw: st.DrawFn) -> View:
    view = View(
        run=draw(TEXT),
        where=draw(TEXT),
        text=draw(TEXT),
        model=draw(TEXT),
        annotator=draw(TEXT),
        state=draw(st.sampled_from(STATES)),
        order=draw(st.text(min_size=1, max_size=12)),
        descending=draw(st.booleans()),
    )
    for column in draw(st.lists(st.text(max_size=8), max_size=3)):
        view = view.with_range(column, draw(BOUND), draw(BOUND))
    return view


@given(views())
def test_a_link_says_its_view_again(view: View) -> None:
    assert view_from_query(view_to_query(view)) == view


@given(views(), views())
def test_two_views_share_numbers_only_if_they_number_the_same(one: View, other: View) -> None:
    def numbering(view: View) -> tuple[object, ...]:
        return (
            view.run,
            view.where,
            view.text,
            view.model,
            view.annotator,
            view.ranges,
            view.order,
            view.descending,
        )

    assert (one.table == other.table) == (numbering(one) == numbering(other))


def test_the_default_view_is_a_bare_link() -> None:
    assert view_to_query(View()) == {}
    assert view_from_query({}) == View()


def test_a_link_reads_as_one_would_write_it() -> None:
    view = View(where="minority > 0.5", state="open", order="cartography.variability").with_range(
        "confidence", 0.25, None
    )
    assert view_to_query(view) == {
        "where": "minority > 0.5",
        "range": "confidence:0.25:",
        "state": "open",
        "order": "cartography.variability",
    }


def test_a_second_range_on_a_column_replaces_the_first() -> None:
    view = View().with_range("minority", 0.1, None).with_range("minority", None, 0.9)
    assert view.ranges == (Range("minority", None, 0.9),)
    assert view.with_range("minority", None, None) == View()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"state": "done"}, "state=done; write one of any, open"),
        ({"way": "sideways"}, "way=sideways; write up"),
        ({"range": "minority"}, "range=minority is no range; write COLUMN:FROM:TO"),
        ({"range": "minority:a:b"}, "is no range"),
        ({"range": "minority:nan:"}, "is no range"),
        ({"range": "minority:0.1:inf"}, "is no range"),
    ],
)
def test_a_bad_link_is_a_sentence(query: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        view_from_query(query)


def test_what_others_append_to_a_link_does_no_harm() -> None:
    assert view_from_query({"utm_source": "mail", "pair": "p"}) == View()
