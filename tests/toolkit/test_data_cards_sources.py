"""Every way in has a card: its columns are those that its reader needs, and its command reads them.

The files are made in the documented shapes (`public_shapes`); labels are compared row by row.
"""

import re
import shlex
from importlib.resources import files

import pytest
from typer.testing import CliRunner

from app.cli.ingest import app
from tests.toolkit.public_shapes import SHAPES, image_of
from tests.toolkit.stores import rows
from toolkit.image_files import content_hash
from toolkit.ingest import hpd, image_preferences, imagereward
from toolkit.store import open_store


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
        "miniworld",
        "open_image_preferences",
        "pickapic_v2",
        *SHAPES,
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


def commands(name: str) -> list[list[str]]:
    """The words of every `outvoted ingest` of a card, without the first two."""
    text = card(name).replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^    outvoted ingest (.+)$", text, re.M)]


@pytest.mark.parametrize("name", SHAPES)
def test_a_cards_command_reads_files_of_its_shape_with_every_label(name, tmp_path, monkeypatch):
    truth = SHAPES[name](tmp_path)
    monkeypatch.chdir(tmp_path)
    [words] = [words for words in commands(name) if (tmp_path / words[1]).exists()]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    store = open_store(tmp_path / "STORE")
    pairs = rows(store, "pairs")
    found = {pair["prompt"]: pair["label"] for pair in pairs}
    assert found == {p: label and pytest.approx(label) for p, label in truth.labels.items()}
    assert len(pairs) == len(found)
    prompts = {pair["pair_id"]: pair["prompt"] for pair in pairs}
    axes: dict[str, dict[str, float]] = {}
    for entry in rows(store, "axes"):
        axes.setdefault(entry["axis"], {})[prompts[entry["pair_id"]]] = entry["label"]
    assert axes == {axis: pytest.approx(labels) for axis, labels in truth.axes.items()}
    assert len(rows(store, "votes")) == truth.votes
    if truth.images and name != "hpdv3":  # whose images are paths, and keep them as names
        order = {prompt: k for k, prompt in enumerate(truth.labels)}
        known = {image["image_id"]: image["content_hash"] for image in rows(store, "images")}
        for pair in pairs:
            for slot in (0, 1):
                right = content_hash(image_of(order[pair["prompt"]], slot))
                assert known[pair[f"image_{slot}"]] == right
