"""Checkpoints: complete or absent, in formats that diffusers loads by itself.

    RUN/checkpoints/step-000500/pytorch_lora_weights.safetensors    or unet/, where all of it trains
                                policy.safetensors                  adapters under our own names
                                ema_0.9999.safetensors              a footprint's trainable tensors
                                state/                              what only a resumed run needs

Only the newest checkpoint keeps its `state/`: with a whole UNet in training it is the larger part.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from toolkit.errors import TrainingError
from toolkit.parts import sync_folder
from training.footprints import trainable
from training.models import Models
from training.recipe import Recipe
from training.sharding import Gathered, divided_like, divided_state, undivided
from training.step import Learner

_POLICY = "policy.safetensors"
_TRAINING = "training.pt"
_UNWRITTEN = re.compile(
    r"inline_container|PytorchStreamWriter|iostream error|cannot be opened|Parent directory"
)
"""What torch.save says of a disk; its errors have no type of their own."""


def checkpoint_folder(run: Path, step: int) -> Path:
    """RUN/checkpoints/step-NNNNNN."""
    return run / "checkpoints" / f"step-{step:06d}"


def checkpoints(run: Path) -> dict[int, Path]:
    """The whole checkpoints of a run by step."""
    found = sorted((run / "checkpoints").glob("step-*"))
    return {int(path.name.removeprefix("step-")): path for path in found}


def save_checkpoint(
    run: Path,
    step: int,
    recipe: Recipe,
    models: Models,
    learner: Learner,
    gathered: Gathered | None = None,
) -> Path:
    """Write the checkpoint of `step` finished steps aside and rename it; its path.

    Policy and optimiser are taken from `gathered` where the learner's are divided; the files are
    the same. To be called by one process, when every rank's rows are on the disk. TrainingError
    where it cannot be written. Whatever goes wrong, the checkpoint before it stays and nothing lies
    aside.
    """
    final = checkpoint_folder(run, step)
    aside = final.with_name(f".{final.name}.unfinished")
    try:
        return _save(final, aside, step, recipe, models, learner, gathered)
    except (OSError, RuntimeError, SafetensorError) as problem:  # each library has its own
        if isinstance(problem, RuntimeError) and not _UNWRITTEN.search(str(problem)):
            raise
        room = shutil.disk_usage(run).free / 1e6
        raise TrainingError(
            f"The checkpoint of step {step} could not be written to {run} "
            f"({' '.join(str(problem).split())}; {room:,.1f} MB were free there); rows and "
            "checkpoints before it are whole. Free space or mend the folder, then type `outvoted "
            "resume`."
        ) from problem
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _save(
    final: Path,
    aside: Path,
    step: int,
    recipe: Recipe,
    models: Models,
    learner: Learner,
    gathered: Gathered | None,
) -> Path:
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "state").mkdir(parents=True)
    unet: Any = learner.bare if gathered is None else undivided(learner.bare, gathered.policy)
    _save_policy(aside, recipe, models, unet)
    for footprint in learner.footprints:
        tensors = {name: value.cpu().contiguous() for name, value in footprint.tensors.items()}
        save_file(tensors, aside / f"{footprint.name}.safetensors")
    _save_state(aside / "state", step, learner, gathered)
    _sync_tree(aside)
    older = checkpoints(final.parent.parent)
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    sync_folder(final.parent)
    for path in older.values():
        if path != final:
            shutil.rmtree(path / "state", ignore_errors=True)
    return final


def _save_policy(folder: Path, recipe: Recipe, models: Models, unet: Any) -> None:
    if recipe.backbone.train == "full":
        unet.save_pretrained(folder / "unet")
        return
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    pipeline = StableDiffusionXLPipeline if models.family == "sdxl" else StableDiffusionPipeline
    tensors = {name: p.detach().cpu().contiguous() for name, p in trainable(unet).items()}
    save_file(tensors, folder / _POLICY)
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    about = unet.peft_config["default"].to_dict()  # or alpha is taken for the rank on loading
    pipeline.save_lora_weights(folder, unet_lora_layers=state, unet_lora_adapter_metadata=about)


def _save_state(folder: Path, step: int, learner: Learner, gathered: Gathered | None) -> None:
    scaler = learner.accelerator.scaler
    state = {
        "step": step,
        "optimiser": learner.optimiser.state_dict() if gathered is None else gathered.optimiser,
        "schedule": learner.schedule.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "metric": learner.metric.state(),
        "updates": [footprint.updates for footprint in learner.footprints],
    }
    torch.save(state, folder / _TRAINING)


def newest_state(run: Path) -> tuple[int, Path] | None:
    """Step and folder of the newest checkpoint that a run can go on from; None at its start."""
    found = [(step, path) for step, path in checkpoints(run).items() if (path / "state").is_dir()]
    return max(found, default=None)


def restore_checkpoint(folder: Path, learner: Learner) -> None:
    """Put policy, footprints, optimiser, schedule and metric back as they were.

    TrainingError where the checkpoint belongs to another network.
    """
    restore_models(folder, learner)
    state = torch.load(folder / "state" / _TRAINING, map_location="cpu", weights_only=True)
    for footprint, updates in zip(learner.footprints, state["updates"], strict=True):
        footprint.updates = updates
    learner.optimiser.load_state_dict(divided_state(learner.optimiser, state["optimiser"]))
    learner.schedule.load_state_dict(state["schedule"])
    learner.metric.restore(state["metric"])
    if state["scaler"] is not None and learner.accelerator.scaler is not None:
        learner.accelerator.scaler.load_state_dict(state["scaler"])


def restore_models(folder: Path, learner: Learner) -> None:
    """Put policy and footprints back as they were: all that measuring needs, of any checkpoint.

    TrainingError where the checkpoint belongs to another network.
    """
    files = [folder / _POLICY]
    if (folder / "unet").is_dir():
        files = sorted((folder / "unet").glob("*.safetensors"))
    policy = {name: tensor for file in files for name, tensor in load_file(file).items()}
    _put(trainable(learner.bare), policy, folder)
    for footprint in learner.footprints:
        _put(footprint.tensors, load_file(folder / f"{footprint.name}.safetensors"), folder)


@torch.no_grad()
def _put(present: Any, saved: dict[str, torch.Tensor], folder: Path) -> None:
    if present.keys() != saved.keys():
        odd = sorted(present.keys() ^ saved.keys())
        raise TrainingError(
            f"The checkpoint {folder} belongs to another network ({len(odd)} tensors differ, such "
            f"as {odd[0]}); resume with the recipe that began the run."
        )
    for name, tensor in present.items():
        tensor.copy_(divided_like(tensor, saved[name]))


def _sync_tree(folder: Path) -> None:
    """Have every file's bytes on the disk before the rename that makes them count."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
