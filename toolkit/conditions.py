"""A small typed language for choosing pairs: the same in the terminal and on the desk.

    minority > 0.5 and not (verdict is null or split = "test")
    prompt contains "cat" or model_0 in ["sdxl", "flux"]
    nsfw                                            # a flag needs no comparison

A column is a number, a text, a flag or a time; a comparison with another type is refused, and the
sentence says what is allowed. A pair whose value is null passes nothing but `is null`. Conditions
become SQL here; what they can name is listed in `toolkit.store.pair_table`.

Written by hand, since SQL parsers accept far more than this language, refuse columns called `if` or
`case`, overflow the stack at a few dozen parentheses and take longer to import than `--help` may.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa

from toolkit.errors import InputError

Kind = Literal["number", "text", "flag", "time"]

_SIGNS = (">=", "<=", "!=", ">", "<", "=")
_RESERVED = {"and", "or", "not", "in", "is", "null", "contains", "true", "false"}
_DEEPEST = 50
"""Parentheses and `not` inside each other: each takes a few frames of Python's stack."""
_MOST = 60
"""Columns that an error lists."""
_LONGEST = 200
"""Characters of a condition that an error repeats."""
_LARGEST_FLOAT = 3.4028234663852886e38
"""Of 32 bits: DuckDB refuses to cast a larger one."""
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<quoted>`[^`]+`)
    |(?P<word>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)
    |(?P<sign>>=|<=|!=|==|>|<|=|\(|\)|\[|\]|,)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ALLOWED = {
    "number": "a number",
    "text": 'a text in quotes, "so"',
    "flag": "true or false",
    "time": 'a time in quotes, "2023-05-01"',
}
_EXAMPLE = 'such as minority > 0.5 and split = "train"'


def kind_of(arrow: pa.DataType) -> Kind | None:
    """The language's type for an Arrow type; lists and the like have none."""
    test = pa.types
    if test.is_boolean(arrow):
        return "flag"
    if test.is_integer(arrow) or test.is_floating(arrow):
        return "number"
    if test.is_string(arrow) or test.is_large_string(arrow):
        return "text"
    return "time" if test.is_timestamp(arrow) else None


def to_sql(
    text: str, columns: Mapping[str, pa.DataType], option: str = "--where"
) -> tuple[str, list[Any]]:
    """The condition that `text` states over `columns`, as a WHERE clause and its parameters.

    A number is compared in the column's own precision: .1 stored in 32 bits is not more than .1.
    InputError (one sentence, naming `option`) where the text is no condition, names a column that
    does not exist, or compares a column with another type.
    """
    return _Reader(text, columns, option).read()


def names(text: str, option: str = "--where") -> list[str]:
    """The columns that a condition names, in order. InputError where it cannot be read."""
    words = [w.strip("`") for kind, w in _tokens(text, option) if kind in ("word", "quoted")]
    return [word for word in dict.fromkeys(words) if word.lower() not in _RESERVED]


def _tokens(text: str, option: str) -> list[tuple[str, str]]:
    """(kind, text) of every token."""
    tokens, place, end = [], 0, len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if not match:
            raise InputError(
                f"{option} {_quoted(text)} cannot be read from {text[place:].strip()[:20]!r} on; "
                f"write COLUMN > NUMBER and the like, {_EXAMPLE}."
            )
        kind = match.lastgroup or ""
        tokens.append((kind, match[kind]))
        place = match.end()
    return tokens


