"""What the scorers in a store say of its pairs: ballots, k-of-m agreement, accuracy, the vote.

A scorer chooses the image it scores higher. Equal scores are a tie, a missing score is no choice;
both are counted and neither is passed over in silence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from analysis.trajectory import numbers
from analysis.voting import vote_in_store
from toolkit.errors import InputError
from toolkit.intervals import wilson
from toolkit.store import Store
from toolkit.store.connection import effective_labels, read_pairs
from toolkit.store.label_sets import ORIGINAL
from toolkit.store.scores import scorers_in, voices


@dataclass(frozen=True)
class Accuracy:
    """How often a scorer chooses the labelled image; ties and missing scores stand beside it."""

    voice: str
    pairs: int
    """Labelled pairs on which it chose an image."""
    agreed: int
    ties: int
    """Labelled pairs with equal scores."""
    missing: int
    """Labelled pairs of which it lacks a score."""
    low: float | None
    high: float | None
    """95 % Wilson interval of agreed / pairs."""

    @property
    def value(self) -> float | None:
        """agreed / pairs."""
        return self.agreed / self.pairs if self.pairs else None


@dataclass(frozen=True)
class Vote:
    """A vote of scorers and label."""

    accuracies: tuple[Accuracy, ...]
    agreement: dict[int, int]
    """k -> labelled pairs on which all m scorers chose, k of them for the label."""
    incomplete: int
    """Labelled pairs on which some scorer has a tie or no score."""
    even: int
    """Labelled pairs whose votes were even, so that the label stayed."""
    warnings: tuple[str, ...]


def ballots_of_store(
    store: Store, scorers: Sequence[str] = (), *, margin: float = 0.0
) -> pa.Table | None:
    """pair_id, voice, choice (1: image_0, 0: image_1, .5: tie, null: a score is missing).

    Of all scorers with scores in the store where none is named; None where there is none. A gap of
    at most `margin`, in the scorer's own unit, is a tie.
    """
    named = list(scorers) or scorers_in(store)
    if not named:
        return None
    table = voices(store, named)
    gap = numbers(table["score_0"]) - numbers(table["score_1"])
    choice = np.where(np.abs(gap) <= margin, 0.5, (gap > 0).astype(np.float64))
    choices = pa.array(choice, pa.float64(), mask=np.isnan(gap))
    return table.select(["pair_id", "voice"]).append_column("choice", choices)


def look(
    store: Store,
    scorers: Sequence[str],
    *,
    base: str = ORIGINAL,
    margin: float = 0.0,
    trained_on: Mapping[str, Sequence[str]] | None = None,
) -> Vote:
    """Each scorer held against the labels of `base`, and how often they agree with it.

    `trained_on`: scorer -> sources whose labels it was trained on. InputError without a scorer.
    """
    ballots = _ballots(store, scorers, margin)
    labels = effective_labels(store, base)
    label = numbers(labels["label"])
    decided = (label == 0) | (label == 1)
    choices = _by_voice(ballots, labels["pair_id"].to_pylist())
    stacked = np.stack(list(choices.values()))
    chosen = (stacked == 0) | (stacked == 1)
    right = chosen & (stacked == label)
    complete = decided & chosen.all(axis=0)
    counts = np.bincount(right[:, complete].sum(axis=0), minlength=len(choices) + 1)
    signs = np.where(np.isnan(stacked), 0.0, np.sign(stacked - 0.5)).sum(axis=0)
    signs = signs + np.where(decided, np.sign(label - 0.5), 0.0)
    return Vote(
        tuple(_accuracy(name, row[decided], label[decided]) for name, row in choices.items()),
        {k: int(count) for k, count in enumerate(counts)},
        int((decided & ~complete).sum()),
        int((decided & (signs == 0)).sum()),
        tuple(_warnings(store, list(choices), trained_on or {})),
    )


def vote(
    store: Store, scorers: Sequence[str], *, name: str, base: str = ORIGINAL, margin: float = 0.0
) -> tuple[int, int]:
    """Add the label set of majorities of label and scorers; labels changed, pairs with a voice.

    With four scorers these are the five votes of arXiv 2503.16921.
    """
    heard = _ballots(store, scorers, margin)
    spoken = heard.filter(heard["choice"].is_valid())
    source = f"scores of {', '.join(scorers)}, margin {margin:g}"
    return vote_in_store(store, spoken, name=name, base=base, source=source)


def _ballots(store: Store, scorers: Sequence[str], margin: float) -> pa.Table:
    ballots = ballots_of_store(store, scorers, margin=margin)
    if ballots is None:
        raise InputError(
            f"{store.root} has no scores; `outvoted score {store.root} --scorer NAME` makes them, "
            "and `outvoted scorers` lists whose."
        )
    return ballots


def _by_voice(ballots: pa.Table, pair_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """voice -> choices, (P,), in the order of the pairs; NaN where there is none."""
    place = {pair_id: k for k, pair_id in enumerate(pair_ids)}
    voice = np.asarray(ballots["voice"].to_pylist(), np.str_)
    choice = numbers(ballots["choice"])
    where = np.array([place[pair_id] for pair_id in ballots["pair_id"].to_pylist()], np.int64)
    found = {}
    for name in dict.fromkeys(voice.tolist()):
        row = np.full(len(pair_ids), np.nan)
        row[where[voice == name]] = choice[voice == name]
        found[name] = row
    return found


def _accuracy(name: str, choice: np.ndarray, label: np.ndarray) -> Accuracy:
    chose = (choice == 0) | (choice == 1)
    pairs, agreed = int(chose.sum()), int((choice[chose] == label[chose]).sum())
    low, high = wilson(np.array([agreed]), np.array([pairs]))
    return Accuracy(
        name,
        pairs,
        agreed,
        int((choice == 0.5).sum()),
        int(np.isnan(choice).sum()),
        float(low[0]) if pairs else None,
        float(high[0]) if pairs else None,
    )


def _warnings(
    store: Store, scorers: Sequence[str], trained_on: Mapping[str, Sequence[str]]
) -> list[str]:
    sources = {str(name) for name in read_pairs(store, ["source"])["source"].to_pylist()}
    return [
        f"{name} was trained on labels of {', '.join(both)}, which this store holds: it is no "
        "independent witness there, and its accuracy is too high."
        for name in scorers
        if (both := sorted(sources & set(trained_on.get(name, ()))))
    ]
