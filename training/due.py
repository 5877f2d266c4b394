"""What is due after a step of a run: measuring, sampling, saving, and the proof that it learns."""

from pathlib import Path

import torch

from toolkit.errors import TrainingError
from training.checkpoint import save_checkpoint
from training.footprints import trainable
from training.monitor import must_be_finite
from training.probe import accuracy, probe, probe_members
from training.samples import draw_samples
from training.session import Session
from training.sharding import agreed, gather, local
from training.step import Learner


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
