"""Images from prompts: the same noise for a prompt and seed, whatever the model or the batch.

`draw` draws them from a pipeline, `draw_samples` from the policy of a run in training.
`policy_of` names what can be drawn from: a diffusers folder, a miniature, a run, a checkpoint.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image

from toolkit.errors import InputError, TrainingError
from training.checkpoint import checkpoints
from training.lora import WEIGHTS, load_lora
from training.models import Models, family_of, foreign_schedule, resolve_path
from training.recipe import Lora, Samples, load_recipe

SAMPLERS: dict[str, str | None] = {
    "own": None,
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
}
"""Name -> diffusers' scheduler; `own` leaves the backbone's."""


class Sample(NamedTuple):
    """One image to be drawn."""

    prompt_index: int
    prompt: str
    seed: int


class Sampling(NamedTuple):
    """How images are drawn."""

    sampler: str = "ddim"
    steps: int = 30
    guidance: float = 7.5
    side: int | None = None
    """Of the images, in pixels; None for the backbone's own."""


def noise_of(prompt: str, seed: int) -> torch.Generator:
    """The generator of all noise in one image, on the host: f(prompt, seed) and nothing else."""
    digest = hashlib.blake2b(f"sample\x1f{seed}\x1f{prompt}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def use_sampler(pipeline: Any, name: str) -> None:
    """Exchange the pipeline's scheduler for `SAMPLERS[name]`, keeping its noise schedule."""
    import diffusers

    if SAMPLERS[name] is None:
        return
    config = pipeline.scheduler.config
    if foreign := foreign_schedule(config):
        raise InputError(
            f"The noise schedule of this model {foreign}, and the sampler {name} knows schedules "
            "of discrete betas; use its own sampler (--sampler own)."
        )
    kind = getattr(diffusers, str(SAMPLERS[name]))
    # DDIM and DDPM clamp latents to [-1, 1] unless a config says otherwise; few say anything.
    unclamped = {"clip_sample": False} if "clip_sample" in signature(kind).parameters else {}
    pipeline.scheduler = kind.from_config({**unclamped, **config})


def draw(
    pipeline: Any, samples: Sequence[Sample], sampling: Sampling, batch: int = 50
) -> Iterator[tuple[list[Sample], list[Image.Image]]]:
    """Draw the samples in batches, each with a noise of its own, as they are finished."""
    pipeline.set_progress_bar_config(disable=True)
    use_sampler(pipeline, sampling.sampler)
    for start in range(0, len(samples), batch):
        some = list(samples[start : start + batch])
        made = pipeline(
            [sample.prompt for sample in some],
            generator=[noise_of(sample.prompt, sample.seed) for sample in some],
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance,
            height=sampling.side,
            width=sampling.side,
        )
        yield some, list(made.images)


@torch.no_grad()
def draw_samples(
    models: Models, unet: Any, section: Samples, resolution: int, folder: Path | None
) -> list[Path]:
    """Save one PNG a prompt under `folder`, 00.png and so on, and prompts.txt; their paths.

    A prompt starts from its own noise (`sampling.noise_of`), whatever else is drawn. Without a
    folder they are drawn and not kept: the passes of a divided network need every process.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "prompts.txt").write_text("\n".join(section.prompts) + "\n", encoding="utf-8")
    wanted = [Sample(k, prompt, section.seed) for k, prompt in enumerate(section.prompts)]
    how = Sampling("dpm", section.steps, section.guidance, resolution)
    written = []
    for some, images in draw(_pipeline(models, unet), wanted, how, batch=1):
        if folder is not None:
            written.append(folder / f"{some[0].prompt_index:02d}.png")
            images[0].save(written[-1])
    return written


def _pipeline(models: Models, unet: Any) -> Any:
    if models.family == "sd":
        return StableDiffusionPipeline(
            vae=models.vae,
            text_encoder=models.text_encoders[0],
            tokenizer=models.tokenizers[0],
            unet=unet,
            scheduler=models.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    return StableDiffusionXLPipeline(
        vae=models.vae,
        text_encoder=models.text_encoders[0],
        text_encoder_2=models.text_encoders[1],
        tokenizer=models.tokenizers[0],
        tokenizer_2=models.tokenizers[1],
        unet=unet,
        scheduler=models.scheduler,
        add_watermarker=False,
    )


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
    """The policy of `miniature:sd`, `hub:OWNER/NAME`, a diffusers folder, a checkpoint, or a
    run (its last one).

    TrainingError if it is none of these.
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


def policies_of(specs: Sequence[str]) -> dict[str, Policy]:
    """The policies of NAME=MODEL arguments, in order; MODEL alone is named after its folder.

    InputError for two of the same name.
    """
    policies: dict[str, Policy] = {}
    for spec in specs:
        name, sign, model = spec.partition("=")
        if not sign:
            name, model = spec.rstrip("/").rpartition("/")[2], spec
        if not name:
            raise InputError(f"{spec!r} has no name before its '='; write NAME=MODEL.")
        if name in policies:
            raise InputError(
                f"Two models are called {name!r}; give each a name of its own: NAME={model}."
            )
        policies[name] = policy_of(model)
    return policies


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
        pipeline.unet.eval()  # adapters with dropout are loaded in training mode
        if dtype != torch.float32:
            pipeline.unet.to(dtype)
    return pipeline.to(device)


def identity(policy: Policy) -> dict[str, str]:
    """sha256 of a policy's weights and of its other files, to notice another model under an old
    name."""
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
    saved = checkpoints(run)
    if not saved:
        raise TrainingError(f"The run {run} has no checkpoint yet; name another, or train longer.")
    return saved[max(saved)]


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
