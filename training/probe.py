"""Probes: pairs measured under fixed draws, without gradient, so that ell compares across steps.

`probe` measures during a run. Held-out pairs are measured the same way; their accuracy is the share
whose mean ell is positive. `probe_run` measures pairs of a store under a checkpoint of a run. With
few visits a pair, as on large datasets, this is what makes detection possible: first all pairs
under few draws, then the suspects under many.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from toolkit import minority
from toolkit.errors import TrainingError
from toolkit.files.atomic import parts, read_json, write_text_whole
from toolkit.intervals import wilson
from toolkit.progress import SILENT, Progress
from toolkit.recorder import TrajectoryWriter
from toolkit.store import Store
from toolkit.store.runs import run_about
from training.batches import BatchSource, probe_batch
from training.caches import network_ingredients
from training.checkpoint import check_unchanged, checkpoints, restore_models
from training.devices import accelerator_of
from training.pairs import Pairs, on_disk
from training.recipe import Draws, Recipe, stored_recipe
from training.setup import NETWORK, Setup, prepare, sole_writer
from training.step import Learner, errors_of, frozen_errors
from training.trajectory_writer import StepRecorder


@torch.no_grad()
def probe(
    learner: Learner,
    source: BatchSource,
    recorder: StepRecorder,
    members: Sequence[int],
    *,
    draws: int,
    only: Sequence[int] | None = None,
    seed: int,
    step: int,
    number: int,
    reference: dict[tuple[int, int], Tensor] | None = None,
) -> np.ndarray:
    """Measure this rank's share of `members` under `draws` draws and record the rows.

    `members` are indices into the source's pairs, `number` is the probe's `visit` in its rows, and
    `only` names those of the draws to measure, where the others are known. `reference` keeps the
    reference's errors, (2, B) by batch and draw, from one call to the next: draws are fixed, so
    they are the same while members and their labels are.

    Returns the policy's ell of every member, averaged over what was measured, (len(members),)
    float64, the same on every rank.
    """
    accelerator = learner.accelerator
    rank, world = accelerator.process_index, accelerator.num_processes
    size = source.recipe.batch_size
    total = torch.zeros(len(members), dtype=torch.float64, device=accelerator.device)
    positions = list(range(len(members)))[rank::world]
    wanted = range(draws) if only is None else only
    was_training = learner.policy.training
    learner.policy.eval()
    shares = [positions[start : start + size] for start in range(0, len(positions), size)]
    idle = 0
    if learner.divided_reference is not None:
        idle = _idle(len(members), world, size, len(shares))
    for turn, some in enumerate([*shares, *[[0]] * idle]):
        for draw in wanted:
            indices = [members[position] for position in some]
            batch = probe_batch(source, indices, draw, seed=seed, strata=draws)
            if reference is not None and (turn, draw) in reference:
                batch = batch._replace(reference=reference[turn, draw])
            with accelerator.autocast():
                policy = errors_of(learner.policy, batch)
            start, *footprints = frozen_errors(learner, batch)
            if reference is not None:
                reference[turn, draw] = start
            if turn >= len(shares):
                continue
            errors = torch.stack([start, policy, *footprints])
            ell = minority.ell(*start, *policy)
            total[some] += ell.double() / len(wanted)
            recorder.probe(step, number, source.pairs, batch, errors.cpu().numpy())
    learner.policy.train(was_training)
    return np.asarray(accelerator.reduce(total, "sum").cpu())


def _idle(members: int, world: int, size: int, own: int) -> int:
    """Passes that this rank, which has `own` batches, makes only because a divided network needs
    all ranks for each; the first rank has the most batches."""
    return math.ceil(math.ceil(members / world) / size) - own


def accuracy(ell: np.ndarray) -> tuple[float, float, float]:
    """Share of positive ell with its 95 % Wilson interval: (share, low, high)."""
    n, hits = len(ell), float((ell > 0).sum())
    low, high = wilson(hits, n)
    return hits / n, float(low), float(high)


_FLUSH_PAIRS = 512
"""Pairs after which rows are written to the disk; a kill loses at most these."""


def probe_run(
    store: Store,
    run: str,
    *,
    draws: int,
    step: int | None = None,
    pair_ids: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> int:
    """Measure pairs under `draws` fixed draws at the checkpoint of `step` (the newest by default).

    Rows of kind `probe` are added to the run's trajectory. What an earlier call with the same
    checkpoint, draws and seed measured is not measured again. Under `accelerate launch` the
    processes divide the pairs.

    Returns:
        How many pairs were measured now.

    Raises:
        TrainingError: There is no such checkpoint, no such pair, or the backbone has changed.
        StoreError: Another process probes the run.
    """
    recipe = stored_recipe(on_disk(store), run)
    step, folder = _checkpoint(store, run, step)
    accelerator = accelerator_of(recipe.precision)
    with sole_writer(store, run, accelerator, to="probe"):
        setup = prepare(_for_probe(recipe), accelerator=accelerator, verdicts={}, hashed=NETWORK)
        _check(store, run, setup)
        restore_models(folder, setup.learner)
        number = _number(store, run, {"step": step, "draws": draws, "seed": seed}, accelerator)
        missing = _missing(store, run, setup.pairs, pair_ids, (step, number), draws)
        accelerator.wait_for_everyone()  # all divide the same list, before anyone writes
        how = {"draws": draws, "seed": seed, "step": step, "number": number}
        _measure(setup, run, missing, how, progress if accelerator.is_main_process else SILENT)
    return sum(map(len, missing.values()))


def _measure(
    setup: Setup,
    run: str,
    missing: dict[tuple[int, ...], list[int]],
    how: dict[str, int],
    progress: Progress,
) -> None:
    """Probe the pairs that lack some draws (see `_missing`), a few at a time."""
    learner, store = setup.learner, setup.store
    rank = setup.accelerator.process_index
    writer = TrajectoryWriter(store.run(run), learner.model_names, rank=rank)
    recorder = StepRecorder(writer, setup.pairs)
    total, done = sum(map(len, missing.values())), 0
    progress.update("probing", 0, total)
    try:
        for only, members in missing.items():
            for start in range(0, len(members), _FLUSH_PAIRS):
                some = members[start : start + _FLUSH_PAIRS]
                probe(learner, setup.source, recorder, some, only=only, **how)
                recorder.flush()
                done += len(some)
                progress.update("probing", done, total)
    finally:
        recorder.close()


def _for_probe(recipe: Recipe) -> Recipe:
    """A run's recipe without what a probe does not use. Its draws are its own; and since measuring
    takes a fraction of training's memory and checkpoints contain whole networks, none is divided.
    """
    network = recipe.network.model_copy(update={"shard": False})
    unused = {"weights": None, "held_out": None, "draws": Draws()}
    return recipe.model_copy(update={**unused, "network": network})


def _checkpoint(store: Store, run: str, step: int | None) -> tuple[int, Any]:
    run_about(store, run)
    saved = checkpoints(store.run(run))
    if not saved:
        raise TrainingError(
            f"Run {run!r} has no checkpoint yet; wait for its first, or name another run."
        )
    step = max(saved) if step is None else step
    if step not in saved:
        known = ", ".join(map(str, saved))
        raise TrainingError(
            f"Run {run!r} has no checkpoint at step {step} (steps: {known}); name one of them with "
            "--checkpoint."
        )
    return step, saved[step]


def _check(store: Store, run: str, setup: Setup) -> None:
    """The reference must be the run's own; pairs may have been added and removed."""
    about = run_about(store, run)
    now = {
        **about,
        "reference": setup.reference_hash,
        "models": setup.learner.model_names,
        "backbone_content": network_ingredients(setup.hashes),
    }
    check_unchanged(about, now)


