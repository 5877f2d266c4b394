"""Probes: pairs measured under fixed draws, without gradient, so that ell compares across steps.

Held-out pairs are measured the same way; their accuracy is the share whose mean ell is positive.

Probes after the fact: pairs of a run's store measured under one of its checkpoints.

At few visits a pair, as large datasets are trained, this is what makes detection possible: all
pairs under few draws, then the suspects under many.
"""

import hashlib
import heapq
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from toolkit import minority
from toolkit.errors import TrainingError
from toolkit.files.atomic import parts, write_text_whole
from toolkit.intervals import wilson
from toolkit.recorder import Recorder
from toolkit.store import Store
from toolkit.store.runs import run_about
from training.batches import Source, probe_batch
from training.checkpoint import check_unchanged, checkpoints, restore_models
from training.devices import accelerator_of
from training.ema import tensors_hash
from training.latent_cache import Encoded, network_ingredients
from training.models import Models, load_models
from training.pairs import Pairs, load_pairs, on_disk
from training.recipe import load_recipe
from training.setup import about_models, build_learner
from training.step import Learner, errors_aside, errors_of
from training.trajectory_writer import RunRecorder


def probe_members(seed: int, pair_ids: Sequence[str] | np.ndarray, pairs: int | None) -> list[int]:
    """Indices of the pairs a probe measures: `pairs` of them chosen by the seed, in order.

    A pair's place in the choice is its own, so that runs of which one lacks some pairs (a tie, a
    dropped pair) measure the same ones but for those.
    """
    if pairs is None or pairs >= len(pair_ids):
        return list(range(len(pair_ids)))
    keys = [hashlib.sha256(f"probe {seed} {name}".encode()).digest() for name in pair_ids]
    return sorted(heapq.nsmallest(pairs, range(len(keys)), key=keys.__getitem__))


