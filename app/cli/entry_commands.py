"""Commands generated from the entries of a registry, built when they are first used.

Their options are those that the entry's function or dataclass declares (`toolkit.options`).
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from toolkit.options import Option


def parameters_of(declared: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Name -> the command line's parameter for each option of a function or dataclass."""
    from toolkit.options import options_of

    return {name: _parameter(option) for name, option in options_of(declared).items()}


def _parameter(option: "Option") -> inspect.Parameter:
    kind, default = _kind(option), option.default
    if option.choices and isinstance(default, str):
        default = kind(default)
    flag = [] if option.argument or default is True else [option.flag]
    make: Any = typer.Argument if option.argument else typer.Option
    info = make(*flag, help=option.help, min=option.lowest, max=option.highest)
    default = list(default) if isinstance(default, tuple) else default
    return parameter(option.name, info, default, kind)


def _kind(option: "Option") -> Any:
    """The type that the command line reads: choices, texts for paths, lists for sequences."""
    if option.choices:
        return StrEnum("Choice", {value: value for value in option.choices})
    parts = get_args(option.kind) if get_origin(option.kind) in (Union, UnionType) else ()
    kinds = [part for part in parts or (option.kind,) if part is not type(None)]
    plain = str if str in kinds else kinds[0]
    if get_origin(plain) in (list, tuple, Sequence):
        plain = list[str]
    return plain | None if type(None) in parts else plain


def parameter(
    name: str, info: Any, default: Any = inspect.Parameter.empty, kind: Any = None
) -> inspect.Parameter:
    """A parameter of the command line; by default a text, or a flag."""
    if kind is None:
        kind = bool if isinstance(default, bool) else str
        kind = kind | None if default is None else kind
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
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
    return finite(typer.main.get_command(app))


def finite(verb: Any) -> Any:
    """The same command, which refuses NaN and infinity for each of its numbers."""

    def check(context: Any, option: Any, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            raise typer.BadParameter(f"{value} is not a finite number.", context, option)
        return value

    for option in verb.params:
        option.callback = option.callback or check
    return verb


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
