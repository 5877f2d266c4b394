"""How much of the planted comes back: the detectors on the standard world, several seeds.

    python -m tests.benchmarks.detection WORK train --setting flip20 --seed 0
    python -m tests.benchmarks.detection WORK judge
    python -m tests.benchmarks.detection WORK page

Every step is resumable, and what is there already is not made again. `train` draws the world,
plants flips and trains VISITS visits a pair with a checkpoint at each of CUTS; for PROBED settings
it then measures every pair under fixed draws at these checkpoints. `judge` cuts a run off after
each of CUTS visits (the learning rate is constant, so the rows are those of a run stopped there)
and holds every detector against the flips. `page` writes results/detection.md.
"""

import argparse
import json
import platform
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit.files.atomic import write_part, write_text_whole
from toolkit.labels.flips import plant_flips
from toolkit.miniworld.dataset import ingest_world, oracle_scores, truth_of
from toolkit.store import Store, open_or_create
from toolkit.store.label_sets import label_sets
from toolkit.store.runs import run_about, write_findings

PAIRS, BATCH, VISITS = 2000, 40, 8
A_VISIT = PAIRS // BATCH
CUTS = (1, 2, 4, 8)
DRAWS, MORE_DRAWS = 4, 8
"""Of the probe at every cut, and of a second one, under other draws, at the last."""
SETTINGS = {
    "flip10": (0.1, False),
    "flip20": (0.2, False),
    "flip30": (0.3, False),
    "close20": (0.2, True),
}
"""Name -> share of flips, and whether they fall mostly on pairs whose true rewards are close."""
PROBED = ("flip20",)
SEEDS = (0, 1, 2)
ORACLE = "oracle"
SHOWN = (
    "minority_running",
    "minority_history",
    "minority_released",
    "minority_paper",
    "trajectory_ell",
)
RESULT = Path(__file__).parent / "results" / "detection.md"
RECIPE = Path("training/recipes/miniworld.yaml")


def run_name(setting: str, seed: int) -> str:
    return f"{setting}-seed{seed}"


def world(work: Path, setting: str, seed: int) -> Store:
    """The drawn pairs of a seed, with the setting's flips."""
    store = open_or_create(work / f"seed{seed}" / "store")
    truth = work / f"seed{seed}" / "truth.parquet"
    if not truth.exists():
        ingest_world(store, truth, pairs=PAIRS, seed=seed)
    if setting not in label_sets(store):
        rate, close = SETTINGS[setting]
        if close:
            table = truth_of(store, truth)
            finding = table.select(["pair_id", "reward_gap"])
            write_findings(store, "truth", "truth", finding, {"source": "the world's truth table"})
            where = {"by_gap": "reward_gap", "run": "truth", "finding": "truth"}
            plant_flips(store, setting, rate=rate, seed=seed, **where)
        else:
            plant_flips(store, setting, rate=rate, seed=seed)
    return store


def train(work: Path, setting: str, seed: int) -> None:
    """Train a cell, or go on with it, then probe it where the setting asks for that."""
    import torch
    import yaml

    from training.probe import probe_run
    from training.recipe import parse_recipe
    from training.trainer import resume
    from training.trainer import train as run_training

    torch.set_num_threads(1)
    store, name = world(work, setting, seed), run_name(setting, seed)
    began = time.perf_counter()
    if not (store.run(name) / "run.json").exists():
        raw = yaml.safe_load(RECIPE.read_text(encoding="utf-8")) | {
            "store": str(store.root),
            "run": name,
            "seed": seed,
            "labels": setting,
            "steps": VISITS * A_VISIT,
            "batch_size": BATCH,
            "checkpoint_every": A_VISIT,
            "verdicts": False,
        }
        run_training(parse_recipe(raw, f"The cell {name}"))
    elif not run_about(store, name).get("finished"):
        resume(store, name)
    print(f"{name}: trained, {time.perf_counter() - began:.0f} s", flush=True)
    if setting in PROBED:
        for cut in CUTS:
            probe_run(store, name, draws=DRAWS, step=cut * A_VISIT)
        probe_run(store, name, draws=MORE_DRAWS, step=CUTS[-1] * A_VISIT, seed=1)
        print(f"{name}: probed, {time.perf_counter() - began:.0f} s", flush=True)


