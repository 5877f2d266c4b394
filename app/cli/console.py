"""The terminal's side of `toolkit.progress`: sentences and bars. The only place that draws bars."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeRemaining


def plain_console(*, stderr: bool = False) -> Console:
    """A console that wraps softly and colours nothing by itself."""
    return Console(stderr=stderr, soft_wrap=True, highlight=False)


class ConsoleProgress:
    """A `toolkit.progress.Progress` that draws one bar a task while it is entered.

    with ConsoleProgress() as progress:
        train(recipe, progress=progress)
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or plain_console()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemaining(),
        )
        self._bars = Progress(*columns, console=self.console)
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
        """Print a sentence above the bars."""
        self.console.print(text, markup=False)

    def update(self, task: str, done: int, total: int | None = None, note: str = "") -> None:
        """Move the task's bar; the first call draws it."""
        if task not in self._tasks:
            self._tasks[task] = self._bars.add_task(task, total=total, note=note)
        self._bars.update(self._tasks[task], completed=done, total=total, note=note)
