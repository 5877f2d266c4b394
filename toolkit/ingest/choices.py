"""What a source says about a pair, as a preference for image_0: words, shares, scores and counts.

A word is known (leftvote, A, tie, both bad ...), the name of one side in its row, or mapped by the
user: `--map meh=tie`. Words that are none of these are refused together, with their counts.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from toolkit.errors import InputError
from toolkit.ingest.source import AxisLabel, Vote


class Choice(NamedTuple):
    """What is said about a pair."""

    label: float | None = None
    """Preference for image_0, from 0 to 1; None: nothing is said."""
    both_are: Literal["good", "bad"] | None = None
    """What a tie says of both images, where it says so."""
    grade: str | None = None
    """The source's own word or numbers."""
    weight: float | None = None
    """How many votes are behind it, where the source says so."""
    problem: str | None = None
    """What is wrong with the row."""


class Answer(NamedTuple):
    """One person's word, where a row has several people's."""

    word: Any
    annotator: str | None = None
    time: Any = None


NOTHING = Choice()
MEANINGS: dict[str, Choice] = {
    "image_0": Choice(1.0),
    "image_1": Choice(0.0),
    "tie": Choice(0.5),
    "both_good": Choice(0.5, "good"),
    "both_bad": Choice(0.5, "bad"),
    "none": NOTHING,
}
"""What a word can mean, as `--map` spells it; a number from 0 to 1 is the preference itself."""

ALLOWED = f"{', '.join(MEANINGS)} or a number from 0 to 1 (the preference for image_0)"

_FIRST, _SECOND = ("left", "a", "first"), ("right", "b", "second")
_WORDS = {
    **{
        form.format(side, other): MEANINGS[meaning]
        for sides, others, meaning in (
            (_FIRST, _SECOND, "image_0"),
            (_SECOND, _FIRST, "image_1"),
        )
        for side, other in zip(sides, others, strict=True)
        for form in (
            *("{0}", "{0}vote", "{0}wins", "{0}better", "{0}isbetter", "{0}>{1}", "{1}<{0}"),
            *("image{0}", "{0}image", "img{0}", "model{0}", "option{0}"),
        )
    },
    **dict.fromkeys(("tie", "tievote", "same", "equal", "draw", "a=b", "b=a"), MEANINGS["tie"]),
    **dict.fromkeys(("bothgood", "bothgoodvote", "tie(bothgood)"), MEANINGS["both_good"]),
    **dict.fromkeys(("bothbad", "bothbadvote", "tie(bothbad)"), MEANINGS["both_bad"]),
}
"""Known words in lower case, without spaces, hyphens and underscores."""

_NUMBERED = re.compile(r"(image|img|jpg|path|side|option|model|candidate|response)?([012])")
_SHOWN = 12
"""Words that a message lists."""


def parse_map(given: Iterable[str]) -> dict[str, Choice]:
    """Word -> meaning, from WORD=MEANING. InputError on another form or meaning."""
    words: dict[str, Choice] = {}
    for text in given:
        word, equals, meaning = text.rpartition("=")
        choice = MEANINGS.get(meaning.strip().lower(), _number(meaning))
        if not equals or not word.strip() or choice is None:
            raise InputError(
                f"--map is {text!r}; write WORD=MEANING, where MEANING is {ALLOWED}, as in "
                "--map leftvote=image_0."
            )
        words[word.strip()] = choice
    return words


def _number(text: str) -> Choice | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return Choice(value) if 0 <= value <= 1 else None


