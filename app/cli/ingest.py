"""`outvoted ingest`: a command for every entry of `toolkit.ingest.SOURCES`, from its options."""

import inspect
from dataclasses import MISSING, fields
from enum import StrEnum
from functools import partial
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from app.cli.entry_commands import EntryGroup, command

if TYPE_CHECKING:
    from dataclasses import Field

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


def _parameters(source: "Source[Any]") -> list[inspect.Parameter]:
    """The source's arguments, --store, its own options, those of every source, and --new."""
    known = fields(source.options)
    words = [entry for entry in known if entry.metadata["argument"]]
    own = [e for e in known if e not in words and e.name in source.options.__annotations__]
    shared = [entry for entry in known if entry not in (*words, *own)]
    where = "The store's folder; made if absent." if source.makes_store else "The store."
    store = Annotated[str, typer.Option("--store", help=where)]
    parameters = [
        *map(_parameter, words),
        inspect.Parameter("store", inspect.Parameter.KEYWORD_ONLY, annotation=store),
        *map(_parameter, [*own, *shared]),
    ]
    if source.makes_store:
        new = Annotated[bool, typer.Option("--new", help="Fail if there is a store already.")]
        parameters.append(
            inspect.Parameter("new", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=new)
        )
    return parameters


def _parameter(entry: "Field[Any]") -> inspect.Parameter:
    """The parameter of an options field."""
    kind, default = _kind(entry.type), entry.default
    if get_origin(entry.type) is Literal:
        default = kind(default)
    words: dict[str, Any] = {"help": entry.metadata["help"]}
    if kind not in (str, str | None):
        words["min"] = entry.metadata["least"]
    info = (
        typer.Argument(**words)
        if entry.metadata["argument"]
        else typer.Option("--" + entry.name.replace("_", "-"), **words)  # a flag has no --no-
    )
    return inspect.Parameter(
        entry.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default or None,
        annotation=Annotated[kind, info],
    )


def _choice(values: dict[str, str]) -> Any:
    return StrEnum("Choice", values)


def _kind(kind: Any) -> Any:
    """The type that the command line reads for a field's type; paths are text there."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return _choice({value: value for value in parts})
    if get_origin(kind) in (Union, UnionType):
        plain = str if str in parts else next(part for part in parts if part is not type(None))
        return plain | None if type(None) in parts else plain
    return list[str] if parts else kind


def _add(source: "Source[Any]", *, store: str, new: bool = False, **given: Any) -> None:
    """Open the source, then the store (bad input leaves no store behind), and print the report."""
    from app.cli.console import ConsoleProgress
    from toolkit.store import create_store, open_or_create, open_store

    opened = source.open(source.read_options(**{k: v for k, v in given.items() if v is not None}))
    if not source.makes_store:
        into = open_store(store)
    else:
        into = create_store(store) if new else open_or_create(store)
    with ConsoleProgress() as progress:
        report = opened.add(into, progress)
    if given.get("shard") is not None:
        typer.echo(f"shard {given['shard']} of the source:")
    for line in report.lines():
        typer.echo(line)
    if left := into.unfinished():
        typer.echo(
            f"{len(left)} unfinished files of a killed command are in {into.root}; nothing reads "
            f"them, and they may be deleted (the first: {left[0]})"
        )