class _Reader:
    """Recursive descent over the tokens; each method reads one rule and returns its SQL."""

    def __init__(self, text: str, columns: Mapping[str, pa.DataType], option: str) -> None:
        self._text, self._columns, self._option = text, columns, option
        self._tokens = _tokens(text, option)
        self._place = self._depth = 0
        self._values: list[Any] = []

    def read(self) -> tuple[str, list[Any]]:
        """The whole text."""
        sql = self._either()
        if self._place < len(self._tokens):
            raise self._wrong(f"{_quoted(self._tokens[self._place][1])} is unexpected")
        return sql, self._values

    def _either(self) -> str:
        return self._joined("or", lambda: self._joined("and", self._single))

    def _joined(self, word: str, part: Callable[[], str]) -> str:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else f"({f' {word.upper()} '.join(parts)})"

    def _single(self) -> str:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise InputError(
                f"{self._option} has more than {_DEEPEST} parentheses or `not` inside each other; "
                f"write a flatter condition, {_EXAMPLE}."
            )
        if self._take("not"):
            sql = f"NOT {self._single()}"
        elif self._take("("):
            sql = self._either()
            self._need(")")
        else:
            sql = self._comparison(*self._column())
        self._depth -= 1
        return f"({sql})"

    def _comparison(self, column: str, kind: Kind) -> str:
        name = '"' + column.replace('"', '""') + '"'
        if self._take("is"):
            negated = self._take("not")
            self._need("null")
            return f"{name} IS {'NOT ' if negated else ''}NULL"
        if self._take("contains"):
            if kind != "text":
                raise self._mistyped(column, "contains needs a text")
            return f"contains(lower({name}), lower({self._value(column, kind)}))"
        if negated := self._take("not"):
            self._need("in")
        if negated or self._take("in"):
            return f"{name} {'NOT ' if negated else ''}IN ({self._list(column, kind)})"
        for sign in _SIGNS:
            if self._take(sign) or (sign == "=" and self._take("==")):
                value = self._value(column, kind)
                if sign not in ("=", "!=") and kind in ("text", "flag"):
                    raise self._mistyped(column, f"{sign} needs a number or a time")
                return f"{name} {sign} {value}"
        if kind == "flag":
            return name
        raise self._wrong(f"{column} is a {kind} and must be compared with something")

    def _list(self, column: str, kind: Kind) -> str:
        closing = "]" if self._take("[") else ")"
        if closing == ")":
            self._need("(")
        values = [self._value(column, kind)]
        while self._take(","):
            values.append(self._value(column, kind))
        self._need(closing)
        return ", ".join(values)

    def _column(self) -> tuple[str, Kind]:
        token, written = self._next("a column's name is missing")
        name = written.strip("`")
        if token not in ("word", "quoted") or (token == "word" and name.lower() in _RESERVED):
            raise self._wrong(f"a column's name is needed instead of {_quoted(written)}")
        kind = kind_of(self._columns[name]) if name in self._columns else None
        if kind is None:
            named = [column for column, arrow in self._columns.items() if kind_of(arrow)]
            more = f" and {len(named) - _MOST:,} more" if len(named) > _MOST else ""
            raise InputError(
                f"{self._option} names the column {_quoted(name)}, which does not exist (columns: "
                f"{', '.join(named[:_MOST])}{more}); name one of them."
            )
        return name, kind

    def _value(self, column: str, kind: Kind) -> str:
        """A parameter, in the column's own precision."""
        token, written = self._next(f"a value to compare {column} with is missing")
        value: Any = None
        if token == "number" and kind == "number":
            value = float(written)
            if math.isinf(value):
                raise self._mistyped(column, f"{_shown(written)} is too large for one")
        elif token == "text" and kind in ("text", "time"):
            value = re.sub(r"\\(.)", r"\1", written[1:-1], flags=re.DOTALL)
            if not is_utf8(value):
                raise self._mistyped(column, f"{_quoted(written)} is not valid UTF-8")
            if kind == "time":
                value = self._time(column, value)
        elif token == "word" and kind == "flag" and written.lower() in ("true", "false"):
            value = written.lower() == "true"
        if value is None:
            raise self._mistyped(
                column, f"it is compared with {_ALLOWED[kind]}, not {_shown(written)}"
            )
        self._values.append(value)
        if kind == "time":
            return "CAST(? AS TIMESTAMP)"
        single = pa.types.is_float32(self._columns[column]) and abs(value) <= _LARGEST_FLOAT
        return "CAST(? AS FLOAT)" if single else "?"

    def _time(self, column: str, text: str) -> datetime:
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            raise self._mistyped(column, f'"{_shown(text)}" is no time like "2023-05-01"') from None

    def _next(self, missing: str) -> tuple[str, str]:
        if self._place >= len(self._tokens):
            raise self._wrong(missing)
        self._place += 1
        return self._tokens[self._place - 1]

    def _take(self, word: str) -> bool:
        kind, written = (*self._tokens[self._place : self._place + 1], ("", ""))[0]
        if kind in ("", "text", "quoted") or written.lower() != word:
            return False
        self._place += 1
        return True

    def _need(self, word: str) -> None:
        if not self._take(word):
            raise self._wrong(f"{word!r} is missing")

    def _wrong(self, what: str) -> InputError:
        return InputError(
            f"{self._option} {_quoted(self._text)} is no comparison; write COLUMN > NUMBER (or "
            '>=, <, <=, =, !=, in [..], contains "..", is null), joined by and, or, not, '
            f"{_EXAMPLE} ({what})."
        )

    def _mistyped(self, column: str, what: str) -> InputError:
        kind = kind_of(self._columns[column])
        return InputError(
            f"{self._option} {_quoted(self._text)} does not fit: {column} is a {kind}, and {what}."
        )


def _shown(text: str) -> str:
    """`text` as a sentence can carry it."""
    return _cut(text if text.isprintable() else repr(text))


def _quoted(text: str) -> str:
    """`text` in quotes, as a sentence can carry it."""
    return _cut(repr(text))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def is_utf8(text: str) -> bool:
    """Whether a text can be encoded: no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