def cut_off(store: Store, run: str, visits: int, probed: bool) -> str:
    """A run beside `run` that holds its rows of the first visits, and, if asked, its probe then."""
    name = f"{run}-{visits}" + ("-probed" if probed else "")
    shutil.rmtree(store.run(name), ignore_errors=True)
    shutil.rmtree(store.findings(name), ignore_errors=True)
    end = visits * A_VISIT
    for part in sorted(store.run(run).glob("trajectory/rank-*/part-*.parquet")):
        table = pq.read_table(part)
        mine = pc.and_(pc.equal(table["kind"], "train"), pc.less(table["step"], end))
        if probed:
            then = pc.and_(pc.equal(table["kind"], "probe"), pc.equal(table["step"], end))
            mine = pc.or_(mine, then)
        kept = table.filter(mine)
        if kept.num_rows:
            write_part(store.run(name) / "trajectory" / part.parent.name, kept)
    about = json.loads((store.run(run) / "run.json").read_text(encoding="utf-8"))
    write_text_whole(store.run(name) / "run.json", json.dumps(about | {"run": name}))
    return name


def judge(work: Path, setting: str, seed: int) -> None:
    """What each detector reaches after each cut, into WORK/cells: scores over the late visits,
    or, where the cut has a probe, over both."""
    from analysis.run_analysis import analyze_run

    store, run = world(work, setting, seed), run_name(setting, seed)
    if run not in store.runs() or not run_about(store, run).get("finished"):
        return
    oracle = oracle_scores(store, work / f"seed{seed}" / "truth.parquet", setting)
    for cut in CUTS if setting in PROBED else CUTS[-1:]:
        for probed in (False, True) if setting in PROBED else (False,):
            file = cell_file(work, setting, seed, cut, probed)
            if file.exists():
                continue
            found = analyze_run(
                store,
                cut_off(store, run, cut, probed),
                window="both" if probed else "late",
                open_images=False,
                extra_detectors={ORACLE: oracle},
            )
            write_text_whole(file, json.dumps([row.as_dict() for row in found.detections]))
            print(f"{file.stem}: judged", flush=True)


def cell_file(work: Path, setting: str, seed: int, cut: int, probed: bool) -> Path:
    name = f"{run_name(setting, seed)}-{cut}{'-probed' if probed else ''}.json"
    return work / "cells" / name


@dataclass(frozen=True)
class Cell:
    """What every detector reached in one run after one cut."""

    rows: dict[str, dict[str, Any]]

    def share(self, name: str) -> float | None:
        """(AUROC - .5) / (oracle's - .5)."""
        found, oracle = (self.auroc(n)["value"] for n in (name, ORACLE))
        return None if found is None else (found - 0.5) / (oracle - 0.5)

    def auroc(self, name: str) -> dict[str, Any]:
        return dict(self.rows[name]["auroc"]) if name in self.rows else {"value": None}

    def deciles(self, name: str) -> list[float]:
        return [row["share"] for row in self.rows[name]["deciles"]]


def cells(work: Path, setting: str, cut: int = CUTS[-1], probed: bool = False) -> list[Cell]:
    """Of the seeds that are there."""
    files = [cell_file(work, setting, seed, cut, probed) for seed in SEEDS]
    found = [json.loads(f.read_text(encoding="utf-8")) for f in files if f.exists()]
    return [Cell({row["name"]: row for row in rows}) for rows in found]


def best(found: list[Cell]) -> str:
    """The detector of the highest mean share over the seeds; never the oracle."""
    names = set.intersection(*(set(cell.rows) for cell in found)) - {ORACLE}
    whole = [n for n in sorted(names) if all(cell.share(n) is not None for cell in found)]
    return max(whole, key=lambda n: mean(_shares(found, n)))


def _shares(found: list[Cell], name: str) -> list[float]:
    return [share for cell in found if (share := cell.share(name)) is not None]


def _shown(found: list[Cell], name: str) -> str:
    shares = _shares(found, name)
    if not shares:
        return "-"
    return f"{mean(shares):.2f} ({', '.join(f'{share:.2f}' for share in shares)})"


