"""What verbs share in a terminal: bars where a person watches, tables whose numbers are whole."""

import io

import pytest
from rich.console import Console

from app.cli.console import ConsoleProgress, check_choice, needs, print_table
from toolkit.errors import InputError


def recorded(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, record=True)


def drawn(progress: ConsoleProgress) -> str:
    with progress:
        progress.line("reading [bold] :warning: 3 files")
        for done in range(4):
            progress.update("images", done, 3, note=f"loss 0.{done}")
        progress.line("done")
    return progress.console.export_text()


def test_a_terminal_gets_a_bar_a_task_under_its_sentences() -> None:
    text = drawn(ConsoleProgress(recorded(terminal=True)))
    assert text.startswith("reading [bold] :warning: 3 files")
    assert "images" in text
    assert "3/3" in text
    assert "loss 0.3" in text


def test_a_log_gets_sentences_only() -> None:
    text = drawn(ConsoleProgress(recorded(terminal=False)))
    assert [line.split(" ", 1)[0] for line in text.splitlines()] == ["reading", "done"]


def test_a_table_breaks_long_names_and_no_number() -> None:
    console = recorded(terminal=False)
    cells = ["0.77 (0.74-0.79)"] * 4
    rows = [("a_detector_with_a_long_name [x] a", *cells)]
    print_table("title", ["name", *"abcd"], rows, console=console, fold=True)
    text = console.export_text()
    assert text.count("0.77 (0.74-0.79)") == 4
    assert "…" not in text
    assert "[x]" in text


def test_a_wrong_choice_and_a_missing_package_say_what_to_type() -> None:
    check_choice("format", "kohya", ("kohya",))
    with pytest.raises(InputError, match=r"no format 'x'; choose kohya, weights\."):
        check_choice("format", "x", ("kohya", "weights"))
    sentence = r"package absent_package, .* `pip install 'outvoted\[analyze\]'`"
    with pytest.raises(InputError, match=sentence), needs("analyze"):
        import absent_package.part  # noqa: F401
    with pytest.raises(ModuleNotFoundError), needs("analyze"):
        import toolkit.absent  # noqa: F401
