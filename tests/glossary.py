"""The words of the project: what is not said, and what is said instead.

One word names one thing (README, "The words"). `SYNONYMS` are second words for the things that a
store holds; `IDIOM` are phrases that do not read as plain English; `NAMES` say nothing as the name
of a variable or a function. Tests of the help, the docs and the code look for them here.
"""

import re

SYNONYMS = {
    "ballot": "vote",
    "ballots": "votes",
    "voice": "vote, annotator or scorer",
    "voices": "votes, annotators or scorers",
    "ruling": "verdict",
    "rulings": "verdicts",
    "picture": "image",
    "pictures": "images",
}
"""Never, neither in prose nor in names."""

IDIOM = {
    "anew": "again",
    "mend": "fix",
    "mends": "fixes",
    "mended": "fixed",
    "lies": "is",
    "lie": "are",
    "told": "given, set or known",
    "goes on": "continues, or: the same command resumes",
    "go on with": "resume",
    "of before": "earlier",
    "held against": "compared with",
    "hold against": "compare with",
    "is asked": "is set or needed",
    "were had": "were available",
    "can be had": "is available",
    "harder prey": "harder to detect",
    "the road": "the workflow",
    "afresh": "again",
    "lay": "was",
    "stands": "is",
    "heard": "counted, read or received",
    "go on": "continue, or resume",
    "went on": "continued, or resumed",
    "needs no telling": "is not needed",
    "tells nothing": "does not matter",
    "whence": "from where",
}
"""Not in help texts, messages, docs, docstrings and comments."""

NAMES = {
    "found": "what was found: rows, matches, files, folder",
    "told": "what it is: message, summary, answers",
    "one": "one of what: pair, row, page",
    "held": "what is held: pairs, held_out, cached",
    "said": "what it is: text, message, sentence",
    "met": "what it is: visited, seen_pairs",
    "anew": "again, or refresh",
    "stands": "what it is",
    "lies": "where it is: path, folder",
    "heard": "what it is: votes, lines",
}
"""Not the whole name of a variable, an argument, a field, a function or a class."""


def forbidden(text: str, words: dict[str, str] | None = None) -> list[str]:
    """The words of `words` (all by default) that occur in a text as whole words, with what to say
    instead: "ballot (say vote)"."""
    known = {**SYNONYMS, **IDIOM} if words is None else words
    plain = " ".join(text.lower().split())
    return [
        f"{word} (say {better})"
        for word, better in known.items()
        if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", plain)
    ]