def word_of(value: Any) -> str | None:
    """A cell as a word; None where it is empty. Whole numbers are written without a point."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


class Words:
    """The meanings of a column's words: those given, the names of a row's sides, known ones.

    Count every row with `count`, then `check` refuses what is not understood.
    """

    def __init__(
        self,
        column: str,
        given: Mapping[str, Choice],
        sides: Sequence[str] = ("", ""),
        *,
        names_first: bool = False,
    ) -> None:
        self.column = column
        self._given, self._sides, self._names_first = given, tuple(sides), names_first
        self._counts: Counter[str] = Counter()
        self._named: Counter[str] = Counter()
        self._meanings: dict[str, Choice] = {}

    def count(self, value: Any, names: Sequence[Any] = (), *, times: int = 1) -> None:
        """Count a row's word; `names` are what its two sides are called."""
        word = word_of(value)
        if word is not None:
            known = self._named if self._by_name(word, names) else self._counts
            known[word] += times

    def check(self, where: object) -> None:
        """InputError that lists the words with their counts, where some are not understood."""
        every = self._counts + self._named
        self._meanings = {word: c for word in every if (c := self._known(word)) is not None}
        strange = [(w, n) for w, n in self._counts.most_common() if w not in self._meanings]
        if not strange:
            return
        known = [(w, n) for w, n in every.most_common() if w in self._meanings or w in self._named]
        also = f" (understood: {_listed(known)})" if known else ""
        shown = " ".join(
            f"--map {_quoted(f'{word}={meaning}')}"
            for (word, _), meaning in zip(strange, ("image_0", "image_1", "tie"), strict=False)
        )
        raise InputError(
            f"The column {self.column} of {where} has words that do not say which image won: "
            f"{_listed(strange)}{also}. Say what each means, as in {shown}; a meaning is {ALLOWED}."
        )

    def __call__(self, value: Any, names: Sequence[Any] = ()) -> Choice:
        """What a row says; its word is the grade where it says more than which side won."""
        word = word_of(value)
        if word is None:
            return NOTHING
        choice, known = self._by_name(word, names), self._meanings.get(word)
        if choice is None:
            choice = known or Choice(problem=f"the word in {self.column} is not known ({word})")
        elif choice.label != (known or choice).label and not self._names_first:
            problem = f"the word in {self.column} is one side and the name of the other ({word})"
            choice = Choice(problem=problem)
        more = choice.both_are or word in self._given or choice.label not in (0, 0.5, 1)
        return choice._replace(grade=word) if more and choice.label is not None else choice

    def _by_name(self, word: str, names: Sequence[Any]) -> Choice | None:
        if word in self._given or word not in (spelt := [word_of(name) for name in names]):
            return None
        if spelt[0] == spelt[1]:
            return Choice(problem=f"both sides have the name that {self.column} has ({word})")
        return MEANINGS[f"image_{spelt.index(word)}"]

    def _known(self, word: str) -> Choice | None:
        if word in self._given:
            return self._given[word]
        if word in self._sides:
            return MEANINGS[f"image_{self._sides.index(word)}"]
        plain = re.sub(r"[\s_-]", "", word.lower()) if word != "-1" else word
        return _WORDS.get(plain) or self._numbered(plain)

    def _numbered(self, plain: str) -> Choice | None:
        """1 and -1; 1 and 2; image_0 and image_1; image_1 and image_2: the others say which."""
        words = {re.sub(r"[\s_-]", "", w.lower()) if w != "-1" else w for w in self._counts}
        bare = words & {"-1", "0", "1", "2"}
        if bare >= {"-1"} and "2" not in bare:
            signs = {"1": "image_0", "-1": "image_1", "0": "tie"}
            return MEANINGS[signs[plain]] if plain in signs else None
        match = _NUMBERED.fullmatch(plain)
        if match is None:
            return None
        stem, number = match[1] or "", int(match[2])
        numbers = {int(m[2]) for w in words if (m := _NUMBERED.fullmatch(w)) and m[1] == match[1]}
        numbers |= {int(m[1]) for s in self._sides if (m := re.search(r"([012])$", s)) and stem}
        if numbers >= {0, 2} or (not stem and (0 in numbers or len(numbers) < 2)):
            return None  # a bare 0 or 1 is a place to some and a truth value to others
        if 0 in numbers or 2 in numbers:
            return MEANINGS[f"image_{number - (0 not in numbers)}"]
        return None


def _listed(words: Sequence[tuple[str, int]]) -> str:
    shown = ", ".join(f"{word} ({count:,})" for word, count in words[:_SHOWN])
    return shown + (f" and {len(words) - _SHOWN:,} more" if len(words) > _SHOWN else "")


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[\w=.+-]+", text) else f"'{text}'"


def by_share(value: Any, column: str) -> Choice:
    """A number from 0 to 1 is the preference for image_0; empty: nothing is said."""
    number = number_of(value)
    if number is None:
        return NOTHING
    if not 0 <= number <= 1:
        return Choice(problem=f"{column} is no share from 0 to 1 (it is {value})")
    return Choice(number)


def by_scores(first: Any, second: Any, columns: Sequence[str]) -> Choice:
    """The side with the higher score wins; equal scores are a tie. A missing one says nothing."""
    return _of_two(first, second, columns, lambda a, b: Choice(0.5 if a == b else float(a > b)))


def by_counts(first: Any, second: Any, columns: Sequence[str]) -> Choice:
    """Votes for either side: their share is the preference, their sum its weight."""

    def share(a: float, b: float) -> Choice:
        if min(a, b) < 0:
            return Choice(problem=f"{' and '.join(columns)} are no counts ({first}, {second})")
        return Choice(a / (a + b), weight=a + b) if a + b else NOTHING

    return _of_two(first, second, columns, share)


def _of_two(
    first: Any, second: Any, columns: Sequence[str], made: Callable[[float, float], Choice]
) -> Choice:
    a, b = number_of(first), number_of(second)
    if a is None or b is None:
        return NOTHING
    if math.isinf(a) or math.isinf(b) or math.isnan(a) or math.isnan(b):
        return Choice(problem=f"{' or '.join(columns)} is no number ({first}, {second})")
    choice = made(a, b)
    return choice if choice.label is None else choice._replace(grade=f"{first}, {second}")


def number_of(value: Any) -> float | None:
    """A cell as a number; None where it is empty, NaN where it is anything else."""
    word = word_of(value)
    if word is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def share_of(votes: Sequence[Vote], *, by_weight: bool = False) -> AxisLabel:
    """The share of votes for image_0 (a tie counts half) and what it rests on: how many votes, or
    with `by_weight` the sum of their weights. No label without votes."""
    weights = [1.0 if not by_weight or vote.weight is None else vote.weight for vote in votes]
    total = sum(weights)
    if not total:
        return AxisLabel(None)
    label = sum(w * vote.choice for w, vote in zip(weights, votes, strict=True)) / total
    return AxisLabel(min(label, 1.0), total)
