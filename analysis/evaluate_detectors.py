"""Evaluate detectors on known flips; calibrate scores to probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analysis.detectors import run_detectors
from analysis.detectors import scores as all_scores
from analysis.detectors.detector import Evidence
from analysis.ranking_metrics import Detection, Flags, Groups, coded, measure_all
from analysis.trajectory import Floats, Ints, as_table, numbers
from toolkit.errors import InputError
from toolkit.labels.majority import read_rows
from toolkit.preference import is_decided, lean
from toolkit.schema import column
from toolkit.store import Store
from toolkit.store.pseudonyms import own_ids

ExtraDetectors = Mapping[str, Mapping[str, float]]
"""Detector's name -> pair_id -> score, high = suspicious; a pair left out has no score."""

RESAMPLES = 500
BASELINE = "trajectory_ell"
"""The detector that others are compared with, pair by pair."""
SEED = 0
TOO_GOOD = 0.85
"""An AUROC that on people's labels is a leak until shown otherwise."""

SIMULATED = "miniworld"

CALIBRATED = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("score", pa.float64(), "the detector's score, high = suspicious"),
        column(
            "probability",
            pa.float64(),
            "share of planted flips to expect at this score, by pairs of other prompts (isotonic)",
        ),
    ]
)


def suspicions(
    tables: Mapping[str, pa.Table],
    pair_ids: npt.NDArray[np.str_],
    *,
    windows: bool = False,
    only: Sequence[str] | None = None,
) -> dict[str, Floats]:
    """Score's name -> (P,) score of each pair, high = suspicious, NaN for none.

    `tables`: finding's name -> table keyed by pair_id. `windows`: only scores that have windows;
    `only`: those of these names.
    """
    places: dict[str, tuple[Ints, Ints]] = {}
    suspicion = {}
    for name, (detector, score) in all_scores().items():
        table = tables.get(detector.finding)
        if table is None or score.column not in table.column_names:
            continue
        if only is not None and name not in only:
            continue
        if windows and (score.whole_run or not detector.windows):
            continue
        if detector.finding not in places:
            places[detector.finding] = _places(table["pair_id"], pair_ids)
        rows, here = places[detector.finding]
        values = np.full(len(pair_ids), np.nan)
        values[here] = score.suspicion(numbers(table[score.column]))[rows]
        suspicion[name] = values
    return suspicion


def _places(ids: pa.ChunkedArray, pair_ids: npt.NDArray[np.str_]) -> tuple[Ints, Ints]:
    """Rows of a table whose pair is among the sorted ids, and its position there."""
    names = np.asarray(ids.to_pylist(), np.str_)
    place = np.minimum(np.searchsorted(pair_ids, names), max(0, len(pair_ids) - 1))
    rows = np.flatnonzero(pair_ids[place] == names) if len(pair_ids) else place[:0]
    return rows, place[rows]


def detections_of(
    tables: Mapping[str, pa.Table],
    extra: ExtraDetectors,
    flipped: Flags | None,
    pairs: pa.Table,
    *,
    others: Mapping[str, Mapping[str, pa.Table]] | None = None,
) -> list[Detection]:
    """Every score of every finding, and the caller's, on the pairs whose label states a choice.

    `pairs`: pair_id (sorted), prompt, label; `flipped`: (P,); `others`: window -> tables of that
    window, whose scores are called NAME_WINDOW. A preset that is the run's own repeats its
    figures. InputError where a caller's detector has the name of another.
    """
    if flipped is None:
        return []
    ids = np.asarray(pairs["pair_id"].to_pylist(), np.str_)
    label = numbers(pairs["label"])
    use = is_decided(label)
    scores = suspicions(tables, ids)
    for window, there in (others or {}).items():
        if there is not tables:
            more = suspicions(there, ids, windows=True)
            scores |= {f"{name}_{window}": values for name, values in more.items()}
    twins = _twins(tables)
    same = {
        name: twin for name in scores if (twin := _twin(name, twins)) is not None and twin in scores
    }
    wanted = {name: values for name, values in scores.items() if name not in same}
    for name, given in extra.items():
        if name in scores:
            raise InputError(f"There is a detector {name!r} already; give the other another name.")
        wanted[name] = np.asarray([given.get(pair_id, np.nan) for pair_id in ids], float)
    prompts = np.asarray(pairs["prompt"].to_pylist(), np.str_)[use]
    used = {name: values[use] for name, values in wanted.items()}
    detections = measure_all(
        used, flipped[use], prompts, resamples=RESAMPLES, seed=SEED, baseline=BASELINE
    )
    by_name = {detection.name: detection for detection in detections}
    return detections + [replace(by_name[twin], name=name) for name, twin in same.items()]


