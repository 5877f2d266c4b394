"""What long calls report to whoever started them, without knowing who that is.

Library code takes `progress: Progress = SILENT` and never prints. The command line draws a bar
(`app.cli.console`), the desk a line, a notebook whatever its owner passes.
"""

from typing import Protocol


class Progress(Protocol):
    """Receives what a long call has to say."""

    def line(self, text: str) -> None:
        """One sentence for the person who watches; no markup."""

    def update(self, task: str, done: int, total: int | None = None, note: str = "") -> None:
        """`done` of `total` units of `task` are finished (`total` None: unknown); `note` is shown
        beside them. May be called from another thread, and as often as the caller likes."""


class _Silent:
    def line(self, text: str) -> None:
        """Say nothing."""

    def update(self, task: str, done: int, total: int | None = None, note: str = "") -> None:
        """Show nothing."""


SILENT: Progress = _Silent()
"""The default: nobody watches."""
