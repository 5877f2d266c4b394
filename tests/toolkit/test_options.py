"""An option is declared once; what is outside its bounds is refused, in Python and on the line."""

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Literal

import pytest
from typer.testing import CliRunner

from app.cli.main import registered
from toolkit.errors import InputError
from toolkit.options import MISSING, Option, check_options, options_of


@dataclass(frozen=True)
class Some:
    path: Annotated[str, "Where."]
    _: KW_ONLY
    side: Annotated[Literal["left", "right"], "Which."] = "left"
    share: Annotated[float | None, "How much.", (0, 1)] = None
    size: Annotated[float, "How large.", (0, None)] = 1.0
    open: Annotated[float, "Anything."] = 0.0
    further: int = 3


def test_options_are_read_from_a_dataclass_and_from_a_function():
    def act(store, path: Annotated[str, "Where."], *, share: Annotated[float, "How.", (0, 1)] = 1):
        return store, path, share

    known = options_of(Some)
    assert list(known) == ["path", "side", "share", "size", "open"]
    assert known["path"] == Option("path", str, "Where.", MISSING, argument=True)
    assert known["side"].choices == ("left", "right")
    assert options_of(act)["share"] == Option("share", float, "How.", 1, 0, 1)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"side": "up"}, "--side is 'up'; it must be left or right."),
        ({"share": 1.5}, "--share is 1.5; it must be from 0 to 1."),
        ({"share": float("nan")}, "--share is nan; it must be from 0 to 1."),
        ({"size": float("inf")}, "--size is inf; it must be 0 or more."),
        ({"open": float("nan")}, "--open is nan; it must be a finite number."),
    ],
)
def test_what_an_option_does_not_allow_is_one_sentence(values, sentence):
    with pytest.raises(InputError) as caught:
        check_options(Some, values)
    assert str(caught.value) == sentence
    check_options(Some, {"share": None, "size": 0, "side": "right", "further": float("nan")})


@pytest.mark.parametrize(
    "words",
    [
        ("export", "S", "--k1", "nan"),
        ("export", "S", "--k1", "inf"),
        ("labels", "flip", "S", "--rate", "nan"),
        ("labels", "flip", "S", "--gap-scale", "inf"),
        ("labels", "vote", "S", "--margin", "inf"),
        ("detect", "S", "--rate", "nan"),
        ("evaluate", "a=b", "--prompts", "p", "--guidance", "inf"),
    ],
)
def test_no_number_of_the_command_line_is_nan_or_infinite(words):
    result = CliRunner().invoke(registered(), words)
    assert result.exit_code == 2
    assert f"Invalid value for '{words[-2]}'" in result.output
