"""Dataset cartography of preference pairs: the label's probability from visit to visit.

Source: Swayamdipta et al. 2020, "Dataset Cartography" (EMNLP), Eq. 1 and 2; forgetting: Toneva et
al. 2019. Their confidence is the mean probability of the label, so it means the opposite of ours
and is named `cartography_confidence`.

Its jsonl files come in and go out. Training dynamics are one file an epoch,
`dynamics_epoch_K.jsonl`, a line an example: {"guid": ..., "logits_epoch_K": [first, second],
"gold": 0 or 1}. Here an epoch is a visit, the first logit is image_0's, the second image_1's, and
gold is the label's choice. Metrics are lines of guid, index, threshold_closeness, confidence,
variability, correctness and forgetfulness, as the code of the paper writes them.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from analysis.detectors.detector import Detector, Score, scored_table
from analysis.pair_stats import Digest, Memory, digest
from analysis.trajectory import Floats, Ints, Trajectory, load, numbers
from toolkit.errors import InputError
from toolkit.files.atomic import write_text_whole
from toolkit.recorder import rows
from toolkit.schema import SPAN, WHOLE_RUN, column

FORGETTING = column(
    "forgetting",
    pa.float64(),
    "times the policy turned from agreeing to disagreeing with the label between visits, over the "
    "whole run; the number of visits for a pair it never agreed with; null below two visits",
)


def cartography(digest: Digest, window: str) -> pa.Table:
    """Columns pair_id, visits, cartography_confidence, variability, correctness, aleatoric in a
    window; and forgetting, over the whole run.

    p = sigmoid(beta ell) is the probability the policy gives the label at a visit.
    """
    p, square = (digest.tallies[name].mean(window) for name in ("p", "square"))
    table = scored_table(
        digest,
        window,
        {
            "cartography_confidence": (p, "mean p, 0 to 1, LOW = suspicious"),
            "variability": (spread(p, square), "standard deviation of p over visits, 0 to .5"),
            "correctness": (
                digest.tallies["correct"].mean(window),
                "share of visits with p > .5, LOW = suspicious",
            ),
            "aleatoric": (
                p - square,
                "mean of p (1 - p), 0 to .25, high = ambiguous to the model (Data-IQ)",
            ),
        },
    )
    field = FORGETTING.with_metadata({**FORGETTING.metadata, SPAN: WHOLE_RUN})
    visited = digest.visited
    events = forgetting_events(digest.memory, digest.counted("all"), digest.sign)[visited]
    return table.append_column(field, pa.array(events, from_pandas=True))


def spread(mean: Floats, square: Floats) -> Floats:
    """Standard deviation from a mean and a mean square."""
    return np.sqrt(np.maximum(square - mean**2, 0))


def forgetting_events(memory: Memory, visits: Ints, sign: Floats) -> Floats:
    """(P,) forgetting events over `visits`; NaN below two of them or without a `sign`."""
    events = np.where(memory.learned, memory.forgotten, visits).astype(np.float64)
    return np.where((visits < 2) | np.isnan(sign), np.nan, events)


def area_under_margin(digest: Digest, window: str) -> pa.Table:
    """Columns pair_id, visits, area_under_margin, in a window.

    Pleiss et al. 2020, "Identifying Mislabeled Data using the Area Under the Margin Ranking",
    Eq. 2: with two classes the margin is the label's logit less the other's, z.
    """
    meaning = "mean over visits of z = beta ell, the label's logit margin; LOW = suspicious"
    margin = digest.tallies["z"].mean(window)
    return scored_table(digest, window, {"area_under_margin": (margin, meaning)})


_FILE = re.compile(r"dynamics_epoch_(\d+)\.jsonl")


def write_dynamics(
    chunks: Iterable[Trajectory],
    folder: str | Path,
    *,
    beta: float,
    rename: Callable[[Iterable[str]], list[str]] = list,
) -> list[Path]:
    """Write a run's visits as training dynamics; the files by epoch. Probes are left out.

    The two logits are +-z/2 with z = beta times the policy's ell by slot, so that their softmax
    is the probability that training saw. Lines are appended chunk by chunk; a pair without a
    label has none. `rename` gives pairs the names they have in the files.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    written: dict[int, Path] = {}
    for chunk in chunks:
        use = np.flatnonzero(chunk.train & ~np.isnan(chunk.sign))
        for epoch in np.unique(chunk.visit[use]).tolist():
            mine = use[chunk.visit[use] == epoch]
            path = place / f"dynamics_epoch_{epoch}.jsonl"
            with path.open("a" if epoch in written else "w", encoding="utf-8") as lines:
                names = rename(chunk.pair_ids[chunk.pair[mine]].tolist())
                lines.writelines(_lines(chunk, mine, epoch, beta, names))
            written[epoch] = path
    return [written[epoch] for epoch in sorted(written)]


def _lines(
    chunk: Trajectory, mine: np.ndarray, epoch: int, beta: float, names: list[str]
) -> list[str]:
    half = (beta * chunk.difference[0, mine] / 2).astype(float)
    gold = np.where(chunk.sign[mine] > 0, 0, 1)
    return [
        json.dumps({"guid": name, f"logits_epoch_{epoch}": [z, -z], "gold": int(label)}) + "\n"
        for name, z, label in zip(names, half.tolist(), gold, strict=True)
    ]


