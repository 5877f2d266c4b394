"""Trains on two ranks (gloo, CPU): each with the whole network, and with the network divided.

    python -m tests.training.sharding_ranks RECIPE.yaml FOLDER

Run `held` is not divided, run `whole` is, and run `killed` too: one of its ranks is killed with
SIGKILL after a checkpoint, and both are resumed. Then each rank leaves FOLDER/rank-N.json: what a
rank of a divided network in bf16 holds after one step, and the length of the gradient in it.
Prints one JSON object: the step whose checkpoint was there when the rank was killed.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from tests.training.killing import finish
from tests.training.killing_ranks import kill_one, two
from toolkit.errors import TrainingError
from toolkit.store import open_store
from training.batches import micro_batches
from training.devices import accelerator_of, local, whole
from training.ema import trainable
from training.metrics_log import check_finite
from training.recipe import Recipe, load_recipe
from training.setup import prepare
from training.step import Learner, bound_gradient, errors_of, frozen_errors
from training.trainer import check_gradients_arrive, resume, train


def changed(recipe: Recipe, run: str, **network: bool) -> Recipe:
    about = recipe.network.model_copy(update=network)
    return recipe.model_copy(update={"run": run, "network": about})


def leave_what_is_held(recipe: Recipe, folder: Path) -> None:
    """One step by hand, since a step keeps no gradient."""
    setup = prepare(recipe, accelerator=accelerator_of("bf16"))
    accelerator, learner = setup.accelerator, setup.learner
    rank = accelerator.process_index
    batch = next(micro_batches(setup.source, rank=rank, world=2))
    with accelerator.autocast():
        policy = errors_of(learner.wrapped, batch)
    reference = frozen_errors(learner, batch)[0]
    accelerator.backward(policy.mean())
    bound_gradient(learner)
    tensors = list(trainable(learner.policy).values())
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    squares = [whole(gradient).square().sum() for gradient in gradients]
    unmoved = said_by(lambda: check_gradients_arrive(learner, 1))
    learner.optimiser.step()
    check_gradients_arrive(learner, 1)
    check_finite(trainable(learner.policy), 1, accelerator)
    moments = [v for kept in learner.optimiser.state.values() for v in kept.values() if v.ndim]
    sets = {
        "policy": tensors,
        "reference": list(learner.reference.values()),
        "gradient": gradients,
        "moments": moments,
    }
    about = {
        "numbers": sum(tensor.numel() for tensor in tensors),
        "bytes": {
            name: bytes_of([local(tensor) for tensor in held]) for name, held in sets.items()
        },
        "formats": sorted({str(t.dtype) for held in sets.values() for t in held}),
        "gradient_norm": float(torch.stack(squares).sum().sqrt()),
        "same_errors": torch.equal(policy.detach(), reference),
        "unmoved": unmoved,
        "broken": broken_on(1, learner),
    }
    (folder / f"rank-{rank}.json").write_text(json.dumps(about))


def broken_on(rank: int, learner: Learner) -> str:
    """What this rank says once a number of one rank's part is none any more."""
    if learner.accelerator.process_index == rank:
        with torch.no_grad():
            local(next(iter(trainable(learner.policy).values()))).view(-1)[0] = torch.inf
    return said_by(lambda: check_finite(trainable(learner.policy), 1, learner.accelerator))


def said_by(work: Callable[[], object]) -> str:
    try:
        work()
    except TrainingError as problem:
        return str(problem)
    return "nothing"


def bytes_of(tensors: list[torch.Tensor]) -> int:
    """Of their memory, which several may share: the gradients of a block lie in one."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def main(path: str, folder: Path) -> None:
    recipe = load_recipe(path)
    store = open_store(str(recipe.store))

    def finish_both(work: Callable[[], object]) -> None:
        for pid in two(work):
            finish(pid)

    divided = changed(recipe, "killed", shard=True)
    finish_both(lambda: train(changed(recipe, "held")))
    finish_both(lambda: train(changed(recipe, "whole", shard=True)))
    killed = kill_one(store, 1, recipe.checkpoint_every, two(lambda: train(divided)))
    finish_both(lambda: resume(store, "killed"))
    other = changed(recipe, "other", shard=True, gradient_checkpointing=True).model_copy(
        update={
            "precision": "bf16",
            "optimiser": recipe.optimiser.model_copy(update={"grad_norm": 0.5}),
        }
    )
    finish_both(lambda: leave_what_is_held(other, folder))
    print(json.dumps({"killed_after": killed}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
