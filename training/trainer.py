"""One run, from its recipe to the finished trajectory; and the same run resumed after a kill.

`train` and `resume` make a `Trainer` and let it run. The maths of a step is `training.step`; what
the run works with is prepared by `training.setup`.
"""

import time
from dataclasses import asdict
from typing import Any

import torch

from toolkit.errors import RecipeError, TrainingError
from toolkit.progress import SILENT, Progress
from toolkit.recorder import TrajectoryWriter
from toolkit.store import Store
from toolkit.store.locks import Lease
from toolkit.store.runs import run_about, start_run, update_run
from training.batches import BatchSource, micro_batches
from training.beta_conventions import describe_betas
from training.caches import image_ingredients, network_ingredients, text_ingredients
from training.checkpoint import (
    check_unchanged,
    recipe_of,
    restore_checkpoint,
    save_checkpoint,
    set_aside,
    starting_point,
)
from training.devices import accelerator_of, agreed, gather, local
from training.ema import trainable
from training.metrics_log import Log, boards, check_finite, log_entry, status
from training.pairs import probe_members, store_of
from training.precompute import describe_encoding, refuse_random_reading
from training.probe import accuracy, probe
from training.recipe import HeldOut, Probe, Recipe
from training.sampling import draw_samples
from training.setup import ENCODERS, NETWORK, Setup, prepare, sole_writer
from training.step import Learner, train_step
from training.trajectory_writer import StepRecorder
from training.verdict_updates import VerdictLog, VerdictUpdates

GRADIENT_CHECK = 10
"""Steps after which the policy must differ from its reference."""


def train(recipe: Recipe, *, progress: Progress = SILENT) -> str:
    """Run a recipe and return the run's name.

    Every pair's errors go into the store as it trains. A run that is killed leaves a store that
    opens, and `resume` continues it.

    Raises:
        RecipeError: The recipe asks for something impossible.
        TrainingError: The run exists already, or cannot be trained.
    """
    store = store_of(recipe)
    if recipe.run is None:
        raise RecipeError("The recipe names no run; add `run: NAME`, or pass --run NAME.")
    if (store.run(recipe.run) / "run.json").exists():
        raise TrainingError(
            f"The store has a run {recipe.run!r} already; choose another name with --run, or type "
            f"`outvoted resume {store.root} --run {recipe.run}`."
        )
    _run(recipe, store, recipe.run, resumed=False, progress=progress)
    return recipe.run


def resume(
    store: Store,
    run: str,
    *,
    steps: int | None = None,
    at: int | None = None,
    progress: Progress = SILENT,
) -> str:
    """Continue a run from its newest checkpoint, that of step `at`, or its start; the run's name.

    On CPU its rows and weights are bit-identical to those of a run that was never stopped, provided
    its verdicts.jsonl is intact.

    Raises:
        TrainingError: The run is finished, or its pairs, labels, weights or backbone have changed.
        StoreError: Another process trains the run.
    """
    recipe = recipe_of(store, run, steps, at)
    _run(recipe, store, run, resumed=True, at=at, progress=progress)
    return run


def _run(recipe: Recipe, store: Store, run: str, **how: Any) -> None:
    accelerator = accelerator_of(recipe.precision)
    with sole_writer(store, run, accelerator) as lease:
        Trainer(recipe, store, run, accelerator, lease, **how).run()


