"""Commands generated from the entries of a registry, built when they are first used."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, get_args, get_type_hints

import typer
import typer.main
from typer.core import TyperGroup


def parameters_of(
    function: Callable[..., Any], leave_out: Iterable[str]
) -> list[inspect.Parameter]:
    """The command line's parameters for those of a function: arguments, then options.

    Each is annotated `Annotated[type, "help"]`, or `Annotated[type, "help", (lowest, highest)]`.
    A keyword-only parameter becomes an option, any other an argument.
    """
    hints = get_type_hints(function, include_extras=True)
    return [
        parameter.replace(
            annotation=_typer_annotation(parameter, hints[parameter.name]),
            kind=inspect.Parameter.KEYWORD_ONLY,
        )
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in set(leave_out)
    ]


def _typer_annotation(parameter: inspect.Parameter, hint: Any) -> Any:
    kind, text, *limits = get_args(hint)
    lowest, highest = limits[0] if limits else (None, None)
    make: Any = typer.Option if parameter.kind is parameter.KEYWORD_ONLY else typer.Argument
    return Annotated[kind, make(help=text, min=lowest, max=highest)]


def command(
    name: str, summary: str, parameters: Iterable[inspect.Parameter], run: Callable[..., None]
) -> Any:
    """A click command that calls `run(**values)` with the values of `parameters`."""

    def call(**values: Any) -> None:
        run(**values)

    ordered = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    call.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in ordered}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name, help=summary)(call)
    return typer.main.get_command(app)


class EntryGroup(TyperGroup):
    """A group with the commands of a registry behind its own: they are built when the group is
    used, so that importing the module that defines it stays cheap."""

    def entries(self) -> Mapping[str, Any]:
        """Name -> click command, from the registry."""
        raise NotImplementedError

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the group's own commands, then of the registry's."""
        return [*super().list_commands(ctx), *self.entries()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        return super().get_command(ctx, cmd_name) or self.entries().get(cmd_name)
