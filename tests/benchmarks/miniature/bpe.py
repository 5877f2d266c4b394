"""Byte-pair merges learned from a few words, the same on every run.

The trainer in `tokenizers` breaks ties in an order that changes from run to run, which changes the
vocabulary and with it the weights; here ties go to the pair that comes first in the alphabet.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence

Pair = tuple[str, str]


def learn_merges(words: Sequence[str], limit: int) -> list[Pair]:
    """At most `limit` merges, the most frequent pair of symbols first.

    A word is a string of symbols of one character each; its last symbol carries CLIP's mark `</w>`.
    Repetitions of a word count. Stops early when every word is one symbol.
    """
    tally = Counter(words)
    spelled = {word: [*word[:-1], f"{word[-1]}</w>"] for word in sorted(tally)}
    counts: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[str]] = defaultdict(set)
    for word, symbols in spelled.items():
        for pair in itertools.pairwise(symbols):
            counts[pair] += tally[word]
            where[pair].add(word)
    merges: list[Pair] = []
    while len(merges) < limit and counts:
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        for word in where.pop(best):
            before = spelled[word]
            after = spelled[word] = merged(before, best)
            for pair in itertools.pairwise(before):
                counts[pair] -= tally[word]
            for pair in itertools.pairwise(after):
                counts[pair] += tally[word]
                where[pair].add(word)
        counts = Counter({pair: count for pair, count in counts.items() if count > 0})
    return merges


def merged(symbols: Sequence[str], pair: Pair) -> list[str]:
    """The symbols with every occurrence of the pair joined, from left to right."""
    joined: list[str] = []
    for symbol in symbols:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return joined
