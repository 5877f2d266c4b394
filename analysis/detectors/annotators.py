"""Annotators: habits of each, and, where votes overlap, what the usual models make of them."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import expit  # type: ignore[import-untyped]

from analysis.detectors import vote_models
from analysis.detectors.consistency import image_numbers
from analysis.detectors.detector import Computed, Detector, Evidence, Score
from analysis.detectors.vote_models import dawid_skene, krippendorff_alpha, noisy_bradley_terry
from analysis.ranking_metrics import coded
from analysis.trajectory import Floats, Ints, Mask, as_table, numbers
from toolkit.preference import lean
from toolkit.schema import column

ANNOTATORS = pa.schema(
    [
        column("annotator", pa.string(), "as the source names them", nullable=False),
        column("votes", pa.int64(), "votes cast"),
        column("tie_rate", pa.float64(), "share of votes that are ties"),
        column("left_share", pa.float64(), "share of image_0 among votes for an image"),
        column(
            "agreement",
            pa.float64(),
            "share of votes that go with the majority of the others on the same comparison; null "
            "where nobody else voted",
        ),
        column("compared", pa.int64(), "votes that could be compared with a majority of others"),
        column("mean_u", pa.float64(), "mean minority score of the pairs the annotator labelled"),
        *(
            column(f"{name}_shrunk", pa.float64(), f"{name}, as if 20 more votes were average")
            for name in ("tie_rate", "left_share", "agreement", "mean_u")
        ),
    ]
)


PRIOR = 20.0
"""Average votes that are added to an annotator's own before they are believed."""


@dataclass(frozen=True)
class Votes:
    """Votes as numbers, V of them, each by a known annotator on a known pair."""

    annotators: list[str]
    """Sorted."""
    worker: Ints
    """(V,) number of the annotator."""
    pair: Ints
    """(V,) row of the pair."""
    choice: Floats
    """(V,) for the pair's image_0."""
    comparison: Ints
    """(P,) number of a pair's comparison: the same prompt and two images, in either order."""
    turned: Mask
    """(P,) whether a pair has its images in the other order than its comparison: not by name."""

    def __len__(self) -> int:
        return len(self.worker)

    @property
    def task(self) -> Ints:
        """(V,) number of the comparison."""
        return self.comparison[self.pair]

    @property
    def side(self) -> Floats:
        """(V,) 1 for the comparison's first image, -1 for its second, 0 for a tie."""
        return lean(self.choice) * np.where(self.turned[self.pair], -1, 1)

    def among(self, rows: Mask | Ints) -> "Votes":
        """Some of the votes."""
        kept = {n: getattr(self, n)[rows] for n in ("worker", "pair", "choice")}
        return replace(self, **kept)


def voted(pairs: pa.Table, votes: pa.Table) -> Votes:
    """The votes that have an annotator and a choice, on these pairs.

    `pairs`: pair_id, comparison_id, image_0, image_1; `votes`: pair_id, annotator, choice.
    """
    import polars as pl

    wanted = ["pair_id", "comparison_id", "image_0", "image_1"]
    known = (
        pl.DataFrame(pl.from_arrow(pairs.select(wanted)))
        .with_row_index("pair")
        .with_columns(
            task=pl.col("comparison_id").rank("dense") - 1,
            turned=pl.col("image_0").fill_null("") > pl.col("image_1").fill_null(""),
        )
    )
    cast = (
        pl.DataFrame(pl.from_arrow(votes.select(["pair_id", "annotator", "choice"])))
        .drop_nulls(["annotator", "choice"])
        .join(known.select("pair_id", "pair"), on="pair_id", maintain_order="left")
        .with_columns(worker=pl.col("annotator").rank("dense") - 1)
    )
    return Votes(
        annotators=cast["annotator"].unique().sort().to_list(),
        worker=cast["worker"].to_numpy().astype(np.int64),
        pair=cast["pair"].to_numpy().astype(np.int64),
        choice=cast["choice"].to_numpy().astype(np.float64),
        comparison=known["task"].to_numpy().astype(np.int64),
        turned=known["turned"].to_numpy(),
    )


