"""One run from recipe to finished trajectory, and the same run gone on with after a kill.

What one process of a run works with, and what a run says of itself before its first step.

What is due after a step of a run: measuring, sampling, saving, and the proof that it learns.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from toolkit.errors import RecipeError, TrainingError
from toolkit.recorder import Recorder
from toolkit.store import Store
from toolkit.store.runs import run_about, start_run, update_run
from training.batches import Source, micro_batches
from training.beta_conventions import said
from training.checkpoint import (
    check_unchanged,
    recipe_of,
    restore_checkpoint,
    save_checkpoint,
    set_aside,
    starting_point,
)
from training.devices import accelerator_of
from training.ema import tensors_hash, trainable
from training.fsdp import agreed, gather, local
from training.latent_cache import Encoded, image_ingredients, network_ingredients, text_ingredients
from training.metrics_log import Board, Log, boards, log_entry, must_be_finite, status
from training.models import Models, load_models
from training.pairs import Pairs, load_pairs, store_of, take_stored
from training.precompute import announced_for_run, held_out_of
from training.probe import accuracy, probe, probe_members
from training.recipe import Recipe
from training.sampling import draw_samples
from training.setup import about_models, build_learner, pairs_per_step, reference_errors
from training.step import Batch, Learner, train_step
from training.trajectory_writer import RunRecorder
from training.verdict_updates import LiveVerdicts, VerdictLog, rule


@dataclass(frozen=True)
class Session:
    """What one process of a run works with."""

    recipe: Recipe
    store: Store
    run: str
    models: Models
    learner: Learner
    source: Source
    recorder: RunRecorder
    live: LiveVerdicts | None
    held_out: Source | None
    log: Log
    begin: int
    """Steps that are done already."""
    known: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)
    """The reference's errors on held-out pairs (`training.probe`)."""

    @property
    def main(self) -> bool:
        """Whether this process writes what is written once."""
        return bool(self.learner.accelerator.is_main_process)


def make_session(
    recipe: Recipe,
    store: Store,
    run: str,
    models: Models,
    learner: Learner,
    pairs: Pairs,
    live: LiveVerdicts | None,
    begin: int,
    console: Any,
) -> Session:
    """The parts that touch the disk, made once everything else stands."""
    accelerator = learner.accelerator
    caches = recipe.caches
    encoded = Encoded(
        store,
        models,
        recipe.backbone.resolution,
        memory_gb=caches.memory_gb,
        disk=caches.disk,
    )
    others = held_out_of(recipe, store)
    if accelerator.is_main_process:
        tell(console, announced_for_run(encoded, recipe, models, pairs, others))
    known = reference_errors(recipe, store, models, learner, pairs)
    if known is not None and begin:
        known.recall(store.run(run) / "trajectory" / f"rank-{accelerator.process_index}")
    source = Source(recipe, pairs, models, encoded, known)
    held_out = None if others is None else Source(recipe, others, models, encoded, None)
    writer = Recorder(store.run(run), about_models(learner), rank=accelerator.process_index)
    recorder = RunRecorder(writer, pairs, known, micro=begin * recipe.accumulation)
    main = accelerator.is_main_process
    shown = _boards(recipe, store.run(run), begin) if main else []
    log = Log(store.run(run), main=main, boards=shown, console=console)
    return Session(
        recipe, store, run, models, learner, source, recorder, live, held_out, log, begin
    )


def _boards(recipe: Recipe, run: Path, begin: int) -> list[Board]:
    return boards(
        run,
        begin=begin,
        tensorboard=recipe.tensorboard,
        wandb=recipe.wandb,
        recipe=recipe.model_dump(mode="json"),
    )


def describe(recipe: Recipe, models: Models, pairs: Pairs, learner: Learner) -> dict[str, Any]:
    """What run.json says before the first step."""
    return {
        "models": about_models(learner),
        "labels": recipe.labels,
        "split": recipe.split,
        "pairs": len(pairs),
        "pairs_content": pairs.content(),
        "labels_content": pairs.labels_content(),
        "weights_content": pairs.weights_content(),
        "encoders_content": {
            **image_ingredients(models, recipe.backbone.resolution),
            **text_ingredients(models),
        },
        "left_out": pairs.left_out,
        "metric": asdict(learner.metric.metric),
        "objective": recipe.objective.model_dump(mode="json"),
        "reference": tensors_hash(dict(learner.reference)),
        "backbone": recipe.backbone.path,
        "backbone_content": network_ingredients(models),
        "family": models.family,
        "train_timesteps": models.timesteps,
        "batch_size": recipe.batch_size,
        "pairs_per_step": pairs_per_step(recipe, learner),
        "planned_steps": recipe.steps,
        "finished": False,
    }