def _number(store: Store, run: str, probe: dict[str, int], accelerator: Any) -> int:
    """The probe's number, `visit` in its rows; the same for the same step, draws and seed."""
    path = store.run(run) / "probes.json"
    known = read_json(path, "restore it from a copy", list) if path.exists() else []
    for entry in known:
        if {key: entry[key] for key in probe} == probe:
            return int(entry["visit"])
    # Probes of the run itself are numbered from 1, and there is at most one a step.
    number = int(run_about(store, run)["planned_steps"]) + 1 + len(known)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        text = json.dumps([*known, {**probe, "visit": number}], indent=2)
        write_text_whole(path, text + "\n")
    accelerator.wait_for_everyone()
    return number


def _missing(
    store: Store,
    run: str,
    pairs: Pairs,
    wanted: Sequence[str] | None,
    probe: tuple[int, int],
    draws: int,
) -> dict[tuple[int, ...], list[int]]:
    """Draws of this probe that are not on the disk -> indices of the pairs that lack just those.

    An interrupted call leaves pairs with some of their draws. `probe`: its step and number; a run
    that was given more steps later may use the same number at a later step.
    """
    spot = {name: k for k, name in enumerate(pairs.pair_id.tolist())}
    asked = list(spot) if wanted is None else sorted(set(wanted) & spot.keys())
    if not asked:
        raise TrainingError(
            "None of these pairs can be measured (a pair needs two images, a label other than a "
            "tie, and the run's split); use a wider filter."
        )
    known: dict[str, set[int]] = {}
    for rank in (store.run(run) / "trajectory").glob("rank-*"):
        for part in parts(rank):
            table = pq.read_table(part, columns=["pair_id", "visit", "kind", "step", "draw"])
            step, number = probe
            mine = pc.and_(pc.equal(table["kind"], "probe"), pc.equal(table["visit"], number))
            mine = pc.and_(mine, pc.equal(table["step"], step))
            table = table.filter(mine)
            names, measured = table["pair_id"].to_pylist(), table["draw"].to_pylist()
            for name, draw in zip(names, measured, strict=True):
                known.setdefault(name, set()).add(draw)
    missing: dict[tuple[int, ...], list[int]] = {}
    for name in asked:
        lacks = tuple(draw for draw in range(draws) if draw not in known.get(name, ()))
        if lacks:
            missing.setdefault(lacks, []).append(spot[name])
    return missing