def _twins(tables: Mapping[str, pa.Table]) -> list[str]:
    """Findings of presets that are the run's own metric."""
    own = tables.get("minority")
    return [name for name, table in tables.items() if name != "minority" and table is own]


def _twin(name: str, twins: list[str]) -> str | None:
    for finding in twins:
        rest = name.removeprefix(finding)
        if name.startswith(finding) and not rest[:1].isalnum():
            return f"minority{rest}"
    return None


def leak_warning(detections: list[Detection], extra: set[str], sources: set[str]) -> list[str]:
    """A sentence where a detector of ours does better than people's labels allow, else nothing."""
    known = [d for d in detections if d.name not in extra and d.auroc.value is not None]
    best = max(known, key=lambda d: d.auroc.value or 0.0, default=None)
    human = not sources or not all(source.startswith(SIMULATED) for source in sources)
    if best is None or (best.auroc.value or 0.0) <= TOO_GOOD or not human:
        return []
    return [
        f"{best.name} reaches an AUROC of {best.auroc.value:.2f} on labels that are not simulated. "
        f"Above {TOO_GOOD} that is a leak until shown otherwise: ask first how the detector could "
        "have seen the true label."
    ]


@dataclass(frozen=True)
class Calibration:
    """From a score to the probability of being flipped, learned on planted flips."""

    detector: str
    score: list[float]
    """Scores at which the probability changes, ascending; between them it is interpolated."""
    probability: list[float]
    brier: float
    """Mean squared error of the probability on prompts it was not learned from."""
    base_brier: float
    """The same of the base rate alone."""
    error: float
    """Expected calibration error over ten bins of equal count, on such prompts."""


def calibrate(
    detector: str, scores: Floats, flipped: Flags, prompts: Groups, *, folds: int = 5
) -> tuple[Calibration, Floats] | None:
    """Isotonic regression of flips on a detector's score; and each pair's probability, (P,).

    The figures and the probabilities come from folds grouped by prompt, so no pair judges itself;
    the curve from all of them. None where scores, flips or prompts are too few.

    The probability is that of a *planted* flip at the planted rate: a natural error is neither as
    random nor as frequent.
    """
    from sklearn.isotonic import IsotonicRegression
    from sklearn.model_selection import GroupKFold

    known = np.flatnonzero(~np.isnan(scores))
    which, groups = coded(np.asarray(prompts)[known])
    x, y = scores[known], flipped[known].astype(float)
    if groups < folds or not 0 < y.sum() < len(y) or np.ptp(x) == 0:
        return None
    held_out = np.empty(len(x))
    for train, test in GroupKFold(folds).split(x, y, which):
        model = IsotonicRegression(out_of_bounds="clip").fit(x[train], y[train])
        held_out[test] = model.predict(x[test])
    whole = IsotonicRegression(out_of_bounds="clip").fit(x, y)
    probability = np.full(len(scores), np.nan)
    probability[known] = held_out
    return (
        Calibration(
            detector,
            whole.X_thresholds_.tolist(),
            whole.y_thresholds_.tolist(),
            brier=float(np.mean((held_out - y) ** 2)),
            base_brier=float(np.mean((y.mean() - y) ** 2)),
            error=_calibration_error(held_out, y),
        ),
        probability,
    )


def _calibration_error(probability: Floats, flipped: Floats, bins: int = 10) -> float:
    """Mean over bins of equal count of |mean probability - share flipped|, weighted by count."""
    order = np.argsort(probability, kind="stable")
    gaps = [
        abs(float(probability[part].mean() - flipped[part].mean())) * len(part)
        for part in np.array_split(order, bins)
        if len(part)
    ]
    return sum(gaps) / len(order)


def calibrated_table(pairs: pa.Table, scores: Floats, probability: Floats) -> pa.Table:
    """Schema CALIBRATED: each pair's score and the probability that goes with it."""
    ids = np.asarray(pairs["pair_id"].to_pylist(), np.str_)
    return as_table(CALIBRATED, [ids, scores, probability])