def tell(console: Any, text: str) -> None:
    """A line for the person who watches, where there is one."""
    if console is not None:
        console.print(text)


def introduce(console: Any, recipe: Recipe, pairs: Pairs, learner: Learner) -> None:
    """Say what the run trains on and how, before its first step."""
    seen = recipe.steps * pairs_per_step(recipe, learner) / len(pairs)
    left_out = ", ".join(f"{n} {why}" for why, n in sorted(pairs.left_out.items()))
    tell(
        console,
        f"{len(pairs)} pairs under labels {recipe.labels!r}"
        + (f" (left out: {left_out})" if left_out else "")
        + f", {recipe.steps} steps, {seen:.1f} visits a pair; models: "
        + ", ".join(about_models(learner)),
    )
    if learner.frozen is not None:
        tell(console, f"network divided over {learner.accelerator.num_processes} processes")
    elif recipe.network.shard:
        tell(
            console,
            "network.shard changes nothing in a single process; under `accelerate launch "
            "--multi_gpu` the network is divided",
        )
    for line in said(recipe, pairs_per_step(recipe, learner)):
        tell(console, line)


def due(done: int, every: int, steps: int) -> bool:
    """Every so many steps, and after the last."""
    return done % every == 0 or done == steps


def must_have_moved(learner: Learner, steps: int) -> None:
    """TrainingError where no process sees a change: gradients that get lost silently leave a policy
    that equals its reference for ever. Weight decay moves tensors without any gradient."""
    policy = trainable(learner.bare)
    same = (
        torch.equal(local(policy[name]).float(), local(start))
        for name, start in learner.reference.items()
    )
    if agreed(learner.accelerator, not learner.arrived.item()):
        raise TrainingError(
            f"In {steps} steps every gradient was 0, so the policy learns nothing; check "
            "lora.targets, precision and the weights that pairs are given."
        )
    if agreed(learner.accelerator, all(same)):
        raise TrainingError(
            f"After {steps} steps no trainable tensor has changed, so no gradient arrives; raise "
            "the learning rate, or check lora.targets and precision."
        )


def measure(session: Session, done: int) -> None:
    """Probe and held-out pairs, where they are due after `done` steps. At step 0 ell is 0."""
    recipe, learner = session.recipe, session.learner
    if (section := recipe.probe) is not None and due(done, section.every, recipe.steps):
        members = probe_members(section.seed, session.source.pairs.pair_id, section.pairs)
        probe(
            learner,
            session.source,
            session.recorder,
            members,
            draws=section.draws,
            seed=section.seed,
            step=done,
            number=-(-done // section.every),
        )
    if (aside := recipe.held_out) is not None and due(done, aside.every, recipe.steps):
        assert session.held_out is not None
        members = probe_members(aside.seed, session.held_out.pairs.pair_id, aside.pairs)
        ell = probe(
            learner,
            session.held_out,
            session.recorder,
            members,
            draws=aside.draws,
            seed=aside.seed,
            step=done,
            number=-(-done // aside.every),
            reference=session.known,
        )
        session.log.held_out(done, accuracy(ell), len(members))


def sample(session: Session, done: int) -> None:
    """Images from the policy as it is after `done` steps, where they are due."""
    wanted, recipe = session.recipe.samples, session.recipe
    # A divided network draws only with all of its processes; one of them keeps the images.
    needed = session.main or session.learner.frozen is not None
    if wanted is not None and needed and due(done, wanted.every, recipe.steps):
        folder = session.store.run(session.run) / "samples" / f"step-{done:06d}"
        unet, resolution = session.learner.bare, recipe.backbone.resolution
        draw_samples(session.models, unet, wanted, resolution, folder if session.main else None)


def save(session: Session, done: int) -> Path | None:
    """Everything up to `done` on the disk, then the checkpoint that says so."""
    learner = session.learner
    must_be_finite(trainable(learner.bare), done, learner.accelerator)
    session.recorder.flush()
    session.source.encoded.flush()
    if session.source.reference is not None:
        session.source.reference.flush()
    learner.accelerator.wait_for_everyone()
    gathered = None
    if learner.frozen is not None:
        gathered = gather(learner.bare, learner.optimiser, keep=session.main)
    if not session.main:
        return None
    run = session.store.run(session.run)
    return save_checkpoint(run, done, session.recipe, session.models, learner, gathered)


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
