"""The vote of the scorers: their choices, how often they agree with the label, the majority.

A scorer chooses the image with the higher score. Equal scores are a tie and a missing score is no
choice; both are counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa

from toolkit.errors import InputError
from toolkit.intervals import wilson
from toolkit.labels.majority import align_votes, outvote
from toolkit.labels.maker import LabelMaker, Made
from toolkit.preference import Floats, is_decided, is_tie, label_of, lean, values_of
from toolkit.scoring import SCORERS
from toolkit.store import Store
from toolkit.store.connection import effective_labels, read_pairs
from toolkit.store.label_sets import ORIGINAL
from toolkit.store.scores import pair_scores, scorers_in


@dataclass(frozen=True)
class Accuracy:
    """How often a scorer chooses the labelled image."""

    scorer: str
    pairs: int
    """Labelled pairs on which it chose an image."""
    agreed: int
    ties: int
    """Labelled pairs with equal scores."""
    missing: int
    """Labelled pairs for which it lacks a score."""
    low: float | None
    high: float | None
    """95 % Wilson interval of agreed / pairs."""

    @property
    def value(self) -> float | None:
        """agreed / pairs."""
        return self.agreed / self.pairs if self.pairs else None


@dataclass(frozen=True)
class Agreement:
    """Scorers compared with the labels of a set."""

    accuracies: tuple[Accuracy, ...]
    counts: dict[int, int]
    """k -> labelled pairs on which all m scorers chose, k of them the labelled image."""
    incomplete: int
    """Labelled pairs on which some scorer has a tie or no score."""
    even: int
    """Labelled pairs whose vote of label and scorers is even."""
    warnings: tuple[str, ...]

    def lines(self, base: str) -> list[str]:
        """The comparison as sentences."""
        m = len(self.accuracies)
        shares = ", ".join(f"{k} of {m}: {self.counts[k]:,}" for k in range(m, -1, -1))
        return [
            *(_line(row, base) for row in self.accuracies),
            *(f"Warning: {warning}" for warning in self.warnings),
            f"Scorers for the label: {shares}; {self.incomplete:,} pairs have a tie or lack a "
            "score.",
        ]


def votes_of_scorers(
    store: Store, scorers: Sequence[str] = (), *, margin: float = 0.0
) -> pa.Table | None:
    """The scorers' votes: pair_id, annotator (the scorer), choice; null where a score is missing.

    All scorers with scores in the store by default; None where there is none. A gap of at most
    `margin`, in the scorer's own unit, is a tie.
    """
    names = list(dict.fromkeys(scorers)) or scorers_in(store)
    if not names:
        return None
    return pa.concat_tables([_choices(store, name, margin) for name in names])


def _choices(store: Store, scorer: str, margin: float) -> pa.Table:
    scores = pair_scores(store, scorer)
    gap = values_of(scores["score_0"]) - values_of(scores["score_1"])
    choice = label_of(np.where(np.abs(gap) <= margin, 0.0, gap))
    return pa.table(
        {
            "pair_id": scores["pair_id"],
            "annotator": pa.array([scorer] * len(gap), pa.string()),
            "choice": pa.array(choice, pa.float64(), from_pandas=True),
        }
    )


def agreement_with_labels(
    store: Store,
    scorers: Sequence[str] = (),
    *,
    base: str = ORIGINAL,
    margin: float = 0.0,
    trained_on: Mapping[str, Sequence[str]] | None = None,
) -> Agreement:
    """Each scorer compared with the labels of `base`, and how many agree with it.

    `trained_on`: scorer -> sources whose labels it was trained on; as SCORERS says by default.
    InputError without a scorer.
    """
    if trained_on is None:
        trained_on = {scorer.name: scorer.trained_on for scorer in SCORERS.values()}
    votes = _needed(store, scorers, margin)
    labels = effective_labels(store, base)
    label = values_of(labels["label"])
    decided = is_decided(label)
    row, choice = align_votes(votes, labels["pair_id"].to_pylist())
    names = votes["annotator"].to_pylist()
    column = {name: k for k, name in enumerate(dict.fromkeys(names))}
    choices = np.full((len(column), len(label)), np.nan)
    choices[[column[name] for name in names], row] = choice
    complete = decided & is_decided(choices).all(axis=0)
    counts = np.bincount((choices == label)[:, complete].sum(axis=0), minlength=len(column) + 1)
    total = np.nansum(lean(choices), axis=0) + lean(label)
    return Agreement(
        tuple(accuracy(name, choices[k][decided], label[decided]) for name, k in column.items()),
        {k: int(count) for k, count in enumerate(counts)},
        int((decided & ~complete).sum()),
        int((decided & (total == 0)).sum()),
        tuple(_warnings(store, list(column), trained_on)),
    )


def vote_of_scorers(
    store: Store,
    name: str,
    base: str = ORIGINAL,
    *,
    scorer: Annotated[
        list[str] | None, "A scorer that votes; repeat it. All in the store if not given."
    ] = None,
    margin: Annotated[float, "A gap of at most this is a tie.", (0, 1e6)] = 0.0,
) -> Made:
    """Add the label set of majorities of label and scorers: `outvote` with `votes_of_scorers`.

    With four scorers these are the five votes of arXiv 2503.16921.
    """
    votes = _needed(store, scorer or (), margin)
    names = list(dict.fromkeys(votes["annotator"].to_pylist()))
    source = f"scores of {', '.join(names)}, margin {margin:g}"
    return outvote(store, name, votes.filter(votes["choice"].is_valid()), base, source=source)


def _report(
    store: Store, base: str, *, scorer: list[str] | None = None, margin: float = 0.0
) -> list[str]:
    return agreement_with_labels(store, scorer or (), base=base, margin=margin).lines(base)


def _needed(store: Store, scorers: Sequence[str], margin: float) -> pa.Table:
    votes = votes_of_scorers(store, scorers, margin=margin)
    if votes is None:
        raise InputError(
            f"{store.root} has no scores; `outvoted score {store.root} --scorer NAME` makes them, "
            "and `outvoted scorers` lists the scorers."
        )
    return votes


def _line(row: Accuracy, base: str) -> str:
    agrees = "chose an image on no labelled pair"
    if row.value is not None:
        agrees = (
            f"agrees with {base} on {row.value:.1%} ({row.low:.1%} to {row.high:.1%}) of "
            f"{row.pairs:,} pairs"
        )
    return f"{row.scorer}: {agrees}; {row.ties:,} ties, {row.missing:,} without a score"


def accuracy(name: str, choice: Floats, label: Floats) -> Accuracy:
    """How often choices, (P,), are for the image that decided labels, (P,), prefer."""
    chose = is_decided(choice)
    pairs, agreed = int(chose.sum()), int((lean(choice[chose]) == lean(label[chose])).sum())
    low, high = wilson(np.array([agreed]), np.array([pairs]))
    return Accuracy(
        name,
        pairs,
        agreed,
        int(is_tie(choice).sum()),
        int(np.isnan(choice).sum()),
        float(low[0]) if pairs else None,
        float(high[0]) if pairs else None,
    )


def _warnings(
    store: Store, scorers: Sequence[str], trained_on: Mapping[str, Sequence[str]]
) -> list[str]:
    sources = {str(name) for name in read_pairs(store, ["source"])["source"].to_pylist()}
    return [
        f"{name} was trained on labels of {', '.join(both)}, which this store contains: it is not "
        "independent there, and its accuracy is too high."
        for name in scorers
        if (both := sorted(sources & set(trained_on.get(name, ()))))
    ]


VOTE = LabelMaker(
    "vote",
    "The majority of the label and the scorers' choices.",
    vote_of_scorers,
    "vote",
    report=_report,
)
