"""Agreement of a label: with the votes on its pair, and with scorers and other axes."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.detectors.detector import Computed, Detector, Evidence, Score
from analysis.trajectory import Floats, Ints, as_table, numbers
from toolkit.labels.majority import align_votes
from toolkit.labels.scorers import Accuracy, accuracy
from toolkit.preference import is_decided, lean
from toolkit.schema import column

VOTE_SPLIT = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("votes", pa.int32(), "votes on its comparison: the same prompt and two images"),
        column("ties", pa.int32(), "of these, ties"),
        column("against", pa.int32(), "of these, votes for the other image than the label"),
        column(
            "against_share",
            pa.float64(),
            "against / votes for an image, 0 to 1; null without a label or below two such votes",
        ),
        column(
            "agreement",
            pa.float64(),
            "share of the pairs of votes that agree, ties counted as a choice, 0 to 1; null (not "
            "known) below two votes",
        ),
        column(
            "outvoted",
            pa.float64(),
            "probability that most people prefer the other image, from the votes alone, 0 to 1, "
            "high = suspicious; null as against_share",
        ),
    ]
)

AGREEMENT = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("votes", pa.int32(), "extra votes for an image, by people, scorers or other axes"),
        column("against", pa.int32(), "of these, votes for the other image than the label"),
        column(
            "against_share",
            pa.float64(),
            "against / votes, 0 to 1, high = suspicious; null without a label or a vote",
        ),
        column(
            "pattern",
            pa.string(),
            "all with, all against, or mixed: votes that contradict each other; null as above",
        ),
    ]
)


def vote_split(pairs: pa.Table, votes: pa.Table) -> pa.Table:
    """How the votes on each comparison are split, and where its label is; VOTE_SPLIT, by pair_id.

    `pairs`: pair_id (sorted), comparison_id, image_0, image_1, label; `votes`: pair_id, choice. All
    votes on the same prompt and two images count together, whichever way round the images are. A
    label that a source took from one of these votes is among them.

    `outvoted` is P(q > 1/2) for q, the share of people who prefer the other image, under a uniform
    prior: Beta(against + 1, with + 1).
    """
    import polars as pl

    frame = pl.DataFrame(
        pl.from_arrow(pairs.select(["pair_id", "comparison_id", "image_0", "image_1"]))
    ).with_columns(turned=pl.col("image_0").fill_null("") > pl.col("image_1").fill_null(""))
    cast = (
        pl.DataFrame(pl.from_arrow(votes.select(["pair_id", "choice"])))
        .drop_nulls("choice")
        .join(frame, on="pair_id")
        .with_columns(side=((pl.col("choice") - 0.5) * pl.when("turned").then(-1).otherwise(1)))
        .group_by("comparison_id")
        .agg(
            first=(pl.col("side") > 0).sum(), second=(pl.col("side") < 0).sum(),
            ties=(pl.col("side") == 0).sum(),
        )
    )  # fmt: skip
    counted = frame.join(cast, on="comparison_id", how="left", maintain_order="left").fill_null(0)
    turned = counted["turned"].to_numpy()
    sides = [counted[name].to_numpy().astype(np.int64) for name in ("first", "second")]
    ties = counted["ties"].to_numpy().astype(np.int64)
    first, second = np.where(turned, sides[::-1], sides)
    against, share = against_label(numbers(pairs["label"]), first, second)
    split = split_scores(first, second, ties)
    known = (first + second > 1) & ~np.isnan(share)
    total = first + second + ties
    columns = [
        np.asarray(pairs["pair_id"].to_pylist(), np.str_), total.astype(np.int32),
        ties.astype(np.int32), against.astype(np.int32), np.where(known, share, np.nan), split,
        np.where(known, outvoted(against, first + second - against), np.nan),
    ]  # fmt: skip
    return as_table(VOTE_SPLIT, columns)


def split_scores(first: Ints, second: Ints, ties: Ints) -> Floats:
    """(P,) share of the pairs of votes that agree, NaN below two votes (Fleiss 1971, P_i)."""
    total = first + second + ties
    alike = sum(n * (n - 1) for n in (first, second, ties))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 1, alike / (total * (total - 1)), np.nan)


def outvoted(against: Ints, agreeing: Ints) -> Floats:
    """(P,) P(q > 1/2) of the share q of people who are against: Beta(against + 1, agreeing + 1)."""
    from scipy.special import betainc  # type: ignore[import-untyped]

    return np.asarray(1 - betainc(against + 1.0, agreeing + 1.0, 0.5), np.float64)


@dataclass(frozen=True)
class Conflicts:
    """What ViPO counts over its dimensions, for any number of judges (arXiv 2604.24953)."""

    patterns: dict[int, dict[str, int]]
    """Judges that chose an image -> pattern (all with, mixed, all against) -> pairs."""
    judges: list[Accuracy]
    """Of each, how often it chose the label's image."""

    @property
    def pairs(self) -> int:
        """Labelled pairs with at least one judge's choice."""
        return sum(sum(row.values()) for row in self.patterns.values())

    def share(self, pattern: str) -> float:
        """Share of `pairs` that have a pattern."""
        return sum(row[pattern] for row in self.patterns.values()) / max(1, self.pairs)


