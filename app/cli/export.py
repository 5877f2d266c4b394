"""`outvoted export`: a curated set in a format that trainers read.

Its options are the fields of `toolkit.export.Policy` and those of the formats.
"""

import shlex
import sys
from functools import cache
from typing import Any

import typer

from app.cli.entry_commands import LazyCommand, command, parameter, parameters_of


class ExportCommand(LazyCommand):
    """Write a curated copy of the pairs for your trainer."""

    def built(self) -> Any:
        """The command with the options of every format."""
        return _command()


@cache
def _command() -> Any:
    from toolkit.export import FORMATS, Policy

    formats = "; ".join(f"{form.name}: {form.summary}" for form in FORMATS.values())
    options = {k: p for form in FORMATS.values() for k, p in parameters_of(form.write).items()}
    return command(
        "export",
        f"{ExportCommand.__doc__}\n\nFiltered, relabelled or reweighted, with its provenance and a "
        "dataset card.",
        [
            parameter("store", typer.Argument(help="The store's folder.")),
            parameter("out", typer.Option(help="New folder for the set."), None),
            parameter("format", typer.Option(help=f"{formats}."), "pickapic"),
            *parameters_of(Policy).values(),
            *options.values(),
            parameter(
                "preview",
                typer.Option("--preview", help="Print the counts and write nothing."),
                False,
            ),
        ],
        _run,
    )


def _run(*, store: str, out: str | None, format: str, preview: bool, **options: Any) -> None:
    from dataclasses import fields

    from app.cli.console import ConsoleProgress, plain_console
    from toolkit.errors import InputError
    from toolkit.export import Policy, export_set
    from toolkit.export import preview as preview_set
    from toolkit.store import open_store

    policy = Policy(**{field.name: options.pop(field.name) for field in fields(Policy)})
    own = {name: value for name, value in options.items() if value is not None}
    opened = open_store(store)
    if preview:
        outcome = preview_set(opened, policy, format)
    elif out is None:
        raise InputError("--out is missing; name a new folder, or look first with --preview.")
    else:
        typed = shlex.join(["outvoted", *sys.argv[1:]])
        with ConsoleProgress(plain_console(stderr=True)) as progress:
            outcome = export_set(
                opened, out, policy, format, command=typed, progress=progress, **own
            )
    for line in outcome.lines():
        typer.echo(line)
    if outcome.out is not None:
        typer.echo(f"written to {outcome.out}")