class Trainer:
    """One process of a run: everything it works with, and how many steps are done."""

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        run: str,
        accelerator: Any,
        lease: Lease | None,
        *,
        resumed: bool,
        at: int | None = None,
        progress: Progress,
    ) -> None:
        """Prepare the run, restore its checkpoint where it is resumed, and write its run.json.

        A refused run writes nothing.
        """
        self.recipe = recipe
        self.store = store
        self.name = run
        self.folder = store.run(run)
        self.lease = lease
        self.main = bool(accelerator.is_main_process)
        self.progress = progress if self.main else SILENT
        self.verdicts: VerdictUpdates | None = None
        if recipe.verdicts:
            log = VerdictLog(self.folder, fresh=not resumed and self.main)
            self.verdicts = VerdictUpdates(store, log, recipe.live, accelerator)
        self.setup = prepare(
            recipe,
            accelerator=accelerator,
            verdicts=self.verdicts.start() if self.verdicts else {},
            hashed=(*ENCODERS, *NETWORK),
        )
        refuse_random_reading(self.setup)
        self.learner = self.setup.learner
        self.source = self.setup.source
        self.done, checkpoint = starting_point(store, run, at) if resumed else (0, None)
        about = describe(self.setup)
        if resumed:
            check_unchanged(run_about(store, run), about)
        if self.verdicts:
            self.verdicts.replay(self.done, self.setup.pairs)
        if checkpoint is not None:
            restore_checkpoint(checkpoint, self.learner)
        if self.main:
            self._claim(about, resumed)
        accelerator.wait_for_everyone()
        rank = accelerator.process_index
        if self.source.reference is not None and self.done:
            self.source.reference.recall(self.folder / "trajectory" / f"rank-{rank}")
        self.held_out_reference: dict[tuple[int, int], torch.Tensor] = {}
        """The reference's errors on held-out pairs, by batch and draw."""
        self.recorder = StepRecorder(
            TrajectoryWriter(self.folder, self.learner.model_names, rank=rank),
            self.setup.pairs,
            self.source.reference,
            micro=self.done * recipe.accumulation,
        )
        shown = boards(self.folder, recipe, self.done) if self.main else []
        self.log = Log(self.folder, main=self.main, boards=shown, progress=self.progress)

    def _claim(self, about: dict[str, Any], resumed: bool) -> None:
        """Write what the run is, before its first step; set rows past its checkpoint aside."""
        if resumed:
            moved = set_aside(self.store, self.name, self.done)
            # A finished run that is given more steps is in training again, also after a kill.
            steps = self.recipe.steps
            update_run(self.store, self.name, steps=self.done, planned_steps=steps, finished=False)
            self.progress.line(
                f"Resuming run {self.name} from step {self.done}; {moved} later rows set aside"
            )
        else:
            start_run(self.store, self.name, about, self.recipe.to_yaml())
        if self.verdicts:
            self.verdicts.write_start()
        introduce(self.setup, self.progress)

    def run(self) -> None:
        """Train to the last step. What was recorded is on the disk whatever happens, unless another
        process took the run over: it records the same steps."""
        try:
            self._train()
        finally:
            if self.lease is None or not self.lease.lost:
                self.recorder.close()
            self.log.close()
        if self.main:
            steps = self.recipe.steps
            update_run(self.store, self.name, steps=steps, planned_steps=steps, finished=True)

    def _train(self) -> None:
        """Step by step, with what is due after each."""
        recipe, accelerator = self.recipe, self.setup.accelerator
        batches = micro_batches(
            self.source,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            start=self.done * recipe.accumulation,
        )
        clock, logged, note = time.perf_counter(), self.done, ""
        self.progress.update("training", self.done, recipe.steps)
        if self.done == 0:
            self.sample()
        while self.done < recipe.steps:
            if self.lease is not None and self.lease.lost:
                self.lease.must_hold()
            self.update_verdicts()
            records = train_step(self.learner, batches, recipe.accumulation, self.done)
            self.recorder.add(self.done, records)
            self.done += 1
            if self.done == min(GRADIENT_CHECK, recipe.steps):
                check_gradients_arrive(self.learner, self.done)
            saving = self.is_due(recipe.checkpoint_every)
            if saving or self.is_due(recipe.log_every):
                pairs = (self.done - logged) * self.learner.pairs_per_step
                note = self.log_point(pairs / (time.perf_counter() - clock))
                clock, logged = time.perf_counter(), self.done
            self.measure()
            self.sample()
            if saving:
                self.save()
            self.progress.update("training", self.done, recipe.steps, note)

    def is_due(self, every: int) -> bool:
        """Whether something is due that comes every so many steps and after the last."""
        return self.done % every == 0 or self.done == self.recipe.steps

    def update_verdicts(self) -> None:
        """Apply verdicts published since the last reading, where a reading is due."""
        if self.verdicts is None or not self.verdicts.due(self.done):
            return
        self.recorder.drain()  # rows recorded so far were trained under the old labels
        changed = self.verdicts.apply(self.done, self.setup.pairs)
        if changed:
            self.progress.line(f"Step {self.done}: verdicts on {changed} pairs applied")

    def log_point(self, speed: float) -> str:
        """Log the means since the last log point; their summary for the progress bar."""
        seen, timesteps = self.recorder.seen(), self.setup.models.timesteps
        entry = log_entry(self.done, seen, speed, timesteps, self.setup.accelerator)
        self.log.scalars(entry)
        return status(entry)

    def measure(self) -> None:
        """Probe and held-out pairs, where they are due."""
        trained, held_out = self.recipe.probe, self.recipe.held_out
        if trained is not None and self.is_due(trained.every):
            self._probe(trained, self.source)
        if held_out is not None and self.is_due(held_out.every):
            assert self.setup.held_out is not None
            ell = self._probe(held_out, self.setup.held_out, self.held_out_reference)
            self.log.held_out(self.done, accuracy(ell), len(ell))

    def _probe(
        self,
        section: Probe | HeldOut,
        source: BatchSource,
        reference: dict[tuple[int, int], torch.Tensor] | None = None,
    ) -> Any:
        return probe(
            self.learner,
            source,
            self.recorder,
            probe_members(section.seed, source.pairs.pair_id, section.pairs),
            draws=section.draws,
            seed=section.seed,
            step=self.done,
            number=-(-self.done // section.every),
            reference=reference,
        )

    def sample(self) -> None:
        """Images from the policy, at the start and where they are due."""
        section = self.recipe.samples
        # A divided network draws only with all of its processes; one of them saves the images.
        needed = self.main or self.learner.divided_reference is not None
        if section is None or not needed or not self.is_due(section.every):
            return
        folder = self.folder / "samples" / f"step-{self.done:06d}" if self.main else None
        resolution = self.recipe.backbone.resolution
        draw_samples(self.setup.models, self.learner.policy, section, resolution, folder)

    def save(self) -> None:
        """Put every row up to here on the disk, then write the checkpoint."""
        learner, accelerator = self.learner, self.setup.accelerator
        if self.lease is not None:
            self.lease.must_hold()
        check_finite(trainable(learner.policy), self.done, accelerator)
        self.recorder.flush()
        self.source.encoded.flush()
        if self.source.reference is not None:
            self.source.reference.flush()
        accelerator.wait_for_everyone()
        whole = None
        if learner.divided_reference is not None:
            whole = gather(learner.policy, learner.optimiser, keep=self.main)
        if self.main:
            save_checkpoint(self.folder, self.done, self.setup.models, learner, whole)


def describe(setup: Setup) -> dict[str, Any]:
    """run.json before the first step."""
    recipe, pairs, learner, hashes = setup.recipe, setup.pairs, setup.learner, setup.hashes
    return {
        "models": learner.model_names,
        "labels": recipe.labels,
        "split": recipe.split,
        "pairs": len(pairs),
        "pairs_content": pairs.content(),
        "labels_content": pairs.labels_content(),
        "weights_content": pairs.weights_content(),
        "encoders_content": {
            **image_ingredients(hashes, recipe.backbone.resolution),
            **text_ingredients(hashes),
        },
        "left_out": pairs.left_out,
        "metric": asdict(learner.metric.metric),
        "objective": recipe.objective.model_dump(mode="json"),
        "reference": setup.reference_hash,
        "backbone": recipe.backbone.path,
        "backbone_content": network_ingredients(hashes),
        "family": setup.models.family,
        "train_timesteps": setup.models.timesteps,
        "batch_size": recipe.batch_size,
        "dropped_captions": recipe.dropped_captions,
        "pairs_per_step": learner.pairs_per_step,
        "planned_steps": recipe.steps,
        "finished": False,
    }


def introduce(setup: Setup, progress: Progress) -> None:
    """Say what the run trains on and how, before its first step."""
    recipe, pairs, learner = setup.recipe, setup.pairs, setup.learner
    visits = recipe.steps * learner.pairs_per_step / len(pairs)
    left_out = ", ".join(f"{n} {why}" for why, n in sorted(pairs.left_out.items()))
    progress.line(
        f"{len(pairs)} pairs under labels {recipe.labels!r}"
        + (f" (left out: {left_out})" if left_out else "")
        + f", {recipe.steps} steps, {visits:.1f} visits a pair; models: "
        + ", ".join(learner.model_names)
    )
    if learner.divided_reference is not None:
        progress.line(f"network divided over {learner.accelerator.num_processes} processes")
    elif recipe.network.shard:
        progress.line(
            "network.shard has no effect in a single process; under `accelerate launch "
            "--multi_gpu` the network is divided"
        )
    for line in describe_betas(recipe, learner.pairs_per_step):
        progress.line(line)
    progress.line(describe_encoding(setup))


def check_gradients_arrive(learner: Learner, steps: int) -> None:
    """TrainingError where no process sees a change: without gradients the policy would equal its
    reference indefinitely. Weight decay moves tensors without any gradient, so both are checked."""
    policy = trainable(learner.policy)
    same = (
        torch.equal(local(policy[name]).float(), local(start))
        for name, start in learner.reference.items()
    )
    if agreed(learner.accelerator, not learner.gradient_seen.item()):
        raise TrainingError(
            f"In {steps} steps every gradient was 0, so the policy learns nothing; check "
            "lora.targets, precision and the pairs' weights."
        )
    if agreed(learner.accelerator, all(same)):
        raise TrainingError(
            f"After {steps} steps no trainable tensor has changed, so no gradient arrives; raise "
            "the learning rate, or check lora.targets and precision."
        )