@torch.no_grad()
def probe(
    learner: Learner,
    source: Source,
    recorder: RunRecorder,
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

    `only`: these of the draws, where the others are known.

    `reference` keeps the reference's errors from one measuring to the next, (2, B) by batch
    and draw: draws are fixed, so they are the same while members and their labels are.

    Returns the policy's ell of every member, averaged over what was measured, (len(members),)
    float64, the same on every rank.
    """
    accelerator = learner.accelerator
    rank, world = accelerator.process_index, accelerator.num_processes
    size = source.recipe.batch_size
    total = torch.zeros(len(members), dtype=torch.float64, device=accelerator.device)
    places = list(range(len(members)))[rank::world]
    wanted = range(draws) if only is None else only
    was_training = learner.bare.training
    learner.bare.eval()
    shares = [places[start : start + size] for start in range(0, len(places), size)]
    idle = _idle(len(members), world, size, len(shares)) if learner.frozen is not None else 0
    for turn, some in enumerate([*shares, *[[0]] * idle]):
        for draw in wanted:
            indices = [members[place] for place in some]
            batch = probe_batch(source, indices, draw, seed=seed, strata=draws)
            if reference is not None and (turn, draw) in reference:
                batch = batch._replace(reference=reference[turn, draw])
            with accelerator.autocast():
                policy = errors_of(learner.bare, batch)
            before, *footprints = errors_aside(learner, batch)
            if reference is not None:
                reference[turn, draw] = before
            if turn >= len(shares):
                continue
            errors = torch.stack([before, policy, *footprints])
            ell = minority.ell(*before, *policy)
            total[some] += ell.double() / len(wanted)
            recorder.probe(step, number, source.pairs, batch, errors.cpu().numpy())
    learner.bare.train(was_training)
    return np.asarray(accelerator.reduce(total, "sum").cpu())


def _idle(members: int, world: int, size: int, own: int) -> int:
    """Passes that this rank, which has `own` batches, makes for the sake of the others: those of a
    divided network need all ranks, and the first rank has the most batches."""
    return math.ceil(math.ceil(members / world) / size) - own


def accuracy(ell: np.ndarray) -> tuple[float, float, float]:
    """Share of positive ell with its 95 % Wilson interval: (share, low, high)."""
    n, hits = len(ell), float((ell > 0).sum())
    low, high = wilson(hits, n)
    return hits / n, float(low), float(high)


_FLUSH_PAIRS = 512
"""Pairs after which rows go to the disk: what a kill may cost."""


def probe_run(
    store: Store,
    run: str,
    *,
    draws: int,
    step: int | None = None,
    pair_ids: Sequence[str] | None = None,
    seed: int = 0,
    console: Any = None,
) -> int:
    """Measure pairs under `draws` fixed draws at the checkpoint of `step` (the newest by default).

    Rows of kind `probe` join the run's trajectory. What an earlier call with the same checkpoint,
    draws and seed measured is not measured again; under `accelerate launch` the pairs are shared
    out. Returns how many pairs were measured now. TrainingError where there is no checkpoint.
    """
    from accelerate.utils import set_seed

    recipe = load_recipe(on_disk(store).run(run) / "recipe.yaml", store=str(store.root), run=run)
    step, folder = _checkpoint(store, run, step)
    accelerator = accelerator_of(recipe.precision)
    set_seed(recipe.seed)  # the adapters' start, which is the reference
    pairs = load_pairs(store, labels=recipe.labels, split=recipe.split)
    models = load_models(recipe.backbone.path)
    # Checkpoints are whole networks, and measuring one takes a fraction of training's memory.
    whole = recipe.model_copy(
        update={"network": recipe.network.model_copy(update={"shard": False})}
    )
    learner = build_learner(whole, models, pairs, accelerator)
    _check(store, run, models, learner)
    restore_models(folder, learner)
    caches = recipe.caches
    encoded = Encoded(
        store,
        models,
        recipe.backbone.resolution,
        memory_gb=caches.memory_gb,
        disk=caches.disk,
    )
    source = Source(recipe, pairs, models, encoded, None)
    number = _number(store, run, {"step": step, "draws": draws, "seed": seed}, accelerator)
    absent = _absent(store, run, pairs, pair_ids, (step, number), draws)
    accelerator.wait_for_everyone()  # all share out the same list, before anyone writes
    writer = Recorder(store.run(run), about_models(learner), rank=accelerator.process_index)
    recorder = RunRecorder(writer, pairs)
    columns = (TextColumn("probing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    quiet = console is None or not accelerator.is_main_process
    try:
        with Progress(*columns, console=console, disable=quiet) as progress:
            task = progress.add_task("probing", total=sum(map(len, absent.values())))
            for only, members in absent.items():
                for start in range(0, len(members), _FLUSH_PAIRS):
                    some = members[start : start + _FLUSH_PAIRS]
                    probe(
                        learner,
                        source,
                        recorder,
                        some,
                        draws=draws,
                        only=only,
                        seed=seed,
                        step=step,
                        number=number,
                    )
                    recorder.flush()
                    progress.update(task, advance=len(some))
    finally:
        recorder.close()
    return sum(map(len, absent.values()))


def _checkpoint(store: Store, run: str, step: int | None) -> tuple[int, Any]:
    run_about(store, run)
    found = checkpoints(store.run(run))
    if not found:
        raise TrainingError(f"Run {run!r} has no checkpoint yet; let it go on, or name another.")
    step = max(found) if step is None else step
    if step not in found:
        known = ", ".join(map(str, found))
        raise TrainingError(
            f"Run {run!r} has no checkpoint at step {step} (steps: {known}); name one of them with "
            "--checkpoint."
        )
    return step, found[step]


def _check(store: Store, run: str, models: Models, learner: Learner) -> None:
    """The reference must be the run's own; pairs may have come and gone."""
    about = run_about(store, run)
    now = {**about, "reference": tensors_hash(dict(learner.reference))}
    now["models"] = about_models(learner)
    now["backbone_content"] = network_ingredients(models)
    check_unchanged(about, now)


def _number(store: Store, run: str, asked: dict[str, int], accelerator: Any) -> int:
    """The probe's number: its `visit` in the rows. The same question gets the same number."""
    path = store.run(run) / "probes.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    for entry in known:
        if {key: entry[key] for key in asked} == asked:
            return int(entry["visit"])
    # Probes of the run itself are numbered from 1, and there is at most one a step.
    number = int(run_about(store, run)["planned_steps"]) + 1 + len(known)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        text = json.dumps([*known, {**asked, "visit": number}], indent=2)
        write_text_whole(path, text + "\n")
    accelerator.wait_for_everyone()
    return number


def _absent(
    store: Store,
    run: str,
    pairs: Pairs,
    wanted: Sequence[str] | None,
    asked_at: tuple[int, int],
    draws: int,
) -> dict[tuple[int, ...], list[int]]:
    """Draws of this probe that are not on the disk -> indices of the pairs that lack just those.

    An interrupted call leaves pairs with some of their draws. `asked_at`: step and number; a run
    that was given more steps later may have come to use the number itself, at a later step.
    """
    spot = {name: k for k, name in enumerate(pairs.pair_id.tolist())}
    asked = list(spot) if wanted is None else sorted(set(wanted) & spot.keys())
    if not asked:
        raise TrainingError(
            "None of the pairs asked for can be measured (a pair needs two images, a label other "
            "than a tie, and the run's split); widen the filter."
        )
    known: dict[str, set[int]] = {}
    for rank in (store.run(run) / "trajectory").glob("rank-*"):
        for part in parts(rank):
            table = pq.read_table(part, columns=["pair_id", "visit", "kind", "step", "draw"])
            step, number = asked_at
            mine = pc.and_(pc.equal(table["kind"], "probe"), pc.equal(table["visit"], number))
            mine = pc.and_(mine, pc.equal(table["step"], step))
            table = table.filter(mine)
            names, drawn = table["pair_id"].to_pylist(), table["draw"].to_pylist()
            for name, draw in zip(names, drawn, strict=True):
                known.setdefault(name, set()).add(draw)
    absent: dict[tuple[int, ...], list[int]] = {}
    for name in asked:
        missing = tuple(draw for draw in range(draws) if draw not in known.get(name, ()))
        if missing:
            absent.setdefault(missing, []).append(spot[name])
    return absent
