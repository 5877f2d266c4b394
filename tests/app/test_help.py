"""`outvoted --help` and the help of every verb: complete, short, plain, and quick to answer."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from app.cli import main
from app.cli.main import VERBS, registered
from tests.glossary import forbidden

HEAVY = {"pyarrow", "duckdb", "torch", "polars", "numpy", "pandas", "plotly", "streamlit", "rich"}


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its path, groups before their members."""
    yield path, command
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from verbs(command.get_command(context, name), (*path, name))


EVERY = dict(verbs(typer.main.get_command(registered())))
OPTIONS = {
    f"{' '.join(path)} {param.opts[0]}": param
    for path, command in EVERY.items()
    for param in command.params
}


def shown(*path: str) -> str:
    result = CliRunner().invoke(registered(), [*path, "--help"], terminal_width=80)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_help_groups_every_verb_by_the_steps_of_the_workflow() -> None:
    lines = shown().splitlines()
    sections = [line.removesuffix(":") for line in lines if line[:1].isalpha() and line[-1] == ":"]
    assert [name for name in sections if name != "Options"] == list(VERBS)
    listed = [line.split()[0] for line in lines[lines.index("Import:") :] if line[:2] == "  "]
    assert listed == [name for group in VERBS.values() for name in group]


@pytest.mark.parametrize("path", [p for p, c in EVERY.items() if hasattr(c, "list_commands")])
def test_every_summary_fits_its_line(path: tuple[str, ...]) -> None:
    text = shown(*path)
    assert "..." not in text.replace("COMMAND [ARGS]...", "")
    assert all(len(line) <= 80 for line in text.splitlines())
    for name in (
        below[-1] for below in EVERY if below[:-1] == path and below
    ):  # on one line, so that the list reads as a table
        summary = next(line for line in text.splitlines() if line.split()[:1] == [name])
        assert len(summary.split()) > 1, name


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_help_is_written_in_the_words_of_the_glossary(path: tuple[str, ...]) -> None:
    assert forbidden(shown(*path)) == []


@pytest.mark.parametrize("name", OPTIONS)
def test_every_argument_and_option_has_a_help_text(name: str) -> None:
    assert OPTIONS[name].help


def numbers() -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Path, option and the help of every option that takes a number."""
    for path, command in EVERY.items():
        for param in command.params:
            record = param.get_help_record(typer.Context(command)) or ("", "")
            if param.param_type_name == "option" and re.search(r"<(int|float)", record[0]):
                yield path, param.opts[0], record[1]


NUMBERS = list(numbers())


@pytest.mark.parametrize(
    ("path", "option", "text"), NUMBERS, ids=[" ".join((*p, o)) for p, o, _ in NUMBERS]
)
def test_every_number_says_its_range_and_refuses_what_is_outside(
    path: tuple[str, ...], option: str, text: str
) -> None:
    said = re.search(r"(-?[\d.e+]+)<=x<=([\d.e+]+)", text)
    assert said, "give it min= and max="
    low, high = map(float, said.groups())
    for outside in (f"{low - 1:.0f}", f"{high * 2 + 1:.0f}", "nan", "inf", "9" * 5000):
        command = [*path, *required(EVERY[path], option), option, outside]
        result = CliRunner().invoke(registered(), command)
        assert result.exit_code == 2
        assert f"Invalid value for '{option}'" in " ".join(result.output.split())


def required(command: Any, but: str) -> list[str]:
    """Values for what a command needs beside an option."""
    given: list[str] = []
    for param in command.params:
        if param.required and but not in param.opts:
            given += ["x"] if param.param_type_name == "argument" else [param.opts[0], "x"]
    return given


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from app.cli.main import registered\n"
        "registered()(['--help'], standalone_mode=False)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(eval(done.stdout.splitlines()[-1]))


def test_a_verb_is_one_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of CONTRIBUTING.md."""
    (tmp_path / "count_verb.py").write_text(
        "import typer\n\n"
        "def count(words: list[str]) -> None:\n"
        '    """Count words."""\n'
        "    typer.echo(len(words))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    more = {**main.VERBS["Export"], "count": "count_verb:count"}
    monkeypatch.setitem(main.VERBS, "Export", more)
    assert "  count        Count words." in shown().splitlines()
    result = CliRunner().invoke(registered(), ["count", "a", "b"])
    assert result.output == "2\n"