PATTERNS = ("all with", "mixed", "all against")


def agreement(labels: pa.Table, votes: pa.Table) -> pa.Table:
    """How many of the votes on a pair go against its label; schema AGREEMENT, by pair_id.

    `labels`: pair_id and label of every pair. `votes`: pair_id, annotator, choice; those on other
    pairs count nothing. InputError where columns are missing or an annotator votes twice on a pair.
    """
    order = np.argsort(np.asarray(labels["pair_id"].to_pylist(), np.str_))
    ids = np.asarray(labels["pair_id"].to_pylist(), np.str_)[order]
    place, choice = align_votes(votes, ids.tolist())
    size, side = len(ids), lean(choice)
    first, second = (np.bincount(place[side == end], minlength=size) for end in (1, -1))
    against, share = against_label(numbers(labels["label"])[order], first, second)
    pattern = np.select(
        [np.isnan(share), share == 0, share == 1], ["", "all with", "all against"], "mixed"
    )
    known = [ids, (first + second).astype(np.int32), against.astype(np.int32), share]
    words = pa.array(pattern.tolist(), pa.string(), mask=pattern == "")
    return as_table(AGREEMENT, [*known, words])


def conflicts_of(labels: pa.Table, votes: pa.Table, table: pa.Table) -> Conflicts:
    """The patterns of `table` (schema AGREEMENT) by number of judges, and each judge's agreement.

    `labels` and `votes` as of `agreement`.
    """
    share, count = numbers(table["against_share"]), table["votes"].to_numpy()
    which = np.select([share == 0, share == 1], [0, 2], 1)[~np.isnan(share)]
    size = 3 * (int(count.max(initial=0)) + 1)
    cells = np.bincount(count[~np.isnan(share)] * 3 + which, minlength=size).reshape(-1, 3)
    patterns = {
        m: dict(zip(PATTERNS, map(int, row), strict=True))
        for m, row in enumerate(cells)
        if sum(row)
    }
    votes = votes.filter(pc.is_in(votes["pair_id"], value_set=labels["pair_id"].combine_chunks()))
    place, choice = align_votes(votes, labels["pair_id"].to_pylist())
    label = numbers(labels["label"])[place]
    who = pc.dictionary_encode(votes["annotator"].combine_chunks())
    code = who.indices.to_numpy(zero_copy_only=False)
    judges = [
        accuracy(name, choice[mine], label[mine])
        for k, name in enumerate(who.dictionary.to_pylist())
        for mine in [(code == k) & is_decided(label)]
    ]
    return Conflicts(patterns, judges)


def against_label(label: Floats, first: Ints, second: Ints) -> tuple[Ints, Floats]:
    """(P,) votes against each label and their share, from the votes for image_0 and image_1.

    A label that prefers no image has 0 votes against it and a share of NaN.
    """
    decided = is_decided(label)
    against = np.where(decided, np.where(lean(label) > 0, second, first), 0)
    votes = first + second
    with np.errstate(invalid="ignore", divide="ignore"):
        return against, np.where(decided & (votes > 0), against / votes, np.nan)


def _vote_split(evidence: Evidence, window: str) -> Computed:  # noqa: ARG001
    return evidence.of_pairs(vote_split(evidence.facts, evidence.votes))


def _agreement(evidence: Evidence, window: str) -> Computed:  # noqa: ARG001
    assert evidence.extra_votes is not None  # by the need `scores`
    labels = evidence.pairs.select(["pair_id", "label"])
    table = agreement(labels, evidence.extra_votes)
    return table, conflicts_of(labels, evidence.extra_votes, table)


DETECTORS = (
    Detector(
        finding="vote_split",
        compute=_vote_split,
        needs=("labels", "votes"),
        scores=(
            Score(
                name="outvoted",
                column="outvoted",
                direction="high",
                formula="P(q > 1/2), q ~ Beta(votes against the label + 1, votes for it + 1)",
                assumption="each vote is a person drawn at random; ties say nothing. Where the "
                "label is the majority of the same votes, it is never outvoted by them, only "
                "doubtful",
                source="Beta-binomial posterior under a uniform prior",
            ),
        ),
    ),
    Detector(
        finding="agreement",
        compute=_agreement,
        needs=("labels", "scores"),
        scores=(
            Score(
                name="agreement",
                column="against_share",
                direction="high",
                formula="votes against the label / votes for an image",
                assumption="the voters are independent of the label: a scorer trained on these "
                "labels is not (PickScore on Pick-a-Pic)",
                source="ViPO, arXiv 2604.24953 (conflicting patterns); votes as arXiv 2503.16921 "
                "section 5",
            ),
        ),
    ),
)
