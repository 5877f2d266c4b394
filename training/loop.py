"""One run from recipe to finished trajectory, and the same run gone on with after a kill."""

import time
from collections.abc import Iterator
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from toolkit.errors import RecipeError, TrainingError
from toolkit.store import Store
from toolkit.store.runs import run_about, start_run, update_run
from training.batches import micro_batches
from training.build import build_learner, pairs_per_step
from training.checkpoint import restore_checkpoint
from training.data import load_pairs, store_of
from training.due import due, measure, must_have_moved, sample, save
from training.live import LiveVerdicts, VerdictLog, rule
from training.models import load_models
from training.monitor import log_entry, status
from training.precision import accelerator_of
from training.recipe import Recipe
from training.resume import check_unchanged, recipe_of, set_aside, starting_point
from training.session import Session, describe, introduce, make_session, tell
from training.step import Batch, train_step
from training.weights import take_stored

_PROOF = 10
"""Steps after which the policy must have left its reference."""


def train(recipe: Recipe, *, console: Any = None) -> str:
    """Run a recipe and return the run's name.

    Every pair's errors go into the store as it trains; a killed run leaves a store that opens and
    that `resume` goes on with. TrainingError and RecipeError say what stands against it.
    """
    store = store_of(recipe)
    if recipe.run is None:
        raise RecipeError("The recipe names no run; add `run: NAME`, or pass --run NAME.")
    if (store.run(recipe.run) / "run.json").exists():
        raise TrainingError(
            f"The store has a run {recipe.run!r} already; choose another name with --run, or type "
            f"`outvoted resume {store.root} --run {recipe.run}`."
        )
    return _run(recipe, store, recipe.run, resumed=False, console=console)


def resume(store: Store, run: str, *, steps: int | None = None, console: Any = None) -> str:
    """Go on with a run from its newest checkpoint, or from its start; the run's name.

    On CPU the rows and weights are bit-identical to those of a run that was never killed, given
    the log of its verdicts. TrainingError where it is finished or its ingredients changed.
    """
    return _run(recipe_of(store, run, steps), store, run, resumed=True, console=console)


def _run(recipe: Recipe, store: Store, run: str, *, resumed: bool, console: Any) -> str:
    from accelerate.utils import set_seed

    accelerator = accelerator_of(recipe.precision)
    set_seed(recipe.seed)  # initial adapters; every other draw has a key of its own
    folder = store.run(run)
    live = None
    if recipe.verdicts:
        log = VerdictLog(folder, fresh=not resumed and accelerator.is_main_process)
        live = LiveVerdicts(store, log, recipe.live, accelerator)
    pairs = load_pairs(
        store, labels=recipe.labels, split=recipe.split, rulings=live.start() if live else None
    )
    if live is not None:
        rule(pairs, live.known, recipe.live.keep)
    take_stored(store, recipe.weights, pairs)
    models = load_models(recipe.backbone.path)
    learner = build_learner(recipe, models, pairs, accelerator)
    about = describe(recipe, models, pairs, learner)
    begin, checkpoint = starting_point(store, run) if resumed else (0, None)
    if resumed:
        check_unchanged(run_about(store, run), about)
    if live is not None:
        live.replay(begin, pairs)
    if checkpoint is not None:
        restore_checkpoint(checkpoint, learner)
    if accelerator.is_main_process:
        if resumed:
            lost = set_aside(store, run, begin)
            # A finished run that is given more steps is one in training, also after a kill.
            update_run(store, run, steps=begin, planned_steps=recipe.steps, finished=False)
            tell(console, f"Run {run} goes on from step {begin}; {lost} later rows set aside")
        else:
            start_run(store, run, about, recipe.to_yaml())
        if live is not None:
            live.write_start()
        introduce(console, recipe, pairs, learner)
    accelerator.wait_for_everyone()
    session = make_session(recipe, store, run, models, learner, pairs, live, begin, console)
    try:
        _steps(session, console)
    finally:
        session.recorder.close()
        session.log.close()
    if accelerator.is_main_process:
        update_run(store, run, steps=recipe.steps, planned_steps=recipe.steps, finished=True)
    return run


def _steps(session: Session, console: Any) -> None:
    recipe, learner = session.recipe, session.learner
    accelerator = learner.accelerator
    batches = micro_batches(
        session.source,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        start=session.begin * recipe.accumulation,
    )
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
    )
    quiet = not session.main or console is None
    clock, logged = time.perf_counter(), session.begin
    with Progress(*columns, console=console, disable=quiet) as progress:
        task = progress.add_task("training", total=recipe.steps, completed=session.begin, said="")
        if session.begin == 0:
            sample(session, 0)
        for step in range(session.begin, recipe.steps):
            _one_step(session, batches, step)
            done = step + 1
            saving = due(done, recipe.checkpoint_every, recipe.steps)
            if saving or due(done, recipe.log_every, recipe.steps):
                pairs = (done - logged) * pairs_per_step(recipe, learner)
                speed = pairs / (time.perf_counter() - clock)
                clock, logged = time.perf_counter(), done
                seen = session.recorder.seen()
                entry = log_entry(done, seen, speed, session.models.timesteps, accelerator)
                session.log.scalars(entry)
                progress.update(task, said=status(entry))
            measure(session, done)
            sample(session, done)
            if saving:
                save(session, done)
            progress.update(task, advance=1)


def _one_step(session: Session, batches: Iterator[Batch], step: int) -> None:
    live = session.live
    if live is not None and live.due(step):
        session.recorder.drain()  # rows held so far were trained under the labels of before
        changed = live.apply(step, session.source.pairs)
        if changed:
            session.log.say(f"Step {step}: verdicts on {changed} pairs taken up")
    rows = train_step(session.learner, batches, session.recipe.accumulation, step)
    session.recorder.add(step, rows)
    if step + 1 == min(_PROOF, session.recipe.steps):
        must_have_moved(session.learner, step + 1)
