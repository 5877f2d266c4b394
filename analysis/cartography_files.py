"""The jsonl files of dataset cartography, in and out.

Training dynamics are one file an epoch, `dynamics_epoch_K.jsonl`, a line an example:
{"guid": ..., "logits_epoch_K": [first, second], "gold": 0 or 1}. Here an epoch is a visit, the
first logit is image_0's, the second image_1's, and gold is the label's choice. What comes out of
them are lines of guid, index, threshold_closeness, confidence, variability, correctness and
forgetfulness. Source of the format: the cartography code of Swayamdipta et al. 2020.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from analysis.detectors.cartography import cartography
from analysis.pair_stats import digest
from analysis.trajectory import Trajectory, load, numbers
from toolkit.errors import InputError
from toolkit.files.atomic import write_text_whole
from toolkit.recorder import rows

_FILE = re.compile(r"dynamics_epoch_(\d+)\.jsonl")


def write_dynamics(chunks: Iterable[Trajectory], folder: str | Path, *, beta: float) -> list[Path]:
    """Write a run's visits as training dynamics; the files by epoch. Probes are left out.

    The two logits are +-z/2 with z = beta times the policy's ell by slot, so that their softmax
    is the probability that training saw. Lines are appended chunk by chunk; a pair without a
    label has none.
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
                lines.writelines(_lines(chunk, mine, epoch, beta))
            written[epoch] = path
    return [written[epoch] for epoch in sorted(written)]


def _lines(chunk: Trajectory, mine: np.ndarray, epoch: int, beta: float) -> list[str]:
    half = (beta * chunk.difference[0, mine] / 2).astype(float)
    gold = np.where(chunk.sign[mine] > 0, 0, 1)
    names = chunk.pair_ids[chunk.pair[mine]]
    return [
        json.dumps({"guid": str(name), f"logits_epoch_{epoch}": [z, -z], "gold": int(label)}) + "\n"
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
    """Cartography's columns of training dynamics, one row an example (`detectors.cartography`)."""
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
