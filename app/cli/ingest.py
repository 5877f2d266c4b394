"""`outvoted ingest`: a command for every entry of `toolkit.ingest.SOURCES`, from its options."""

from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from app.cli.entry_commands import EntryGroup, command, parameter, parameters_of

if TYPE_CHECKING:
    from toolkit.ingest import Source


class _Sources(EntryGroup):
    """The sources' commands."""

    def entries(self) -> dict[str, Any]:
        from toolkit.ingest import SOURCES

        return {
            name: command(
                name,
                "\n\n".join(f"{text}." for text in (source.summary, source.details) if text),
                _parameters(source),
                partial(_add, source),
            )
            for name, source in SOURCES.items()
        }


app = typer.Typer(cls=_Sources, help="Read pairs into a store.", no_args_is_help=True)


@app.callback()
def _ingest() -> None:
    """Read pairs into a store."""


def _parameters(source: "Source[Any]") -> list[Any]:
    """The source's arguments, --store, its own options, those of every source, and --new."""
    from toolkit.options import options_of

    where = "The store's folder; made if absent." if source.makes_store else "The store."
    made = parameters_of(source.options)
    words = [
        made.pop(name) for name, option in options_of(source.options).items() if option.argument
    ]
    own = [made.pop(name) for name in list(made) if name in source.options.__annotations__]
    new = parameter("new", typer.Option("--new", help="Fail if there is a store already."), False)
    return [
        *words,
        parameter("store", typer.Option("--store", help=where)),
        *own,
        *made.values(),
        *([new] if source.makes_store else []),
    ]


def _add(source: "Source[Any]", *, store: str, new: bool = False, **given: Any) -> None:
    """Open the source, then the store (bad input leaves no store behind), and print the report."""
    from app.cli.console import ConsoleProgress
    from toolkit.ingest import Summary
    from toolkit.store import create_store, open_or_create, open_store

    opened = source.open(source.read_options(**{k: v for k, v in given.items() if v is not None}))
    if not source.makes_store:
        into = open_store(store)
    else:
        into = create_store(store) if new else open_or_create(store)
    try:
        with ConsoleProgress() as progress:
            report = opened.add(into, progress)
    except KeyboardInterrupt as stop:
        kept = "Stopped; what was written before is complete. The same command adds the rest."
        typer.echo(f"outvoted: {str(stop) or kept}", err=True)
        raise typer.Exit(130) from stop
    if given.get("shard") is not None:
        typer.echo(f"shard {given['shard']} of the source:")
    for line in report.lines():
        typer.echo(line)
    if left := into.unfinished():
        typer.echo(
            f"{len(left)} unfinished files of a killed command are in {into.root}; nothing reads "
            f"them, and they may be deleted (the first: {left[0]})"
        )
    if isinstance(report, Summary) and report.quarantined == report.read > 0:
        typer.echo(
            f"outvoted: nothing was kept: the table quarantine of {into.root} names each row, its "
            "file and the reason.",
            err=True,
        )
        raise typer.Exit(1)