def annotators(pairs: pa.Table, votes: pa.Table, u: Floats | None = None) -> pa.Table:
    """Habits of every annotator; schema ANNOTATORS, by annotator.

    `pairs`: pair_id, comparison_id, image_0, image_1; `votes`: pair_id, annotator, choice; `u`:
    (P,) minority score in the order of `pairs`, NaN for none. Votes without an annotator are left
    out.
    """
    cast = voted(pairs, votes)
    if not len(cast):
        return ANNOTATORS.empty_table()
    who, side = cast.worker, lean(cast.choice)
    with_others = _with_others(cast)
    mine = np.full(len(cast), np.nan) if u is None else u[cast.pair]
    size = len(cast.annotators)
    shares = [
        shrunken_mean(who, size, side == 0, np.ones(len(cast), bool)),
        shrunken_mean(who, size, side == 1, side != 0),
        shrunken_mean(who, size, with_others == 1, ~np.isnan(with_others)),
        shrunken_mean(who, size, mine, ~np.isnan(mine)),
    ]
    plain, shrunk = [pair[0] for pair in shares], [pair[1] for pair in shares]
    compared = np.bincount(who[~np.isnan(with_others)], minlength=size)
    names = np.asarray(cast.annotators, np.str_)
    count = np.bincount(who, minlength=size)
    return as_table(ANNOTATORS, [names, count, *plain[:3], compared, plain[3], *shrunk])


def _with_others(votes: Votes) -> Floats:
    """(V,) 1 where a vote goes with the majority of the others' votes on its comparison, 0 where it
    goes against it, NaN where they are even, absent, or the vote is a tie. Whoever voted more than
    once on the comparison is not among the others."""
    signed = votes.side
    own, owns = coded(votes.task * len(votes.annotators) + votes.worker)
    others = np.bincount(votes.task, signed)[votes.task] - np.bincount(own, signed, owns)[own]
    return np.where((signed == 0) | (others == 0), np.nan, signed == np.sign(others))


def shrunken_mean(
    who: npt.NDArray,
    people: int,
    values: npt.NDArray,
    known: npt.NDArray[np.bool_],
    prior: float = PRIOR,
) -> tuple[Floats, Floats]:
    """(A,) mean of the known values by annotator, plain and shrunk to the mean of all."""
    count = np.bincount(who[known], minlength=people)
    total = np.bincount(who[known], values[known].astype(float), people)
    with np.errstate(invalid="ignore", divide="ignore"):
        plain = total / count
    if not count.sum():
        return plain, plain
    return plain, (total + prior * total.sum() / count.sum()) / (count + prior)


def annotator_minority(pairs: pa.Table, habits: pa.Table) -> pa.Table:
    """Each pair's annotator's shrunk mean u; pair_id, annotator_minority.

    `pairs`: pair_id, annotator.
    """
    mean = dict(zip(habits["annotator"].to_pylist(), numbers(habits["mean_u_shrunk"]), strict=True))
    values = [mean.get(name, np.nan) for name in pairs["annotator"].to_pylist()]
    schema = pa.schema(
        [
            column("pair_id", pa.string(), "the pair", nullable=False),
            column(
                "annotator_minority",
                pa.float64(),
                "its annotator's mean u, shrunk to the common one, high = suspicious",
            ),
        ]
    )
    ids = np.asarray(pairs["pair_id"].to_pylist(), np.str_)
    return as_table(schema, [ids, np.asarray(values, float)])


def _annotators(evidence: Evidence, window: str) -> Computed:
    """Habits over the store's votes, with the run's u where it met the pair."""
    u: Floats | None = None
    if evidence.run is not None:
        u = np.full(len(evidence.run.pair_ids), np.nan)
        u[evidence.run.visited] = numbers(evidence.tables[window]["minority"]["minority"])
    table = annotators(evidence.facts, evidence.votes, u)
    return table if table.num_rows else None


def _annotator_minority(evidence: Evidence, window: str) -> Computed:
    habits = evidence.tables[window].get("annotators", ANNOTATORS.empty_table())
    return annotator_minority(evidence.pairs, habits)


OVERLAP = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("voters", pa.int32(), "votes on its comparison"),
        column("dawid_skene", pa.float64(), "1 - Dawid-Skene's probability of the label"),
        column("glad", pa.float64(), "1 - GLAD's probability of the label"),
        column(
            "noisy_bradley_terry",
            pa.float64(),
            "1 - probability of the label under noisy Bradley-Terry strengths",
        ),
    ]
)


VOTERS = pa.schema(
    [
        column("annotator", pa.string(), "as the source names them", nullable=False),
        column("votes", pa.int64(), "votes on comparisons that others voted on too"),
        column("dawid_skene", pa.float64(), "mean of the confusion matrix's diagonal, 0 to 1"),
        column("glad", pa.float64(), "ability, 0 is chance"),
        column("noisy_bradley_terry", pa.float64(), "skill, 0 to 1"),
    ]
)


