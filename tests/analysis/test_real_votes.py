"""The statistics on real people's votes. The data is not part of the project; where it is absent
the tests say so (OUTVOTED_SHARED_DATA names its folder)."""

import csv
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from analysis.detectors.agreement import agreement
from analysis.detectors.annotators import annotators, overlap
from analysis.detectors.consistency import consistency
from analysis.detectors.data_defects import FLAT, defects, look, looks_table
from analysis.evaluate_detectors import natural_minority
from analysis.trajectory import numbers
from tests.benchmarks.natural_minority import likert as tifa_votes
from toolkit.image_files import decode

DATA = Path(
    os.environ.get("OUTVOTED_SHARED_DATA") or Path(__file__).parents[2].parent / "shared" / "data"
)
TIFA = DATA / "tifa160-likert" / "tifa160-likert-anns.csv"
AGIQA = DATA / "agiqa3k"

needs_tifa = pytest.mark.skipif(not TIFA.exists(), reason=f"no votes at {TIFA}")
needs_agiqa = pytest.mark.skipif(not AGIQA.exists(), reason=f"AGIQA-3K is not at {AGIQA}")


@pytest.fixture(scope="module")
def likert():
    return tifa_votes(TIFA)


@needs_tifa
def test_five_workers_tie_on_two_pairs_in_five_and_agree_in_part(likert):
    pairs, votes = likert
    assert pairs.num_rows == 1600
    habits = annotators(pairs, votes)
    assert habits.num_rows == 5
    count = numbers(habits["votes"])
    ties = (numbers(habits["tie_rate"]) * count).sum() / count.sum()
    assert 0.40 < ties < 0.48
    agree = numbers(habits["agreement"])
    assert ((agree > 0.75) & (agree < 1)).all()


@needs_tifa
def test_alpha_and_dawid_skene_of_real_votes(likert):
    pairs, votes = likert
    found = overlap(pairs, votes)
    assert found.comparisons == 1600
    assert 0.2 < found.alpha < 0.8
    label = dict(zip(pairs["pair_id"].to_pylist(), pairs["label"].to_pylist(), strict=True))
    against = {
        row["pair_id"]: row["dawid_skene"]
        for row in found.pairs.to_pylist()
        if label[row["pair_id"]] in (0, 1)
    }
    # The label is the workers' own majority: their model rarely gives the other image more than
    # half, and where it doubts, votes or ties stood against it.
    assert np.mean([value > 0.5 for value in against.values()]) < 0.5
    extra = votes.rename_columns(["pair_id", "annotator", "choice"])
    share = {r["pair_id"]: r["against_share"] for r in agreement(pairs, extra).to_pylist()}
    doubted = [share[p] for p, v in against.items() if v > 0.5]
    trusted = [share[p] for p, v in against.items() if v <= 0.1]
    assert np.mean(doubted) > np.mean(trusted)


@needs_tifa
def test_workers_majorities_hold_few_cycles(likert):
    pairs, _ = likert
    table = consistency(pairs)
    cyclic = numbers(table["cyclic"])
    known = cyclic[~np.isnan(cyclic)]
    assert len(known) > 500
    # Three labels at random close a circle one time in four.
    assert known.mean() < 0.1


@needs_tifa
def test_labels_that_people_outvoted_are_found_by_the_other_labels_of_the_prompt(likert):
    pairs, votes = likert
    result = natural_minority(pairs, votes, seen=1, draws=2)
    auroc = {row.name: row.auroc for row in result.detections}
    assert auroc["ranking_residual"].low > 0.8
    assert auroc["outvoted"].low > 0.6
    assert 0.03 < result.detections[0].base_rate < 0.15


def agiqa_rows():
    with (AGIQA / "ratings.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@needs_agiqa
def test_flat_pictures_and_one_picture_under_two_prompts_are_found_untold():
    rows = agiqa_rows()
    by_prompt: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt"], []).append(row)
    looks, pairs = {}, []
    for prompt, mine in by_prompt.items():
        for one, other in zip(mine[::1], mine[1:] + mine[:1], strict=True):
            pairs.append((f"{one['name']} {other['name']}", prompt, one["name"], other["name"]))
    for row in rows:
        data = (AGIQA / "images" / row["name"]).read_bytes()
        looks[row["name"]] = look(decode(data))
    names = ("pair_id", "prompt", "image_0", "image_1")
    table = defects(
        pa.table(dict(zip(names, zip(*pairs, strict=True), strict=True))), looks_table(looks)
    )
    flat = {name for name, seen in looks.items() if seen.spread < FLAT}
    assert 5 <= len(flat) <= 30
    for name in flat:  # told by an independent look at the pixels
        pixels = np.asarray(decode((AGIQA / "images" / name).read_bytes()).image, float)
        away = np.abs(pixels - np.median(pixels, axis=(0, 1))).max(axis=2)
        assert (away < 30).mean() > 0.97, name
    content: dict[str, set[str]] = {}
    for row in rows:
        content.setdefault(looks[row["name"]].content, set()).add(row["prompt"])
    twice = [prompts for prompts in content.values() if len(prompts) > 1]
    assert len(twice) >= 2
    assert max(len(prompts) for prompts in twice) == 3
    found = sum((value or 0) > 0 for value in table["elsewhere"].to_pylist())
    assert found >= 2 * len(twice)
    assert sum(table["image_defect"].to_pylist()) < 0.1 * table.num_rows


@needs_agiqa
def test_quality_and_alignment_are_two_axes_that_conflict():
    by_prompt: dict[str, list[dict[str, str]]] = {}
    for row in agiqa_rows():
        by_prompt.setdefault(row["prompt"], []).append(row)
    labels, extra = [], []
    for mine in by_prompt.values():
        for one, other in combinations(mine, 2):
            pair_id = f"{one['name']} {other['name']}"
            gaps = {k: float(one[k]) - float(other[k]) for k in ("mos_align", "mos_quality")}
            labels.append((pair_id, float(gaps["mos_align"] > 0)))
            extra.append((pair_id, "quality", float(gaps["mos_quality"] > 0)))
    table = agreement(
        pa.table(dict(zip(("pair_id", "label"), zip(*labels, strict=True), strict=True))),
        pa.table(
            dict(zip(("pair_id", "annotator", "choice"), zip(*extra, strict=True), strict=True))
        ),
    )
    share = table["pattern"].to_pylist().count("all against") / table.num_rows
    assert 0.15 < share < 0.25
