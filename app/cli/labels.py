"""`outvoted labels`: the label sets of a store, and new ones; `outvoted flip` plants flips.

The verbs that make a set are generated from `toolkit.labels.LABEL_MAKERS`.
"""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.entry_commands import EntryGroup, LazyCommand, command, parameter, parameters_of

if TYPE_CHECKING:
    from toolkit.labels import LabelMaker


class _Makers(EntryGroup):
    def entries(self) -> Mapping[str, Any]:
        """One command for each label maker."""
        return _commands()


class FlipCommand(LazyCommand):
    """Plant known flips: reverse a share of the labels."""

    # The summary of `outvoted flip`, which is `outvoted labels flip` under a short name.

    def built(self) -> Any:
        """The generated command."""
        return _commands()["flip"]


app = typer.Typer(cls=_Makers, help="List label sets, or make one.", no_args_is_help=True)


@app.command("list")
def list_sets(store: Annotated[str, typer.Argument(help="The store's folder.")]) -> None:
    """List the label sets and how each was made."""
    from toolkit.store import open_store
    from toolkit.store.connection import connect, first_value, overlay_sql
    from toolkit.store.label_sets import ORIGINAL, label_set_recipe, label_sets

    opened = open_store(store)
    with connect(opened) as con:
        for name in label_sets(opened):
            if name == ORIGINAL:
                typer.echo(f"{name}: the source's labels")
                continue
            overlay, whole = overlay_sql(opened, name)
            rows = first_value(con, f"SELECT count(*) FROM {overlay}")
            kind = label_set_recipe(opened, name).get("kind", "?")
            what = "pairs have a label" if whole else "labels differ from the source's"
            typer.echo(f"{name}: {kind}, {rows:,} {what}")


@cache
def _commands() -> dict[str, Any]:
    from toolkit.labels import LABEL_MAKERS

    return {name: _command(maker) for name, maker in LABEL_MAKERS.items()}


def _command(maker: "LabelMaker") -> Any:
    """The maker's own parameters between the ones that all makers have."""
    named = [] if maker.default_name is None else [maker.default_name]
    parameters = [
        parameter("store", typer.Argument(help="The store's folder.")),
        *parameters_of(maker.make).values(),
        parameter("name", typer.Option(help="Name of the new set."), *named),
        parameter("base", typer.Option(help="The label set that it changes."), "original"),
    ]
    if maker.report is not None:
        text = "Only report agreement; create no label set."
        parameters.append(parameter("look", typer.Option("--look", help=text), False))

    def run(*, store: str, look: bool = False, **options: Any) -> None:
        from toolkit.store import open_store

        opened = open_store(store)
        if maker.report is not None:
            shown = {name: value for name, value in options.items() if name != "name"}
            for line in maker.report(opened, **shown):
                typer.echo(line)
        if not look:
            typer.echo(maker(opened, **options).line())

    return command(maker.name, maker.summary, parameters, run)
