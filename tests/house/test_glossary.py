"""One word for one thing, in the code and in what a user reads."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.glossary import IDIOM, NAMES, SYNONYMS
from tests.house.sources import ROOT, Source, sources

UNCLEAN = Path(__file__).with_name("unclean.txt")
"""Files that still use refused words: a line each, PATH: WORD, WORD. It only becomes shorter."""

TEXTS = ("README.md", "CONTRIBUTING.md", "data_cards/*.md", "training/recipes/*.yaml")

WORDS = {**SYNONYMS, **IDIOM}
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def words_in(text: str) -> set[str]:
    """The refused words of a text, names included: `left_voice` and `BallotFile` have one each."""
    plain = " ".join(_CAMEL.sub(" ", text).replace("_", " ").lower().split())
    return {word for word in WORDS if word in plain and pattern_of(word).search(plain)}


@cache
def pattern_of(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z]){re.escape(word)}(?![a-z])")


def named(tree: ast.AST) -> Iterator[str]:
    """Every name that a module gives: variables, arguments, functions, classes, fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def refused_in(source: Source) -> set[str]:
    return words_in(source.text) | (set(named(source.tree)) & set(NAMES))


def refused() -> dict[str, set[str]]:
    """Path -> refused words in it, over the product and all that a user reads."""
    texts = [path for pattern in TEXTS for path in sorted(ROOT.glob(pattern))]
    everything = {source.path: refused_in(source) for source in sources()} | {
        path.relative_to(ROOT).as_posix(): words_in(path.read_text(encoding="utf-8"))
        for path in texts
    }
    return {path: words for path, words in everything.items() if words}


def unclean() -> dict[str, set[str]]:
    lines = UNCLEAN.read_text(encoding="utf-8").splitlines() if UNCLEAN.exists() else []
    return {
        path: set(words.split(", "))
        for path, _, words in (line.partition(": ") for line in lines)
        if path
    }


def test_refused_words_are_found_in_prose_and_in_names() -> None:
    assert words_in("each Ballot") == {"ballot"}
    assert words_in("left_voice = BallotsOf(x)") == {"voice", "ballots"}
    assert words_in("a run goes\n    on") == {"goes on"}
    assert words_in("invoice, relies, mendable") == set()
    assert set(named(ast.parse("def f(told): found = told.said"))) == {"f", "told", "found"}


def test_one_word_for_one_thing() -> None:
    known = unclean()
    fresh = {path: sorted(words - known.get(path, set())) for path, words in refused().items()}
    advice = {
        path: [f"{word} -> {WORDS.get(word) or NAMES[word]}" for word in words]
        for path, words in fresh.items()
        if words
    }
    assert advice == {}


def write_unclean() -> None:
    """`python -m tests.house.test_glossary`: note what is left, after words were replaced."""
    lines = [f"{path}: {', '.join(sorted(words))}\n" for path, words in sorted(refused().items())]
    UNCLEAN.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write_unclean()
