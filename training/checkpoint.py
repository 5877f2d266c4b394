"""Checkpoints: complete or absent, in formats that diffusers loads by itself.

    RUN/checkpoints/step-000500/pytorch_lora_weights.safetensors    or unet/, where all of it trains
                                policy.safetensors                  adapters under our own names
                                ema_0.9999.safetensors              a footprint's trainable tensors
                                lora_kohya.safetensors              adapters as others read them
                                manifest.json                       hashes of all files
                                state/                              what only a resumed run needs

Only the two newest checkpoints keep their `state/`, which is the larger part in full fine-tuning:
a run is resumed from the one before the newest where that was damaged.

A resumed run ends with the bits of one that was never stopped: every random draw has a key, so a
position is an integer, and the checkpoint has the rest. Rows past the checkpoint are set aside,
never deleted, and written again.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from toolkit.errors import TrainingError
from toolkit.files.atomic import (
    parts,
    sync_folder,
    unlike_manifest,
    write_manifest,
    write_whole,
)
from toolkit.store import Store
from toolkit.store.runs import run_about
from training.devices import Gathered, divided_like, divided_state, undivided
from training.ema import trainable
from training.metrics_log import forget_after
from training.models import Models
from training.pairs import on_disk
from training.recipe import Recipe, stored_recipe
from training.step import Learner

_POLICY = "policy.safetensors"
_KOHYA = "lora_kohya.safetensors"
_TRAINING = "training.pt"
_UNWRITTEN = re.compile(
    r"inline_container|PytorchStreamWriter|iostream error|cannot be opened|Parent directory"
)
"""How torch.save reports a full or broken disk; its errors have no type of their own."""


def checkpoint_folder(run: Path, step: int) -> Path:
    """RUN/checkpoints/step-NNNNNN."""
    return run / "checkpoints" / f"step-{step:06d}"


def checkpoints(run: Path) -> dict[int, Path]:
    """The complete checkpoints of a run by step."""
    folders = sorted((run / "checkpoints").glob("step-*"))
    numbered = {path: path.name.removeprefix("step-") for path in folders if path.is_dir()}
    return {int(number): path for path, number in numbered.items() if number.isdigit()}


def save_checkpoint(
    run: Path,
    step: int,
    models: Models,
    learner: Learner,
    gathered: Gathered | None = None,
) -> Path:
    """Write the checkpoint of `step` finished steps under another name, then rename it; its path.

    Policy and optimiser are taken from `gathered` where the learner's are divided; the files are
    the same. Call it on one process, once every rank's rows are on the disk. TrainingError where it
    cannot be written; then the checkpoint before it remains and nothing unfinished is left.
    """
    final = checkpoint_folder(run, step)
    aside = final.with_name(f".{final.name}.unfinished")
    try:
        return _save(final, aside, step, models, learner, gathered)
    except (OSError, RuntimeError, SafetensorError) as problem:  # each library has its own
        if isinstance(problem, RuntimeError) and not _UNWRITTEN.search(str(problem)):
            raise
        room = shutil.disk_usage(run).free / 1e6
        raise TrainingError(
            f"The checkpoint of step {step} could not be written to {run} "
            f"({' '.join(str(problem).split())}; {room:,.1f} MB were free there); rows and "
            "checkpoints before it are complete. Free space or repair the folder, then type "
            "`outvoted resume`."
        ) from problem
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _save(
    final: Path,
    aside: Path,
    step: int,
    models: Models,
    learner: Learner,
    gathered: Gathered | None,
) -> Path:
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "state").mkdir(parents=True)
    unet: Any = learner.policy
    if gathered is not None:
        unet = undivided(unet, gathered.policy)
    _save_policy(aside, learner.recipe, models, unet)
    for footprint in learner.footprints:
        tensors = {name: value.cpu().contiguous() for name, value in footprint.tensors.items()}
        save_file(tensors, aside / f"{footprint.name}.safetensors")
    _save_state(aside / "state", step, learner, gathered)
    write_manifest(aside / "state")
    _sync_tree(aside, write_manifest(aside).stat().st_mode)
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    sync_folder(final.parent)
    for path in list(checkpoints(final.parent.parent).values())[:-2]:
        if (path / "state").exists():
            dropped = (path / "state").rename(path / ".state.unfinished")
            shutil.rmtree(dropped, ignore_errors=True)
    return final


def _save_policy(folder: Path, recipe: Recipe, models: Models, unet: Any) -> None:
    if recipe.backbone.train == "full":
        unet.save_pretrained(folder / "unet")
        return
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
    from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_kohya
    from peft.utils import get_peft_model_state_dict

    pipeline = StableDiffusionXLPipeline if models.family == "sdxl" else StableDiffusionPipeline
    tensors = {name: p.detach().cpu().contiguous() for name, p in trainable(unet).items()}
    save_file(tensors, folder / _POLICY)
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    about = unet.peft_config["default"].to_dict()  # or alpha is taken for the rank on loading
    pipeline.save_lora_weights(folder, unet_lora_layers=state, unet_lora_adapter_metadata=about)
    # Only diffusers reads those metadata; others take alpha from a tensor of each layer.
    layers = {f"unet.{name}": value for name, value in get_peft_model_state_dict(unet).items()}
    kohya = convert_state_dict_to_kohya(layers)
    alpha = torch.tensor(float(recipe.backbone.lora.alpha))
    kohya |= {name: alpha.clone() for name in kohya if name.endswith(".alpha")}
    save_file({name: value.contiguous() for name, value in kohya.items()}, folder / _KOHYA)


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


def resumable(run: Path) -> dict[int, Path]:
    """The checkpoints that a run can resume from, by step."""
    return {step: path for step, path in checkpoints(run).items() if (path / "state").is_dir()}


def restore_checkpoint(folder: Path, learner: Learner) -> None:
    """Load policy, footprints, optimiser, schedule and metric.

    TrainingError where the checkpoint belongs to another network.
    """
    restore_models(folder, learner)
    training = folder / "state" / _TRAINING
    state = _loaded(training, torch.load, map_location="cpu", weights_only=True)
    for footprint, updates in zip(learner.footprints, state["updates"], strict=True):
        footprint.updates = updates
    learner.optimiser.load_state_dict(divided_state(learner.optimiser, state["optimiser"]))
    learner.schedule.load_state_dict(state["schedule"])
    learner.metric.restore(state["metric"])
    if state["scaler"] is not None and learner.accelerator.scaler is not None:
        learner.accelerator.scaler.load_state_dict(state["scaler"])


def restore_models(folder: Path, learner: Learner) -> None:
    """Load policy and footprints: all that measuring needs, from any checkpoint.

    TrainingError where the checkpoint is damaged or belongs to another network.
    """
    if learner.accelerator.is_main_process and (problem := unlike_manifest(folder)):
        raise _damaged(folder, problem)
    files = [folder / _POLICY]
    if (folder / "unet").is_dir():
        files = sorted((folder / "unet").glob("*.safetensors"))
    policy = {name: tensor for file in files for name, tensor in _loaded(file, load_file).items()}
    _put(trainable(learner.policy), policy, folder)
    for footprint in learner.footprints:
        tensors = _loaded(folder / f"{footprint.name}.safetensors", load_file)
        _put(footprint.tensors, tensors, folder)


def _loaded(file: Path, load: Callable[..., Any], **how: Any) -> Any:
    """What a file of a checkpoint holds; TrainingError where it cannot be read."""
    try:
        return load(file, **how)
    except (OSError, RuntimeError, EOFError, SafetensorError, UnpicklingError) as problem:
        why = f"{file} cannot be read: {' '.join(str(problem).split())}"
        folder = file.parent.parent if file.parent.name == "state" else file.parent
        raise _damaged(folder, why) from problem


def _damaged(folder: Path, why: str) -> TrainingError:
    run = folder.parent.parent
    others = [path for path in resumable(run).values() if path != folder]
    whole = [path for path in others if unlike_manifest(path) is None]
    advice = "restore it from a copy, or train under another --run"
    if whole:
        step = int(max(whole).name.removeprefix("step-"))
        advice = (
            f"the checkpoint of step {step} is whole: restore the damaged one from a copy, or type "
            f"`outvoted resume {run.parent.parent} --run {run.name} --checkpoint {step}`"
        )
    return TrainingError(f"The checkpoint {folder} is damaged ({why}); {advice}.")


@torch.no_grad()
def _put(present: Any, saved: dict[str, torch.Tensor], folder: Path) -> None:
    if present.keys() != saved.keys():
        odd = sorted(present.keys() ^ saved.keys())
        raise TrainingError(
            f"The checkpoint {folder} belongs to another network ({len(odd)} tensors differ, such "
            f"as {odd[0]}); resume with the recipe that the run was started with."
        )
    for name, tensor in present.items():
        tensor.copy_(divided_like(tensor, saved[name]))


def _sync_tree(folder: Path, mode: int) -> None:
    """Put every file's bytes on the disk before the rename that makes them valid, and let whoever
    may read the run's other files read them: safetensors makes files that only their owner can."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
            continue
        path.chmod(stat.S_IMODE(mode))
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def recipe_of(store: Store, run: str, steps: int | None, at: int | None = None) -> Recipe:
    """The recipe that a run was started with, to be resumed from its checkpoint of step `at`.

    TrainingError where there is nothing left to do, InputError where the store is not local.
    """
    about = run_about(on_disk(store), run)
    recipe = stored_recipe(store, run)
    # An earlier attempt may have been given more steps than the recipe has.
    planned = about.get("planned_steps", recipe.steps)
    recipe = recipe.model_copy(update={"steps": steps or planned})
    done = about.get("steps", 0) if about.get("finished") and at is None else 0
    if done >= recipe.steps:
        raise TrainingError(
            f"Run {run!r} has done its {done} steps; ask for more with --steps, or train under "
            "another --run."
        )
    reached, _ = starting_point(store, run, at)
    if reached > recipe.steps:
        raise TrainingError(
            f"Run {run!r} has a checkpoint of step {reached} already, beyond the {recipe.steps} "
            f"asked for; ask for {reached + 1} or more with --steps, or train under another --run."
        )
    return recipe


