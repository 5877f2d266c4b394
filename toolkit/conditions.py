"""A small typed language for choosing pairs: the same words in the terminal and at the desk.

    minority > 0.5 and not (verdict is null or split = "test")
    prompt contains "cat" or model_0 in ["sdxl", "flux"]
    nsfw                                            # a column of yes and no stands alone

A column is a number, a text, a flag or a time; a comparison of another type is refused with what
is allowed. A pair whose value is null passes nothing but `is null`. Conditions are parsed here and
become SQL; their columns are those of `toolkit.store.pair_table`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from toolkit.errors import InputError

Kind = Literal["number", "text", "flag", "time"]
Value: TypeAlias = float | str | bool | datetime

SIGNS = (">=", "<=", "!=", ">", "<", "=")
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<quoted>`[^`]+`)
    |(?P<word>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)
    |(?P<sign>>=|<=|!=|==|>|<|=|\(|\)|\[|\]|,)
    )""",
    re.VERBOSE,
)
_EXAMPLE = 'such as minority > 0.5 and split = "train"'


@dataclass(frozen=True)
class Comparison:
    """column SIGN value."""

    column: str
    sign: str
    value: Value


@dataclass(frozen=True)
class Membership:
    """column in [values]."""

    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Contains:
    """column contains "words", whatever their case."""

    column: str
    text: str


@dataclass(frozen=True)
class Null:
    """column is null."""

    column: str


@dataclass(frozen=True)
class Flag:
    """A column of yes and no that stands alone."""

    column: str


@dataclass(frozen=True)
class Not:
    """not part."""

    part: "Condition"


@dataclass(frozen=True)
class Joined:
    """Several conditions under `and` or `or`."""

    word: Literal["and", "or"]
    parts: tuple["Condition", ...]


Condition: TypeAlias = Comparison | Membership | Contains | Null | Flag | Not | Joined


def parse(text: str, columns: Mapping[str, Kind], option: str = "--where") -> Condition:
    """The condition that `text` states over `columns`.

    InputError (one sentence, naming `option`) on what is no condition, on a column that is not
    there, and on a comparison that its type does not allow.
    """
    reader = _Reader(text, _tokens(text, option), columns, option)
    found = reader.either()
    if reader.peek() is not None:
        raise reader.wrong(f"{reader.peek()[1]!r} is unexpected")  # type: ignore[index]
    return found


def names(text: str, option: str = "--where") -> list[str]:
    """The columns that a condition may name, in order; reserved words are none."""
    words = [w.strip("`") for kind, w in _tokens(text, option) if kind in ("word", "quoted")]
    return [word for word in dict.fromkeys(words) if word.lower() not in _RESERVED]


_RESERVED = {"and", "or", "not", "in", "is", "null", "contains", "true", "false"}


def _tokens(text: str, option: str) -> list[tuple[str, str]]:
    found, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if not match:
            raise InputError(
                f"{option} {text!r} cannot be read from {text[place:].strip()[:20]!r} on; write "
                f"COLUMN > NUMBER and the like, {_EXAMPLE}."
            )
        kind = match.lastgroup or ""
        found.append((kind, match[kind]))
        place = match.end()
    return found


