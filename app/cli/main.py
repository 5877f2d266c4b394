"""The command `outvoted`: one verb a file, each parsed here and answered by one call.

A verb's module is imported when the command starts, so modules of this folder import what is
heavy (torch, polars, plotly) inside their functions: `outvoted --help` answers at once.
"""

import errno
import sys

import typer
from rich.console import Console

from toolkit.errors import OutvotedError, is_damage

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""What a disk answers that nobody's code is to blame for, in whatever verb."""

app = typer.Typer(
    name="outvoted",
    help="Find the preference pairs your image model is outvoted on, look, and train around them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def registered() -> typer.Typer:
    """The app with every verb."""
    from app.cli import (
        analyze,
        check,
        demo,
        desk,
        detect,
        evaluate,
        export,
        ingest,
        labels,
        score,
        train,
    )

    app.add_typer(ingest.app, name="ingest")
    app.add_typer(labels.app, name="labels")
    app.command("flip", cls=labels.FlipCommand)(labels.flip)
    app.command("plan")(train.plan)
    app.command("train")(train.train)
    app.command("resume")(train.resume)
    app.command("cache")(train.cache)
    app.command("thumbnails")(check.thumbnails)
    app.command("analyze")(analyze.analyze)
    app.command("detect")(detect.detect)
    app.command("cartography")(analyze.cartography)
    app.command("probe")(train.probe)
    app.command("score")(score.score)
    app.add_typer(score.scorers_app, name="scorers")
    app.command("evaluate")(evaluate.evaluate)
    app.command("app")(desk.desk)
    app.command("export")(export.export)
    app.command("check")(check.check)
    app.command("demo")(demo.demo)
    return app


def main() -> None:
    """Entry point: what a user or a disk's owner can mend is one sentence, and exit status 1."""
    try:
        registered()()
    except OutvotedError as problem:
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"outvoted: {problem}", markup=False
        )
        sys.exit(1)
    except Exception as problem:
        if is_damage(problem):
            Console(stderr=True, soft_wrap=True, highlight=False).print(
                f"outvoted: A file cannot be read ({' '.join(str(problem).split())}); type "
                "`outvoted check STORE`, which names every damaged part and says what to do.",
                markup=False,
            )
            sys.exit(1)
        if not isinstance(problem, OSError) or problem.errno not in _DISK:
            raise
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"outvoted: {problem.filename or 'A file'} cannot be written or read "
            f"({problem.strerror}); what was written before is whole. Free space or mend the "
            "folder, then type the same command again.",
            markup=False,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
