"""Options that are declared once, on the parameters of a function or the fields of a dataclass.

    rate: Annotated[float, "Share of the labels to flip.", (0, 1)] = 0.2

says an option's type, its help, its default and, for a number, the lowest and the highest value
that is allowed (None: no bound). A Literal lists its choices. What can only be given by name is an
option, any other an argument. Command lines and their help are made of these
(`app.cli.entry_commands`), and `check_options` refuses what is outside.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from toolkit.errors import InputError

MISSING = inspect.Parameter.empty


@dataclass(frozen=True)
class Option:
    """One parameter or field."""

    name: str
    kind: Any
    """Its type."""
    help: str
    default: Any
    """MISSING where it must be given."""
    lowest: float | None = None
    highest: float | None = None
    argument: bool = False
    """Whether it can be given by position."""

    @property
    def flag(self) -> str:
        """What to type on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values that a Literal allows; none where it is open."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    @property
    def allowed(self) -> str:
        """The values that are allowed, as an error says it."""
        if self.choices:
            return either(self.choices)
        if self.lowest is not None and self.highest is not None:
            return f"from {self.lowest:g} to {self.highest:g}"
        return "a finite number" if self.lowest is None else f"{self.lowest:g} or more"

    def allows(self, value: Any) -> bool:
        """Whether a value is a choice, or a number within the bounds (no NaN)."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        low = -math.inf if self.lowest is None else self.lowest
        high = math.inf if self.highest is None else self.highest
        return math.isfinite(value) and low <= value <= high


def options_of(declared: Callable[..., Any]) -> dict[str, Option]:
    """Name -> option of every annotated parameter of a function, or field of a dataclass."""
    hints = get_type_hints(declared, include_extras=True)
    options = {}
    for name, parameter in inspect.signature(declared).parameters.items():
        kind, *facts = get_args(hints.get(name)) or (None,)
        if facts and isinstance(facts[0], str):
            low, high = facts[1] if len(facts) > 1 else (None, None)
            by_position = parameter.kind is not parameter.KEYWORD_ONLY
            options[name] = Option(name, kind, facts[0], parameter.default, low, high, by_position)
    return options


def check_options(declared: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """InputError for the first value that its option does not allow."""
    for name, option in options_of(declared).items():
        if name in values and not option.allows(values[name]):
            raise InputError(f"{option.flag} is {values[name]!r}; it must be {option.allowed}.")


def either(words: Sequence[str]) -> str:
    """Choices in words: "a, b or c"."""
    return f"{', '.join(words[:-1])} or {words[-1]}"
