"""Commands generated from the entries of a registry, built when they are first used.

A function's or dataclass's parameters become the command line's: each is annotated
`Annotated[type, "help"]`, or `Annotated[type, "help", (lowest, highest)]` for a number. A
keyword-only parameter becomes an option, any other an argument.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup


def parameters_of(function: Callable[..., Any], leave_out: Iterable[str]) -> list[Any]:
    """The command line's parameters for those of a function or dataclass."""
    hints = get_type_hints(function, include_extras=True)
    return [
        _parameter(parameter, hints[parameter.name])
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in set(leave_out)
    ]


def _parameter(parameter: inspect.Parameter, hint: Any) -> inspect.Parameter:
    kind, text, *limits = get_args(hint)
    lowest, highest = limits[0] if limits else (None, None)
    kind = list[str] if get_origin(kind) is tuple else kind
    default = parameter.default
    flag = [f"--{parameter.name.replace('_', '-')}"] if default is False else []
    make: Any = typer.Option if parameter.kind is parameter.KEYWORD_ONLY else typer.Argument
    info = make(*flag, help=text, min=lowest, max=highest)
    return inspect.Parameter(
        parameter.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=list(default) if isinstance(default, tuple) else default,
        annotation=Annotated[kind, info],
    )


def parameter(name: str, info: Any, default: Any = inspect.Parameter.empty) -> Any:
    """A parameter that a verb adds to those of its registry: a text, or a flag."""
    kind: Any = bool if isinstance(default, bool) else str
    annotation: Any = Annotated[kind | None if default is None else kind, info]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def command(name: str, summary: str, parameters: Iterable[Any], run: Callable[..., None]) -> Any:
    """A click command that calls `run(**values)` with the values of `parameters`."""

    def call(**values: Any) -> None:
        run(**values)

    ordered = list(parameters)
    call.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in ordered}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name, help=summary)(call)
    return typer.main.get_command(app)


class LazyCommand(TyperCommand):
    """A command that is built when it is used, so that importing its module stays cheap."""

    def built(self) -> Any:
        """The command that is run in its place."""
        raise NotImplementedError

    def get_params(self, ctx: Any) -> list[Any]:
        """Those of the built command."""
        return list(self.built().get_params(ctx))

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the words by the built command."""
        return self.built().make_context(*args, **kwargs)


class EntryGroup(TyperGroup):
    """A group with the commands of a registry after its own, built when the group is used."""

    def entries(self) -> Mapping[str, Any]:
        """Name -> click command, from the registry."""
        raise NotImplementedError

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the group's own commands, then of the registry's."""
        return [*super().list_commands(ctx), *self.entries()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        return super().get_command(ctx, cmd_name) or self.entries().get(cmd_name)