def page(work: Path) -> str:
    """The results as Markdown; a dash for what was not run."""
    lines = [
        "# Planted flips on the standard world, found again",
        "",
        "    python -m tests.benchmarks.detection WORK train|judge|page",
        "",
        f"{PAIRS:,} pairs, {VISITS} visits each in batches of {BATCH}, recipe miniworld.yaml "
        "(Adaptive-DPO under `history`, two footprints), on two CPU cores. A figure is a share of "
        "what the oracle, the true reward gap, has above chance: (AUROC - .5) / (oracle's - .5), "
        "the mean over seeds and in brackets every seed. `best` is the detector of the highest "
        "mean over the seeds of its own line, some 40 being tried, which flatters it a little. "
        "Scores are over late visits; `with a probe` pools them with the fixed draws measured at "
        f"the cut ({DRAWS}; {DRAWS + MORE_DRAWS} after {CUTS[-1]} visits).",
        "",
        "| flips | visits | seeds | oracle AUROC | u, running | u, history | u, released "
        "| u, paper | trajectory_ell | best |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for setting in SETTINGS:
        for cut in CUTS:
            for probed in (False, True):
                found = cells(work, setting, cut, probed)
                if not found:
                    continue
                oracle = mean(cell.auroc(ORACLE)["value"] for cell in found)
                named = [_shown(found, name) for name in SHOWN]
                first = best(found)
                lines.append(
                    f"| {setting} | {cut}{' with a probe' if probed else ''} | {len(found)} | "
                    f"{oracle:.3f} | {' | '.join(named)} | {first} {_shown(found, first)} |"
                )
    lines += ["", *_curves(work), "", *_intervals(work), "", _made_with(), ""]
    return "\n".join(lines)


def _curves(work: Path) -> list[str]:
    """Share of flips by tenths of a score, seeds pooled by their mean."""
    lines = [
        f"Share of flips by tenths of the score after {CUTS[-1]} visits, mean over seeds; last, "
        "how many times the base rate the highest tenth holds:",
        "",
        "| flips | score | " + " | ".join(str(k) for k in range(1, 11)) + " | x base |",
        "|---" * 13 + "|",
    ]
    for setting, (rate, _) in SETTINGS.items():
        for probed in (False, True):
            found = cells(work, setting, CUTS[-1], probed)
            for name in dict.fromkeys((*SHOWN[:2], best(found))) if found else ():
                curve = np.mean([cell.deciles(name) for cell in found], axis=0)
                shares = " | ".join(f"{share:.2f}" for share in curve)
                said = f"{name}{', with a probe' if probed else ''}"
                lines.append(f"| {setting} | {said} | {shares} | {curve[-1] / rate:.1f} |")
    return lines


def _intervals(work: Path) -> list[str]:
    """AUROC with its interval, seed by seed, where the targets are set."""
    lines = ["AUROC at flip20, 95 % intervals (bootstrap over prompts):", ""]
    for probed in (False, True):
        found = cells(work, "flip20", CUTS[-1], probed)
        for name in dict.fromkeys((*SHOWN, best(found), ORACLE)) if found else ():
            each = [cell.auroc(name) for cell in found]
            said = "; ".join(f"{a['value']:.3f} ({a['low']:.3f}-{a['high']:.3f})" for a in each)
            lines.append(f"- {name}{', with a probe' if probed else ''}: {said}")
    return lines


def _made_with() -> str:
    packages = ", ".join(f"{n} {version(n)}" for n in ("torch", "diffusers", "numpy", "polars"))
    return f"Python {platform.python_version()}, {packages}, {platform.machine()}."


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.detection")
    parser.add_argument("work", type=Path)
    parser.add_argument("what", choices=["train", "judge", "page"])
    parser.add_argument("--setting", choices=list(SETTINGS), action="append")
    parser.add_argument("--seed", type=int, action="append")
    asked = parser.parse_args()
    if asked.what == "page":
        write_text_whole(RESULT, page(asked.work))
        return
    for setting in asked.setting or SETTINGS:
        for seed in asked.seed if asked.seed is not None else SEEDS:
            (train if asked.what == "train" else judge)(asked.work, setting, seed)


if __name__ == "__main__":
    main()