def read_dynamics(folder: str | Path) -> Trajectory:
    """Training dynamics of a two-class task as a trajectory with beta 1: a step an epoch.

    Everything is held in memory. InputError where there is no such file or a line does not fit.
    """
    files = sorted(
        (int(name[1]), path)
        for path in Path(folder).glob("dynamics_epoch_*.jsonl")
        if (name := _FILE.fullmatch(path.name))
    )
    if not files:
        raise InputError(
            f"{folder} holds no file dynamics_epoch_0.jsonl or the like; name the folder of the "
            "training dynamics."
        )
    tables = [_read(path, epoch) for epoch, path in files]
    table = pa.concat_tables(tables)
    table = table.append_column("known", pa.array(np.ones(table.num_rows, bool)))
    return load(table, ["policy"])


def _read(path: Path, epoch: int) -> pa.Table:
    ids, gaps, labels = [], [], []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                logits, gold = row[f"logits_epoch_{epoch}"], row["gold"]
                ids.append(str(row["guid"]))
            except (ValueError, KeyError, TypeError) as problem:
                raise InputError(
                    f"{path}, line {number} cannot be read as training dynamics ({problem!r}); it "
                    f'reads {{"guid": ..., "logits_epoch_{epoch}": [a, b], "gold": 0}}.'
                ) from problem
            if len(logits) != 2 or gold not in (0, 1):
                raise InputError(
                    f"{path}, line {number} has {len(logits)} logits and gold {gold!r}; a pair has "
                    "two logits, and gold is 0 or 1."
                )
            gaps.append(float(logits[0]) - float(logits[1]))
            labels.append(1.0 - gold)
    zero, gap = np.zeros(len(ids), np.float32), np.array(gaps, np.float32)
    table = rows(
        pair_id=ids, visit=epoch, draw=epoch, step=epoch, micro=epoch, err_ref_0=zero,
        err_ref_1=zero, err_0=-gap[None], err_1=zero[None],
    )  # fmt: skip
    return table.append_column("set_label", pa.array(labels, pa.float32()))


def dynamics_metrics(read: Trajectory) -> pa.Table:
    """Cartography's columns of training dynamics, one row an example (`cartography`)."""
    return cartography(digest([read], {}, beta=1.0), "all")


def write_metrics(table: pa.Table, path: str | Path) -> Path:
    """A cartography table as the lines that cartography's own plots and filters read.

    A pair without a score has no line.
    """
    names = ("cartography_confidence", "variability", "correctness", "forgetting")
    columns = [numbers(table[name]) for name in names]
    lines = []
    for index, (guid, p, spread, correct, lost) in enumerate(
        zip(table["pair_id"].to_pylist(), *columns, strict=True)
    ):
        if np.isnan(p):
            continue
        row = {
            "guid": guid,
            "index": index,
            "threshold_closeness": p * (1 - p),
            "confidence": p,
            "variability": spread,
            "correctness": correct,
            "forgetfulness": None if np.isnan(lost) else lost,
        }
        lines.append(json.dumps(row) + "\n")
    return write_text_whole(Path(path), "".join(lines))


_PAPER = "Swayamdipta et al. 2020, arXiv 2009.10795, Eq. 1 and 2"
_ASSUMPTION = (
    "beta ell is a logit of fair size: where |beta ell| is tiny p stays at .5, where it is huge p "
    "is 0 or 1 by the noise of one draw"
)

DETECTORS = (
    Detector(
        finding="cartography",
        compute=lambda evidence, window: cartography(evidence.digest, window),
        needs=("trajectory", "labels"),
        scores=(
            Score(
                "cartography_confidence", "cartography_confidence", "low",
                "mean over visits of p", _ASSUMPTION, _PAPER,
            ),
            Score(
                "variability", "variability", "high", "standard deviation over visits of p",
                _ASSUMPTION + "; high means ambiguous, so it ranks wrong labels only where the "
                "model is torn about them", _PAPER,
            ),
            Score(
                "correctness", "correctness", "low", "share of visits with p > .5",
                "visits are many: with n of them the score has n + 1 values", _PAPER,
            ),
            Score(
                "aleatoric", "aleatoric", "high", "mean over visits of p (1 - p)",
                _ASSUMPTION + "; high means that the model finds the pair ambiguous, not that its "
                "label is wrong: a wrong label that is steadily rejected scores low",
                "Seedat et al. 2022, Data-IQ, arXiv 2210.13043, Eq. 2",
            ),
            Score(
                "forgetting", "forgetting", "high",
                "transitions from p > .5 to p < .5 between successive visits",
                "a pair is met often, and single draws are not so noisy that every pair is "
                "forgotten", "Toneva et al. 2019, arXiv 1812.05159", whole_run=True,
            ),
        ),
        windows=True,
    ),
    Detector(
        finding="area_under_margin",
        compute=lambda evidence, window: area_under_margin(evidence.digest, window),
        needs=("trajectory", "labels"),
        scores=(
            Score(
                "area_under_margin", "area_under_margin", "low",
                "mean over visits of z = beta ell",
                "visits at all timesteps weigh by the size ell has there",
                "Pleiss et al. 2020, arXiv 2001.10528, Eq. 2",
            ),
        ),
        windows=True,
    ),
)  # fmt: skip
