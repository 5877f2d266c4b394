"""Going on with a killed run: to the bits of the run that was never killed.

Every draw has a key, so a position is an integer; the checkpoint holds the rest. Rows past the
checkpoint are set aside, never deleted, and written again.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit.errors import TrainingError
from toolkit.parts import parts, write_whole
from toolkit.store import Store
from toolkit.store.runs import run_about
from training.checkpoint import newest_state
from training.data import on_disk
from training.monitor import forget_after
from training.recipe import Recipe, load_recipe


def recipe_of(store: Store, run: str, steps: int | None) -> Recipe:
    """The recipe that began a run.

    TrainingError where there is nothing left to do, InputError where the store is not local.
    """
    about = run_about(on_disk(store), run)
    recipe = load_recipe(store.run(run) / "recipe.yaml", store=str(store.root), run=run)
    # Other steps than its recipe's may have been asked for by an attempt before this one.
    planned = about.get("planned_steps", recipe.steps)
    recipe = recipe.model_copy(update={"steps": steps or planned})
    done = about.get("steps", 0) if about.get("finished") else 0
    if done >= recipe.steps:
        raise TrainingError(
            f"Run {run!r} has done its {done} steps; ask for more with --steps, or train under "
            "another --run."
        )
    reached, _ = starting_point(store, run)
    if reached > recipe.steps:
        raise TrainingError(
            f"Run {run!r} has a checkpoint of step {reached} already, beyond the {recipe.steps} "
            f"asked for; ask for {reached + 1} or more with --steps, or train under another --run."
        )
    return recipe


def set_aside(store: Store, run: str, step: int) -> int:
    """Move trajectory rows past the checkpoint of `step` out of the run's; how many they were.

    They go to RUN/set_aside/N/rank-*/; metrics past the step are dropped.
    """
    folder = store.run(run)
    attempt = folder / "set_aside" / str(len(list((folder / "set_aside").glob("*"))))
    moved = 0
    for rank in sorted((folder / "trajectory").glob("rank-*")):
        for part in parts(rank):
            moved += _split(part, attempt / rank.name / part.name, step)
    forget_after(folder, step)
    return moved


def _split(part: Path, aside: Path, step: int) -> int:
    """Leave the rows up to the checkpoint of `step` in a part and put the others aside.

    A probe of `step` was measured before that checkpoint was written, a training row of `step` is
    the first after it.
    """
    table = pq.read_table(part)
    trained = pc.equal(table["kind"], "train")
    late = pc.greater_equal(table["step"], pc.if_else(trained, step, step + 1))
    count = int(pc.sum(late).as_py() or 0)
    if not count:
        return 0
    write_whole(aside, table.filter(late))
    if count == table.num_rows:
        part.unlink()
    else:
        write_whole(part, table.filter(pc.invert(late)))
    return count


def starting_point(store: Store, run: str) -> tuple[int, Path | None]:
    """The step a run can go on from and its checkpoint; (0, None) before the first."""
    found = newest_state(store.run(run))
    return found if found is not None else (0, None)


def check_unchanged(about: dict[str, Any], facts: dict[str, Any]) -> None:
    """TrainingError naming what is no longer as it was when the run began."""
    said = {
        "pairs_content": "its pairs (ids, prompts or images)",
        "labels_content": "the labels of its label set",
        "weights_content": "its stored weights (the finding they come from)",
        "reference": "its reference weights",
        "backbone_content": "its backbone (the UNet's files or its noise schedule)",
        "encoders_content": "its VAE or text encoders",
        "pairs_per_step": "the number of pairs a step (batch size x accumulation x processes)",
        "models": "its models",
    }
    # What an older version did not note down cannot be compared.
    changed = [words for key, words in said.items() if about.get(key, facts[key]) != facts[key]]
    if changed:
        raise TrainingError(
            f"The run cannot be resumed, because {' and '.join(changed)} changed since it began; "
            "restore that, or train under another --run."
        )


def read_log(run: Path, name: str) -> list[dict[str, Any]]:
    """The entries of one of a run's metric files, oldest first."""
    path = run / "metrics" / name
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