@dataclass(frozen=True)
class Overlap:
    """What models of several votes on one comparison say."""

    alpha: float
    """Krippendorff's alpha over image_0, image_1 and tie; 1 agreement, 0 chance."""
    comparisons: int
    """Comparisons with two votes or more."""
    pairs: pa.Table
    """Schema OVERLAP."""
    voters: pa.Table
    """Schema VOTERS."""


def overlap(pairs: pa.Table, votes: pa.Table) -> Overlap | None:
    """Krippendorff's alpha, Dawid-Skene, GLAD and noisy Bradley-Terry (`vote_models`).

    `pairs`: pair_id, comparison_id, image_0, image_1, prompt, label. Votes on one comparison count
    together whichever way round its images are; of several votes by one annotator the first counts.
    None where no comparison has two annotators.
    """
    cast = voted(pairs, votes)
    people = max(1, len(cast.annotators))
    _, first = np.unique(cast.task * people + cast.worker, return_index=True)
    several = np.bincount(cast.task[first], minlength=1) > 1
    if not several.any():
        return None
    cast = cast.among(np.sort(first[several[cast.task[first]]]))
    tasks, task = np.unique(cast.task, return_inverse=True)
    workers, worker = np.unique(cast.worker, return_inverse=True)
    choice = np.select([cast.side > 0, cast.side < 0], [0, 1], 2)
    skene, glad = dawid_skene(task, worker, choice), vote_models.glad(task, worker, choice)
    slots = image_numbers(pairs["prompt"], pairs["image_0"], pairs["image_1"])
    chose = choice != 2
    left, right = (slot[cast.pair[chose]] for slot in slots)
    strength, skill = noisy_bradley_terry(
        left, right, worker[chose], lean(cast.choice[chose]), images=int(np.max(slots)) + 1
    )
    place = np.minimum(np.searchsorted(tasks, cast.comparison), len(tasks) - 1)
    rows = np.flatnonzero(tasks[place] == cast.comparison)
    mine = place[rows]
    label = lean(numbers(pairs["label"]))[rows]
    towards = label * np.where(cast.turned[rows], -1, 1)
    given = [fit.probability[mine, np.where(towards > 0, 0, 1)] for fit in (skene, glad)]
    gap = strength[slots[0][rows]] - strength[slots[1][rows]]
    decided = np.abs(label) == 1
    scores = [np.where(decided, 1 - p, np.nan) for p in (*given, expit(label * gap))]
    ids = np.asarray(pairs["pair_id"].to_pylist(), np.str_)[rows]
    order = np.argsort(ids)
    voters = np.bincount(task)[mine].astype(np.int32)
    table = as_table(OVERLAP, [ids[order], voters[order], *(s[order] for s in scores)])
    count = np.bincount(worker)
    names = np.asarray(cast.annotators, np.str_)[workers]
    quality = [skene.voter, glad.voter, np.resize(skill, len(count))]
    known = as_table(VOTERS, [names, count, *quality])
    return Overlap(krippendorff_alpha(task, choice), len(tasks), table, known)


def _overlap(evidence: Evidence, window: str) -> Computed:  # noqa: ARG001
    models = overlap(evidence.facts, evidence.votes)
    return None if models is None else (models.pairs, models)


def _score(name: str, formula: str, assumption: str, source: str) -> Score:
    return Score(name, name, "high", formula, assumption, source)


DETECTORS = (
    Detector("annotators", _annotators, ("labels", "votes"), scores=()),
    Detector(
        finding="annotator_minority",
        compute=_annotator_minority,
        needs=("trajectory", "labels", "annotators"),
        scores=(
            Score(
                name="annotator_minority",
                column="annotator_minority",
                direction="high",
                formula="(sum of u over the annotator's pairs + 20 mean u) / (pairs + 20)",
                assumption="errors gather in some annotators; says nothing about which of their "
                "labels is wrong",
                source="empirical shrinkage; this project",
            ),
        ),
    ),
    Detector(
        finding="overlap",
        compute=_overlap,
        needs=("labels", "votes"),
        scores=(
            _score(
                "dawid_skene",
                "1 - P(label | votes), a confusion matrix per voter",
                "voters err independently, each in the same way on every comparison",
                "Dawid and Skene 1979",
            ),
            _score(
                "glad",
                "1 - P(label | votes), an ability per voter and a difficulty per comparison",
                "a better voter is better on every comparison",
                "Whitehill et al. 2009",
            ),
            _score(
                "noisy_bradley_terry",
                "1 - P(winner beats loser), strengths of images, skill and left bias of voters",
                "one order of a prompt's images holds for all voters",
                "noisy Bradley-Terry",
            ),
        ),
    ),
)
