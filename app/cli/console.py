"""What verbs share in a terminal: progress bars, plain tables, and missing packages as sentences.

Rich is used here only. Sentences are printed by `typer.echo`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from toolkit.errors import InputError


def plain_console(*, stderr: bool = False) -> Console:
    """A console that neither wraps lines nor reads markup or emoji codes in a text."""
    return Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)


class ConsoleProgress:
    """A `toolkit.progress.Progress` that prints sentences and draws one bar a task.

    with ConsoleProgress() as progress:
        train(recipe, progress=progress)

    Bars are drawn where standard output is a terminal, else on standard error if that is one, else
    not at all: a log holds sentences only.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or plain_console()
        terminal = self.console if self.console.is_terminal else plain_console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=terminal,
            disable=not terminal.is_terminal,
            redirect_stdout=terminal is self.console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "ConsoleProgress":
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def line(self, text: str) -> None:
        """Print a sentence, above the bars."""
        self.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def update(self, task: str, done: int, total: int | None = None, note: str = "") -> None:
        """Move the task's bar; the first call draws it."""
        if task not in self._tasks:
            self._tasks[task] = self._bars.add_task(task, total=total, note=note)
        self._bars.update(self._tasks[task], completed=done, total=total, note=note)


def print_table(
    title: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    console: Console | None = None,
    names: int = 1,
    fold: bool = False,
) -> None:
    """Print a table without frames: the first `names` columns are text, the others numbers.

    Numbers are never cut. With `fold` the columns stand close together and a long name is broken
    into lines, so that seven columns fit 80 characters.
    """
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=0 if fold else (0, 1),
    )
    for k, heading in enumerate(headings):
        if k < names:
            table.add_column(heading, overflow="fold", no_wrap=not fold)
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # a name is no markup
    (console or plain_console()).print(table)


def check_choice(what: str, name: str, allowed: Iterable[str]) -> None:
    """InputError that lists the choices if `name` is none of them."""
    choices = list(allowed)
    if name not in choices:
        raise InputError(f"There is no {what} {name!r}; choose {', '.join(choices)}.")


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around the heavy imports of a verb: names the extra to install where one is missing."""
    try:
        yield
    except ModuleNotFoundError as problem:
        top = (problem.name or "").partition(".")[0]
        if top in ("toolkit", "training", "analysis", "app"):
            raise
        raise InputError(
            f"This needs the package {top}, which is not installed; type "
            f"`pip install 'outvoted[{extra}]'`."
        ) from problem
