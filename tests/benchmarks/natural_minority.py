"""Detectors on labels that people outvoted: `python -m tests.benchmarks.natural_minority DATA OUT`.

DATA is the folder with tifa160-likert (five people's 1 to 5 ratings of five models' images of 160
prompts, Apache-2.0); OUT the Markdown file of the figures. No run, no image, no planted flip.
"""

import csv
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa

from analysis.evaluate_detectors import natural_minority
from analysis.ranking_metrics import Interval
from toolkit.ids import make_comparison_id


def likert(path: Path) -> tuple[pa.Table, pa.Table]:
    """Pairs and votes: each worker's higher rating of two models' images of a prompt wins."""
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    ratings: dict[tuple[str, str], dict[str, int]] = {}
    for row in rows:
        key = (row["item_id"], row["worker_id"])
        ratings.setdefault(key, {})[row["t2i_model"]] = int(row["answer"])
    pairs, votes = {}, []
    for (item, worker), given in ratings.items():
        for one, other in combinations(sorted(given), 2):
            pair_id = f"{item} {one} {other}"
            pairs[pair_id] = (item, f"{item}/{one}", f"{item}/{other}")
            votes.append((pair_id, worker, 0.5 + 0.5 * np.sign(given[one] - given[other])))
    cast = pa.table(
        dict(zip(("pair_id", "annotator", "choice"), zip(*votes, strict=True), strict=True))
    )
    sums: dict[str, list[float]] = {}
    for pair_id, _, choice in votes:
        sums.setdefault(pair_id, []).append(choice - 0.5)
    table = pa.table(
        {
            "pair_id": list(pairs),
            "comparison_id": [make_comparison_id(*pair) for pair in pairs.values()],
            "prompt": [pair[0] for pair in pairs.values()],
            "image_0": [pair[1] for pair in pairs.values()],
            "image_1": [pair[2] for pair in pairs.values()],
            "label": pa.array([0.5 + 0.5 * np.sign(sum(sums[p])) for p in pairs], pa.float64()),
            "split": ["train"] * len(pairs),
        }
    )
    return table.sort_by("pair_id"), cast


def _cell(figure: Interval) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def page(pairs: pa.Table, votes: pa.Table) -> str:
    """The figures as Markdown."""
    lines = []
    for seen in (0, 1):
        result = natural_minority(pairs, votes, seen=seen)
        first = max(result.detections, key=lambda row: row.pairs)
        lines += [
            f"**{seen} more vote{'s' * (seen != 1)} seen.** {first.flipped:,} of {first.pairs:,} "
            f"labels are a minority's (base rate {first.base_rate:.1%}), {result.draws} draws.",
            "",
            "| detector | AUROC | AUPRC | precision at count | recall at 5 % FPR |",
            "|---|---|---|---|---|",
        ]
        for row in sorted(result.detections, key=lambda row: -(row.auroc.value or 0)):
            cells = (row.auroc, row.auprc, row.precision_at_planted, row.recall_at_fpr05)
            if row.auroc.value is not None:
                lines.append(f"| {row.name} | {' | '.join(map(_cell, cells))} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    path = data / "tifa160-likert" / "tifa160-likert-anns.csv"
    head = out.read_text(encoding="utf-8").split("**0 more")[0] if out.exists() else ""
    out.write_text(head + page(*likert(path)), encoding="utf-8")
