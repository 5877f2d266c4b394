"""Every way in has a card, and a card's columns are those that its reader asks for."""

import re
from importlib.resources import files

import pytest

from toolkit.ingest import hpd, image_preferences, imagereward


def card(name: str) -> str:
    return (files("data_cards") / f"{name}.md").read_text(encoding="utf-8")


def needed(text: str) -> set[str]:
    return set(re.findall(r"`([\w.]+)` \*", text))


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("hpdv2", {*hpd.FORMS["train"], *hpd.FORMS["test"]}),
        ("hpdv3", set(hpd.FORMS["v3"])),
        ("imagereward", set(imagereward.PER_IMAGE)),
        (
            "open_image_preferences",
            {"prompt", "image_1", "image_2", image_preferences.RESPONSES[0]},
        ),
    ],
)
def test_a_card_marks_exactly_the_columns_that_its_reader_needs(name, columns):
    assert needed(card(name)) == columns


@pytest.mark.parametrize(
    "name",
    [
        "agiqa3k",
        "hpdv2",
        "hpdv3",
        "imagereward",
        "miniworld",
        "open_image_preferences",
        "pickapic_v2",
    ],
)
def test_a_card_has_origin_schema_and_limits(name):
    text = card(name)
    assert "## Origin" in text
    assert "## Schema" in text
    assert "limits" in text.lower() or "What it is not" in text


def test_the_cards_commands_are_real_ones():
    import shlex

    import typer

    from app.cli.main import registered

    root = typer.main.get_command(registered())
    for name in ("hpdv2", "hpdv3", "imagereward", "open_image_preferences"):
        lines = re.findall(r"^    outvoted (.+)$", card(name), re.MULTILINE)
        assert lines
        for line in lines:
            command = root
            words = shlex.split(line)
            while hasattr(command, "get_command"):
                command = command.get_command(typer.Context(command), words.pop(0))
            command.make_context("outvoted", list(words), resilient_parsing=False)
