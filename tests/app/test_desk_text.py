"""Whatever a prompt or a name holds, the page shows those signs and no others."""

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from app.desk.components.text import escape_markdown, markdown

GFM = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def shown(markdown: str) -> str:
    """The text that a reader of the rendered Markdown sees; it must be one bare paragraph."""
    found = re.fullmatch(r"<p>(.*)</p>\n|", GFM.render(markdown), re.DOTALL)
    assert found, GFM.render(markdown)
    bare = found.group(1) or ""
    assert "<" not in bare
    return html.unescape(bare)


@pytest.mark.parametrize(
    "text",
    [
        "&amp; &#60;b&#62; &copy",
        "a heading\n===",
        "a heading\n---\n",
        "1) one\n2) two",
        "| a | b |\n|---|---|\n| c | d |",
        "[a](http://b.c) ![d](e) <b>f</b> `g` **h** __i__ ~~j~~ $k$ :red[l]",
        "\"quoted\" 'too', 50 % @home ^up; a\\b / c?",
        "> said\n    code",
    ],
)
def test_signs_that_markdown_or_html_would_read_stand_as_they_are(text):
    assert shown(escape_markdown(text)) == " ".join(text.splitlines()).strip(" ")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(max_codepoint=0x17F, exclude_categories=("C", "Z")), min_size=1))
def test_any_word_stands_as_it_is(text):
    assert shown(escape_markdown(text)) == text


def test_commands_between_backticks_stay_commands():
    assert GFM.render(markdown("type `outvoted check S --repair`, & see")) == (
        "<p>type <code>outvoted check S --repair</code>, &amp; see</p>\n"
    )
