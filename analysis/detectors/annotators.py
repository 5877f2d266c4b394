"""Annotators: habits of each, and, where votes overlap, what the usual models make of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from analysis.detectors.detector import Computed, Detector, Evidence, Score
from analysis.ranking_metrics import coded
from analysis.trajectory import Floats, as_table, numbers
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


def annotators(pairs: pa.Table, votes: pa.Table, u: Floats | None = None) -> pa.Table:
    """Habits of every annotator; schema ANNOTATORS, by annotator.

    `pairs`: pair_id, comparison_id, image_0, image_1; `votes`: pair_id, annotator, choice; `u`:
    (P,) minority score in the order of `pairs`, NaN for none. Votes without an annotator are left
    out.
    """
    frame = voted(pairs, votes, u)
    if frame.empty:
        return ANNOTATORS.empty_table()
    names, who = np.unique(frame["worker"].to_numpy(str), return_inverse=True)
    choice = frame["choice"].to_numpy(float)
    decided = choice != 0.5
    with_others = _with_others(frame)
    known_u = ~np.isnan(frame["u"].to_numpy(float))
    shares = [
        shrunken_mean(who, len(names), choice == 0.5, np.ones(len(choice), bool)),
        shrunken_mean(who, len(names), choice == 1, decided),
        shrunken_mean(who, len(names), with_others == 1, ~np.isnan(with_others)),
        shrunken_mean(who, len(names), frame["u"].to_numpy(float), known_u),
    ]
    plain, shrunk = [pair[0] for pair in shares], [pair[1] for pair in shares]
    compared = np.bincount(who[~np.isnan(with_others)], minlength=len(names))
    count = np.bincount(who, minlength=len(names))
    return as_table(ANNOTATORS, [names, count, *plain[:3], compared, plain[3], *shrunk])


def voted(pairs: pa.Table, votes: pa.Table, u: Floats | None) -> pd.DataFrame:
    """worker, pair, task (comparison), choice (for the pair's image_0), side (for the comparison's
    first image by name) and u of every vote by a known annotator on a known pair."""
    wanted = ["pair_id", "comparison_id", "image_0", "image_1"]
    known = pairs.select(wanted).to_pandas()
    known["u"] = np.nan if u is None else u
    cast = votes.select(["pair_id", "annotator", "choice"]).to_pandas()
    frame = cast.dropna(subset=["annotator", "choice"]).merge(known, on="pair_id")
    turned = frame["image_0"].astype(str) > frame["image_1"].astype(str)
    frame["side"] = np.where(turned, 1 - frame["choice"], frame["choice"])
    frame["turned"] = turned
    return frame.rename(columns={"annotator": "worker", "comparison_id": "task"})


def _with_others(frame: pd.DataFrame) -> Floats:
    """(V,) 1 where a vote goes with the majority of the others' votes on its comparison, 0 where it
    goes against it, NaN where they are even, absent, or the vote is a tie. Whoever voted more than
    once on the comparison is not among the others."""
    signed = np.sign(frame["side"].to_numpy(float) - 0.5)
    which, tasks = coded(frame["task"].to_numpy(str))
    who, people = coded(frame["worker"].to_numpy(str))
    own, owns = coded(which * people + who)
    others = np.bincount(which, signed, tasks)[which] - np.bincount(own, signed, owns)[own]
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
    digest = evidence.digest
    u: Floats = np.full(len(digest.pair_ids), np.nan)
    u[digest.visited] = numbers(evidence.tables[window]["minority"]["minority"])
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
    """annotator, votes, dawid_skene (mean of the confusion matrix's diagonal), glad (ability, 0 is
    chance), noisy_bradley_terry (skill, 0 to 1)."""


def overlap(pairs: pa.Table, votes: pa.Table) -> Overlap | None:
    """Krippendorff's alpha, Dawid-Skene, GLAD and noisy Bradley-Terry, all by crowd-kit.

    `pairs`: pair_id, comparison_id, image_0, image_1, prompt, label. Votes on one comparison count
    together whichever way round its images stand. None where no comparison has two votes.
    """
    from crowdkit.aggregation import GLAD, DawidSkene, NoisyBradleyTerry
    from crowdkit.metrics.data import alpha_krippendorff

    frame = voted(pairs, votes, None)
    size = frame.groupby("task")["worker"].transform("nunique") if len(frame) else None
    if size is None or not (size > 1).any():
        return None
    frame = frame[size > 1].drop_duplicates(["task", "worker"])
    words = frame["side"].map({1.0: "first", 0.0: "second", 0.5: "tie"})
    answers = frame[["task", "worker"]].assign(label=words)
    skene, glad = DawidSkene(n_iter=50).fit(answers), GLAD(n_iter=20).fit(answers)
    noisy = NoisyBradleyTerry(n_iter=100)
    state = np.random.get_state()
    try:
        noisy.fit(_duels(frame, pairs))
    finally:
        np.random.set_state(state)
    return Overlap(
        alpha=float(alpha_krippendorff(answers)),
        comparisons=int(frame["task"].nunique()),
        pairs=_judged(pairs, frame, skene.probas_, glad.probas_, noisy.scores_),
        voters=_voters(frame, skene.errors_, glad.alphas_, noisy.skills_),
    )


def _duels(frame: pd.DataFrame, pairs: pa.Table) -> pd.DataFrame:
    """worker, left, right, label of the votes that chose, images named with their prompt."""
    prompts = dict(zip(pairs["pair_id"].to_pylist(), pairs["prompt"].to_pylist(), strict=True))
    chosen = frame[frame["choice"] != 0.5]
    prompt = chosen["pair_id"].map(prompts).astype(str)
    left = prompt + "\x1f" + chosen["image_0"].astype(str)
    right = prompt + "\x1f" + chosen["image_1"].astype(str)
    won = np.where(chosen["choice"] == 1, left, right)
    return pd.DataFrame({"worker": chosen["worker"], "left": left, "right": right, "label": won})


def _judged(
    pairs: pa.Table,
    frame: pd.DataFrame,
    skene: pd.DataFrame,
    glad: pd.DataFrame,
    strength: "pd.Series[float]",
) -> pa.Table:
    wanted = ["pair_id", "comparison_id", "image_0", "image_1", "prompt", "label"]
    judged = pairs.select(wanted).to_pandas().sort_values("pair_id")
    judged = judged[judged["comparison_id"].isin(frame["task"])]
    label = judged["label"].to_numpy(float)
    turned = judged["image_0"].astype(str) > judged["image_1"].astype(str)
    side = np.where(turned, 1 - label, label)
    decided = (label == 0) | (label == 1)
    named = np.where(side == 1, "first", "second")
    columns = []
    for probability in (skene, glad):
        known = probability.reindex(columns=["first", "second", "tie"]).fillna(0.0)
        mine = known.reindex(judged["comparison_id"]).to_numpy()
        given = mine[np.arange(len(mine)), np.where(named == "first", 0, 1)]
        columns.append(np.where(decided, 1 - given, np.nan))
    prompt = judged["prompt"].astype(str) + "\x1f"
    keys = [prompt + judged[f"image_{slot}"].astype(str) for slot in (0, 1)]
    ends = [np.clip(strength.reindex(key).to_numpy(float), 1e-9, 1 - 1e-9) for key in keys]
    gap = np.log(ends[0] / (1 - ends[0])) - np.log(ends[1] / (1 - ends[1]))
    against = 1 / (1 + np.exp(np.where(label == 1, gap, -gap)))
    voters = frame.groupby("task")["worker"].nunique()
    count = voters.reindex(judged["comparison_id"]).to_numpy().astype(np.int32)
    ids = judged["pair_id"].to_numpy(str)
    return as_table(OVERLAP, [ids, count, *columns, np.where(decided, against, np.nan)])


def _voters(
    frame: pd.DataFrame,
    errors: pd.DataFrame,
    abilities: "pd.Series[float]",
    skills: "pd.Series[float]",
) -> pa.Table:
    count = frame.groupby("worker").size()
    names = count.index
    right = errors.reset_index().melt(id_vars=["worker", "label"], var_name="true")
    diagonal = right[right["label"] == right["true"]].groupby("worker")["value"].mean()
    return pa.table(
        {
            "annotator": pa.array(names.to_numpy(str).tolist(), pa.string()),
            "votes": pa.array(count.to_numpy()),
            "dawid_skene": pa.array(diagonal.reindex(names).to_numpy(float), from_pandas=True),
            "glad": pa.array(abilities.reindex(names).to_numpy(float), from_pandas=True),
            "noisy_bradley_terry": pa.array(
                skills.reindex(names).to_numpy(float), from_pandas=True
            ),
        }
    )


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
                "Dawid and Skene 1979, by crowd-kit",
            ),
            _score(
                "glad",
                "1 - P(label | votes), an ability per voter and a difficulty per comparison",
                "a better voter is better on every comparison",
                "Whitehill et al. 2009, by crowd-kit",
            ),
            _score(
                "noisy_bradley_terry",
                "1 - P(winner beats loser), strengths of images, skill and left bias of voters",
                "one order of a prompt's images holds for all voters",
                "noisy Bradley-Terry, by crowd-kit",
            ),
        ),
    ),
)