def set_aside(store: Store, run: str, step: int) -> int:
    """Move trajectory rows and checkpoints past the checkpoint of `step` out of the run's; how many
    rows.

    They are moved to RUN/set_aside/N/; metrics past the step are deleted.
    """
    folder = store.run(run)
    attempt = folder / "set_aside" / str(len(list((folder / "set_aside").glob("*"))))
    for later, path in checkpoints(folder).items():
        if later > step:
            (attempt / "checkpoints").mkdir(parents=True, exist_ok=True)
            path.rename(attempt / "checkpoints" / path.name)
    moved = 0
    for rank in sorted((folder / "trajectory").glob("rank-*")):
        for part in parts(rank):
            moved += _split(part, attempt / rank.name / part.name, step)
    forget_after(folder, step)
    return moved


def _split(part: Path, aside: Path, step: int) -> int:
    """Keep the rows up to the checkpoint of `step` in a part and move the others.

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


def starting_point(store: Store, run: str, at: int | None = None) -> tuple[int, Path | None]:
    """The step that a run can resume from, and its checkpoint; (0, None) before the first.

    `at`: the step that is wanted. TrainingError where a run cannot resume from it.
    """
    there = resumable(store.run(run))
    if at is None:
        return max(there.items(), default=(0, None))
    if at not in there:
        raise TrainingError(
            f"Run {run!r} cannot be resumed from step {at} (steps: "
            f"{', '.join(map(str, there)) or 'none'}); name one of them with --checkpoint."
        )
    return at, there[at]


def check_unchanged(about: dict[str, Any], facts: dict[str, Any]) -> None:
    """TrainingError naming what has changed since the run began (`about`: its run.json)."""
    names = {
        "pairs_content": "its pairs (ids, prompts or images)",
        "labels_content": "the labels of its label set",
        "weights_content": "its stored weights (the finding they come from)",
        "reference": "its reference weights",
        "backbone_content": "its backbone (the UNet's files or its noise schedule)",
        "encoders_content": "its VAE or text encoders",
        "pairs_per_step": "the number of pairs a step (batch size x accumulation x processes)",
        "models": "its models",
    }
    # What an older version did not record cannot be compared.
    changed = [words for key, words in names.items() if about.get(key, facts[key]) != facts[key]]
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