RATE = 0.05
"""Share of labels that a self-check flips: enough to measure, few enough to train on."""


def read_flips(path: str | Path, store: Store) -> list[str]:
    """pair_ids known to be flipped, from a Parquet or CSV file with a column pair_id.

    A column `flipped` (true, 1 or yes) says which rows count where there is one; else all do.
    InputError where the file cannot be read, has no pair_id, or names no pair of the store, by its
    id in the store or in an export.
    """
    rows = read_rows(path, "pair_id")
    chosen = [
        str(row["pair_id"])
        for row in rows
        if str(row.get("flipped", True)).strip().lower() in ("true", "1", "1.0", "yes")
    ]
    inside = sorted(set(own_ids(store, chosen).values()))
    if not inside:
        raise InputError(
            f"{path} names {len(chosen):,} flipped pairs, none of which is in this store; its "
            "column pair_id must contain ids of the store or of its exports."
        )
    return inside


@dataclass(frozen=True)
class NaturalMinority:
    """Detectors on labels that people themselves outvoted."""

    detections: list[Detection]
    pairs: int
    """Pairs that have a label and a majority of hidden votes, over all draws."""
    seen: int
    """Votes a pair that detectors saw besides the label's own."""
    draws: int


def natural_minority(
    facts: pa.Table, votes: pa.Table, extra_votes: pa.Table | None = None, *, seen: int = 1,
    draws: int = 5, seed: int = SEED,
) -> NaturalMinority:  # fmt: skip
    """Take one vote of each pair as its label, and compare detectors with the majority of others.

    Of each pair's votes for an image one is drawn as the label and `seen` more are shown to the
    detectors; the majority of the hidden rest says whether the label is a minority's. Pairs whose
    rest is even, or has fewer than two votes, are left out. Repeated `draws` times; intervals
    resample prompts.

    `facts`: `pair_facts`; `votes`: pair_id, annotator, choice. InputError where no pair has enough
    votes.
    """
    ids = np.asarray(facts["pair_id"].to_pylist(), np.str_)
    place = pc.index_in(votes["pair_id"], value_set=facts["pair_id"].combine_chunks())
    side = lean(numbers(votes["choice"]))
    mine = np.flatnonzero((np.abs(side) == 1) & place.is_valid().to_numpy())
    pair = place.to_numpy()[mine].astype(np.int64)
    counts = np.bincount(pair, minlength=len(ids))
    if not (counts >= seen + 3).any():
        raise InputError(
            f"No pair has {seen + 3} votes for an image (the most is {counts.max(initial=0)}): one "
            f"as its label, {seen} to be seen and two to compare with; lower --seen, or add votes."
        )
    scores: dict[str, list[Floats]] = {}
    minority, prompts, total = [], [], 0
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        order = mine[np.lexsort((rng.random(len(mine)), pair))]
        nth = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        where = np.repeat(np.arange(len(ids)), counts)
        label = np.full(len(ids), np.nan)
        label[where[nth == 0]] = (side[order[nth == 0]] + 1) / 2
        rest = np.bincount(where[nth > seen], side[order[nth > seen]], len(ids))
        use = (rest != 0) & (counts >= seen + 3)
        tables = run_detectors(
            Evidence(
                None,
                _labelled(facts, label),
                votes.take(pa.array(order[nth <= seen])),
                extra_votes,
            ),
            "",
        ).tables
        for name, values in suspicions(tables, ids).items():
            scores.setdefault(name, []).append(values[use])
        minority.append((lean(label) != np.sign(rest))[use])
        prompts.append(np.asarray(facts["prompt"].to_pylist(), np.str_)[use])
        total += int(use.sum())
    known = {name: np.concatenate(values) for name, values in scores.items()}
    known = {name: values for name, values in known.items() if not np.isnan(values).all()}
    flipped, groups = np.concatenate(minority), np.concatenate(prompts)
    detections = measure_all(
        known, flipped, groups, resamples=RESAMPLES, seed=SEED, baseline="ranking_residual"
    )
    return NaturalMinority(detections, total, seen, draws)


def _labelled(facts: pa.Table, label: Floats) -> pa.Table:
    at = facts.column_names.index("label")
    return facts.set_column(at, "label", pa.array(label, from_pandas=True))
