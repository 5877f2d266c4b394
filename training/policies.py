"""What can be sampled from: a diffusers folder, a miniature, a run, or one of its checkpoints."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from toolkit.errors import TrainingError
from training.adapters import WEIGHTS, load_lora
from training.checkpoint import checkpoints
from training.models import family_of, resolve_path
from training.recipe import load_recipe
from training.sections import Lora


@dataclass(frozen=True)
class Policy:
    """A backbone and what a run made of it."""

    base: Path
    """A diffusers folder."""
    checkpoint: Path | None = None
    """The folder of a checkpoint; None for the backbone as it is."""
    lora: Lora | None = None
    """The shape of the checkpoint's adapters; None where it holds a whole UNet."""

    def files(self) -> list[Path]:
        """The weights that decide what is drawn."""
        base = sorted(self.base.glob("*/*.safetensors"))
        trained = sorted(self.checkpoint.rglob("*.safetensors")) if self.checkpoint else []
        return base + [p for p in trained if p.name == WEIGHTS or p.parent.name == "unet"]

    def others(self) -> list[Path]:
        """The backbone's other files: noise schedule, tokenizers, configs, weights as .bin."""
        parts = [path for path in sorted(self.base.glob("*/**/*")) if path.is_file()]
        return [path for path in parts if path.suffix != ".safetensors"]


def policy_of(spec: str) -> Policy:
    """The policy behind `miniature:sd`, `hub:OWNER/NAME`, a diffusers folder, a checkpoint, or a
    run (its last one).

    TrainingError says what lies there instead.
    """
    folder = Path(spec)
    if spec.startswith(("miniature:", "hub:")) or (folder / "model_index.json").is_file():
        return Policy(resolve_path(spec))
    if (folder / "recipe.yaml").is_file():
        return _checkpoint(folder, _last(folder))
    if (folder.parent.parent / "recipe.yaml").is_file():
        return _checkpoint(folder.parent.parent, folder)
    raise TrainingError(
        f"{spec} is no model (neither a diffusers folder, nor a run, nor RUN/checkpoints/step-N); "
        "name one of these, or miniature:sd."
    )


def load_pipeline(policy: Policy, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """The diffusers pipeline of a policy, ready to draw."""
    from diffusers import DiffusionPipeline, UNet2DConditionModel
    from diffusers.utils import logging

    logging.disable_progress_bar()
    extra: dict[str, Any] = {}
    if family_of(policy.base) == "sd":  # a checker that blackens images would be scored, too
        extra = {"safety_checker": None, "requires_safety_checker": False}
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            policy.base, torch_dtype=dtype, local_files_only=True, **extra
        )
        if policy.checkpoint is not None and policy.lora is None:
            pipeline.unet = UNet2DConditionModel.from_pretrained(
                policy.checkpoint, subfolder="unet", torch_dtype=dtype
            )
    except (OSError, ValueError) as problem:
        raise TrainingError(
            f"The model in {policy.checkpoint or policy.base} cannot be loaded "
            f"({' '.join(str(problem).split())}); restore the folder or name another."
        ) from problem
    if policy.checkpoint is not None and policy.lora is not None:
        load_lora(pipeline.unet, policy.checkpoint, policy.lora)
        pipeline.unet.eval()  # adapters with dropout come in training mode
        if dtype != torch.float32:
            pipeline.unet.to(dtype)
    return pipeline.to(device)


def identity(policy: Policy) -> dict[str, str]:
    """sha256 over the files that decide what is drawn, of the weights and of what is beside them:
    another model under an old name is noticed."""
    weights = hashlib.sha256(repr(policy.lora).encode())
    for file in policy.files():
        weights.update(_sha256(file))
    others = hashlib.sha256()
    for file in policy.others():
        others.update(str(file.relative_to(policy.base)).encode() + _sha256(file))
    return {"weights": weights.hexdigest(), "others": others.hexdigest()}


def _sha256(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _last(run: Path) -> Path:
    found = checkpoints(run)
    if not found:
        raise TrainingError(f"The run {run} has no checkpoint yet; name another, or let it go on.")
    return found[max(found)]


def _checkpoint(run: Path, folder: Path) -> Policy:
    backbone = load_recipe(run / "recipe.yaml").backbone
    base = resolve_path(backbone.path)
    if backbone.train == "full" and (folder / "unet").is_dir():
        return Policy(base, folder)
    if backbone.train == "lora" and (folder / WEIGHTS).is_file():
        return Policy(base, folder, backbone.lora)
    known = ", ".join(path.name for path in checkpoints(run).values()) or "none"
    raise TrainingError(
        f"{folder} is no whole checkpoint of {run} (checkpoints: {known}); name one of them."
    )
