"""The command `outvoted`: a table of verbs, and how their errors are shown.

A verb is a typed function in a module of this folder and one line in VERBS. Importing such a
module must be cheap, since every call imports all of them: what is heavy (torch, duckdb, pyarrow,
polars, plotly) is imported inside the verb's function.
"""

import errno
import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from app.cli.entry_commands import finite
from toolkit.errors import OutvotedError, is_damage

VERBS: dict[str, dict[str, str]] = {
    "Import": {
        "ingest": "app.cli.ingest:app",
        "thumbnails": "app.cli.check:thumbnails",
        "check": "app.cli.check:check",
    },
    "Label": {
        "flip": "app.cli.labels:FlipCommand",
        "labels": "app.cli.labels:app",
        "score": "app.cli.score:score",
        "scorers": "app.cli.score:scorers_app",
    },
    "Train": {
        "plan": "app.cli.train:plan",
        "cache": "app.cli.train:cache",
        "train": "app.cli.train:train",
        "resume": "app.cli.train:resume",
        "probe": "app.cli.train:probe",
        "evaluate": "app.cli.evaluate:evaluate",
    },
    "Analyze": {
        "analyze": "app.cli.analyze:analyze",
        "detect": "app.cli.analyze:detect",
        "cartography": "app.cli.analyze:cartography",
    },
    "Curate": {"app": "app.cli.desk:desk"},
    "Export": {"export": "app.cli.export:ExportCommand"},
    "Try it": {"demo": "app.cli.demo:demo"},
}
"""Step of the workflow -> verb -> "module:function". For a verb with verbs of its own the function
is a Typer app; a class is a command generated from a registry. `outvoted --help` has this order."""

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_NAMES = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EINVAL)
"""Errors of a path that is no possible one."""
"""Errors of the disk, which any verb can meet and no code can prevent."""


class _Workflow(TyperGroup):
    """A group whose help lists its verbs under the steps of the workflow."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb of that name, or None."""
        verb = super().get_command(ctx, cmd_name)
        return verb if verb is None else finite(verb)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section a step, with all summaries in one column."""
        width = max(len(name) for name in self.commands)
        for step, verbs in VERBS.items():
            rows = [
                (name.ljust(width), verb.get_short_help_str(formatter.width - width - 4))
                for name in verbs
                if (verb := self.get_command(ctx, name)) is not None
            ]
            if rows:
                with formatter.section(step):
                    formatter.write_dl(rows)


def registered() -> typer.Typer:
    """The app with every verb of VERBS."""
    app = typer.Typer(
        cls=_Workflow,
        name="outvoted",
        help="Find the labels that your image model is outvoted on, look at them, and train "
        "around them.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for verbs in VERBS.values():
        for name, target in verbs.items():
            module, _, attribute = target.partition(":")
            verb = getattr(import_module(module), attribute)
            if isinstance(verb, typer.Typer):
                app.add_typer(verb, name=name)
            elif isinstance(verb, type):
                app.command(name, cls=verb, help=verb.__doc__)(lambda: None)
            else:
                app.command(name)(verb)
    return app


def main() -> None:
    """Run the command line. What a user can fix is one sentence on stderr and exit status 1."""
    try:
        registered()()
    except OutvotedError as problem:
        _fail(str(problem))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as problem:
        if is_damage(problem):
            _fail(
                f"A file cannot be read ({' '.join(str(problem).split())}); type "
                "`outvoted check STORE`, which names every damaged part and says what to do."
            )
        if isinstance(problem, OSError) and problem.errno in _NAMES:
            _fail(f"{_short(problem.filename)} cannot be a path here ({problem.strerror}).")
        if isinstance(problem, OSError) and problem.errno in _DISK:
            _fail(
                f"{problem.filename or 'A file'} cannot be written or read ({problem.strerror}); "
                "what was written before is complete. Free space or fix the folder's permissions, "
                "then type the same command again."
            )
        raise


def _short(path: object) -> str:
    """A path as a sentence can carry it."""
    text = ascii(str(path))
    return text if len(text) <= 200 else f"{text[:100]} ... {text[-20:]}"


def _fail(text: str) -> None:
    typer.echo(f"outvoted: {text}", err=True)
    sys.exit(1)