class _Reader:
    """Recursive descent over the tokens; the words of the grammar are its methods."""

    def __init__(
        self,
        text: str,
        tokens: list[tuple[str, str]],
        columns: Mapping[str, Kind],
        option: str,
    ) -> None:
        self._text, self._tokens, self._columns, self._option = text, tokens, columns, option
        self._place = 0

    def peek(self) -> tuple[str, str] | None:
        """The next token, or None at the end."""
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def wrong(self, what: str) -> InputError:
        """The sentence for a text that is no condition."""
        return InputError(
            f"{self._option} {self._text!r} is no comparison; write COLUMN > NUMBER (or >=, <, <=,"
            ' =, !=, in [..], contains "..", is null), joined by and, or, not, '
            f"{_EXAMPLE} ({what})."
        )

    def either(self) -> Condition:
        """both or both ..."""
        return self._joined("or", self._both)

    def _both(self) -> Condition:
        return self._joined("and", self._single)

    def _joined(self, word: Literal["and", "or"], part: Callable[[], Condition]) -> Condition:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def _single(self) -> Condition:
        if self._take("not"):
            return Not(self._single())
        if self._take("("):
            inside = self.either()
            self._need(")")
            return inside
        return self._statement(self._column())

    def _statement(self, column: str) -> Condition:
        kind = self._columns[column]
        if self._take("is"):
            negated = self._take("not")
            self._need("null")
            return Not(Null(column)) if negated else Null(column)
        if self._take("contains"):
            if kind != "text":
                raise self._mistyped(column, "contains needs a text")
            return Contains(column, str(self._value(column)))
        if negated := self._take("not"):
            self._need("in")
        if negated or self._take("in"):
            found = Membership(column, self._list(column))
            return Not(found) if negated else found
        for sign in SIGNS:
            if self._take(sign) or (sign == "=" and self._take("==")):
                value = self._value(column)
                if sign not in ("=", "!=") and kind in ("text", "flag"):
                    raise self._mistyped(column, f"{sign} needs a number or a time")
                return Comparison(column, sign, value)
        if kind == "flag":
            return Flag(column)
        raise self.wrong(f"{column} is a {kind}, and nothing is said about it")

    def _list(self, column: str) -> tuple[Value, ...]:
        closing = "]" if self._take("[") else ")"
        if closing == ")":
            self._need("(")
        values = [self._value(column)]
        while self._take(","):
            values.append(self._value(column))
        self._need(closing)
        return tuple(values)

    def _column(self) -> str:
        token = self.peek()
        if token is None or token[0] not in ("word", "quoted"):
            raise self.wrong("a column's name is missing")
        name = token[1].strip("`")
        if token[0] == "word" and name.lower() in _RESERVED:
            raise self.wrong(f"{name!r} stands where a column's name is needed")
        self._place += 1
        if name not in self._columns:
            raise InputError(
                f"{self._option} names the column {name!r}, which is not there (columns: "
                f"{', '.join(self._columns)}); name one of them."
            )
        return name

    def _value(self, column: str) -> Value:
        token = self.peek()
        if token is None:
            raise self.wrong(f"a value to compare {column} with is missing")
        kind, written = token
        self._place += 1
        wanted = self._columns[column]
        if kind == "number" and wanted == "number":
            return float(written)
        if kind == "text" and wanted in ("text", "time"):
            text = re.sub(r"\\(.)", r"\1", written[1:-1])
            return text if wanted == "text" else self._time(column, text)
        if kind == "word" and wanted == "flag" and written.lower() in ("true", "false"):
            return written.lower() == "true"
        allowed = {
            "number": "a number",
            "text": 'a text in quotes, "so"',
            "flag": "true or false",
            "time": 'a time in quotes, "2023-05-01"',
        }[wanted]
        raise self._mistyped(column, f"it is compared with {allowed}, not {written}")

    def _time(self, column: str, text: str) -> datetime:
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            raise self._mistyped(column, f'"{text}" is no time like "2023-05-01"') from None

    def _mistyped(self, column: str, what: str) -> InputError:
        return InputError(
            f"{self._option} {self._text!r} does not fit: {column} is a {self._columns[column]}, "
            f"and {what}."
        )

    def _take(self, word: str) -> bool:
        token = self.peek()
        if token is None or token[0] in ("text", "quoted") or token[1].lower() != word:
            return False
        self._place += 1
        return True

    def _need(self, word: str) -> None:
        if not self._take(word):
            raise self.wrong(f"{word!r} is missing")


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


def kinds_of(schema: pa.Schema) -> dict[str, Kind]:
    """The columns of a schema that conditions can compare, with their types."""
    kinds = {field.name: kind_of(field.type) for field in schema}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def to_sql(condition: Condition, schema: pa.Schema) -> tuple[str, list[Any]]:
    """A WHERE clause and its parameters over columns of `schema`.

    A number is compared in the column's own precision: .1 stored in 32 bits is not more than .1.
    """
    match condition:
        case Comparison(column, sign, value):
            return f"{_quoted(column)} {sign} {_cast(schema, column)}", [value]
        case Membership(column, members):
            held = ", ".join([_cast(schema, column)] * len(members))
            return f"{_quoted(column)} IN ({held})", list(members)
        case Contains(column, text):
            return f"contains(lower({_quoted(column)}), lower(?))", [text]
        case Null(column):
            return f"{_quoted(column)} IS NULL", []
        case Flag(column):
            return _quoted(column), []
        case Not(part):
            sql, values = to_sql(part, schema)
            return f"NOT ({sql})", values
        case Joined(word, parts):
            each = [to_sql(part, schema) for part in parts]
            sql = f" {word.upper()} ".join(f"({sql})" for sql, _ in each)
            return sql, [value for _, values in each for value in values]


def _cast(schema: pa.Schema, column: str) -> str:
    kind = schema.field(column).type
    if pa.types.is_float32(kind):
        return "CAST(? AS FLOAT)"
    return "CAST(? AS TIMESTAMP)" if pa.types.is_timestamp(kind) else "?"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
