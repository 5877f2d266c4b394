"""Backbones: SD1.5- and SDXL-shaped diffusers folders, loaded part by part."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from toolkit.errors import TrainingError
from training import recipe as sections
from training.denoising import Condition
from training.lora import add_lora, fuse_lora, load_lora

Family = Literal["sd", "sdxl"]

TEXT_PARTS = ("text_", "tokeni")
"""How the names of the folders begin that decide what a prompt becomes."""

MINIATURES = Path(__file__).parent / "miniatures"

_PIPELINES: dict[str, Family] = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
}
_PIPELINE_OF = {family: name for name, family in _PIPELINES.items()}


@dataclass
class Models:
    """The parts of a backbone; only tensors of the UNet are ever trained."""

    path: Path
    family: Family
    unet: Any
    vae: Any
    scheduler: Any
    tokenizers: list[Any]
    text_encoders: list[Any]

    @property
    def timesteps(self) -> int:
        return int(self.scheduler.config.num_train_timesteps)

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """(C, H, W) of one image's latents at a resolution in pixels."""
        side = resolution // self.shrinks
        return (int(self.vae.config.latent_channels), side, side)

    @property
    def empty_is_zero(self) -> bool:
        """Whether the pipeline's state without a prompt is zeros instead of the encoded empty text
        (SDXL's `force_zeros_for_empty_prompt`)."""
        index = json.loads((self.path / "model_index.json").read_text(encoding="utf-8"))
        return self.family == "sdxl" and bool(index.get("force_zeros_for_empty_prompt", True))

    @property
    def shrinks(self) -> int:
        """Factor from a side in latents to a side in pixels."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))


def resolve_path(path: str) -> Path:
    """The folder behind `path`: a folder, miniature:NAME, or hub:OWNER/NAME.

    TrainingError where it is not a diffusers pipeline folder, or the hub cannot be reached.
    """
    kind, _, name = path.partition(":")
    if kind == "hub":
        return _fetched(name)
    folder = MINIATURES / name if kind == "miniature" else Path(path)
    if not (folder / "model_index.json").is_file():
        raise TrainingError(
            f"The backbone {path} is not a diffusers folder ({folder} has no model_index.json); "
            "name a folder made by save_pretrained, miniature:sd, or hub:OWNER/NAME."
        )
    return folder


def _fetched(repository: str) -> Path:
    """A local copy of a pipeline on the hub, downloaded unless it is there already."""
    from huggingface_hub import snapshot_download

    wanted = ["model_index.json", "*/*.json", "*/*.txt", "*/*.safetensors"]
    try:
        return Path(snapshot_download(repository, allow_patterns=wanted))
    except Exception as problem:  # the hub's errors have no common ancestor
        raise TrainingError(
            f"hub:{repository} cannot be fetched ({str(problem).splitlines()[0]}); check the name "
            "and the network, or name a local diffusers folder."
        ) from problem


def family_of(folder: Path) -> Family:
    """sd or sdxl, by the pipeline's class. TrainingError names any other class."""
    kind = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
    if kind not in _PIPELINES:
        raise TrainingError(
            f"{folder} is a {kind}; this version trains {' and '.join(_PIPELINES)}."
        )
    return _PIPELINES[kind]


def load_models(path: str) -> Models:
    """Load every part in float32 on the host, frozen. TrainingError says what cannot be read."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # transformers would draw one for every part it loads
    folder = resolve_path(path)
    family = family_of(folder)
    kinds = [("", CLIPTextModel)]
    if family == "sdxl":
        kinds.append(("_2", CLIPTextModelWithProjection))
    try:
        models = Models(
            folder,
            family,
            unet=_load(UNet2DConditionModel, folder, "unet"),
            vae=_load(AutoencoderKL, folder, "vae"),
            scheduler=DDPMScheduler.from_pretrained(folder, subfolder="scheduler"),
            tokenizers=[
                CLIPTokenizer.from_pretrained(folder, subfolder=f"tokenizer{n}") for n, _ in kinds
            ],
            text_encoders=[_load(kind, folder, f"text_encoder{n}") for n, kind in kinds],
        )
    except (OSError, ValueError) as problem:
        raise TrainingError(
            f"The backbone in {folder} cannot be loaded ({' '.join(str(problem).split())}); "
            "restore the folder or name another."
        ) from problem
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text("utf-8"))
    if foreign := foreign_schedule(config):
        raise TrainingError(
            f"The noise schedule of {folder} {foreign}; this version trains schedules of discrete "
            "betas with epsilon or v_prediction, as SD1.5's and SDXL's. Name another backbone."
        )
    if models.vae.config.get("shift_factor") or (family == "sd" and _latents_mean(models)):
        raise TrainingError(
            f"The autoencoder of {folder} shifts its latents, which {_PIPELINE_OF[family]} does "
            "not undo when it draws; name a backbone with the autoencoder of its family."
        )
    return models


def foreign_schedule(config: Mapping[str, Any]) -> str:
    """Why a scheduler's config is none that DDPM's forward process describes, as a clause; empty
    where it is one.

    A sampler's own options do not matter: DDIM, PNDM, Euler, DPM-Solver and their kin share the
    schedule and differ in how they walk it.
    """
    kind = config.get("_class_name", "a scheduler without a name")
    if config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        return f"is {kind} for flow matching"
    if config.get("timestep_type") == "continuous" or config.get("sigma_data") is not None:
        return f"is {kind} over continuous noise levels (EDM)"
    if config.get("trained_betas") is None and config.get("beta_schedule") is None:
        return f"is {kind}, which names no betas"
    if (prediction := config.get("prediction_type", "epsilon")) not in ("epsilon", "v_prediction"):
        return f"predicts {prediction!r}"
    return ""


def _latents_mean(models: Models) -> list[float] | None:
    """Mean of each channel of the latents, where the autoencoder states it."""
    return models.vae.config.get("latents_mean")  # type: ignore[no-any-return]


def _load(kind: Any, folder: Path, part: str) -> Any:
    module = kind.from_pretrained(folder, subfolder=part, torch_dtype=torch.float32)
    return module.requires_grad_(False).eval()


def hash_parts(models: Models, parts: Sequence[str] | None = None) -> dict[str, str]:
    """sha256 of the backbone's folders by name: `parts` of vae, text, unet and scheduler, or all.

    Reads every byte of them (15 GB for SDXL in float32), so do it once a run.
    """
    names = [p.name for p in sorted(models.path.iterdir()) if p.is_dir()]
    wanted = ("vae", "text", "unet", "scheduler") if parts is None else tuple(parts)
    chosen = [
        name
        for name in names
        if name in wanted or ("text" in wanted and name.startswith(TEXT_PARTS))
    ]
    return {name: hash_folder(models.path / name) for name in chosen}


def hash_folder(folder: Path) -> str:
    """sha256 over the names and bytes of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as stream:
            digest.update(path.name.encode())
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def prepare_trainable(models: Models, section: sections.Backbone) -> None:
    """Mark what trains: LoRA adapters, fresh (B = 0, so ell is 0 at step 0) or those of
    `section.adapter`, or the whole UNet, with that adapter added to its weights.

    The reference is the network as this function leaves it. TrainingError where the autoencoder
    cannot divide `section.resolution`, or the adapters do not fit.
    """
    _check_resolution(models, section.resolution)
    if section.train == "full":
        if section.adapter is not None:
            fuse_lora(models.unet, section.adapter, section.lora)
        models.unet.requires_grad_(True)
    elif section.adapter is not None:
        load_lora(models.unet, section.adapter, section.lora)
    else:
        add_lora(models.unet, section.lora)
    wanted = {
        name: parameter
        for name, parameter in models.unet.named_parameters()
        if section.train == "full" or ".lora_" in name
    }
    if frozen := [name for name, parameter in wanted.items() if not parameter.requires_grad]:
        raise TrainingError(
            f"{len(frozen)} of the {len(wanted)} tensors that should train are frozen, such as "
            f"{frozen[0]}; report this with the versions of peft and diffusers."
        )


def _check_resolution(models: Models, resolution: int) -> None:
    """Most autoencoders shrink by 8, which every recipe's resolution is a multiple of."""
    if resolution % models.shrinks:
        above = -(-resolution // models.shrinks) * models.shrinks
        raise TrainingError(
            f"backbone.resolution is {resolution}, and the autoencoder of {models.path} divides "
            f"sides by {models.shrinks}; set it to a multiple of {models.shrinks}, such as {above}."
        )


@torch.no_grad()
def encode_prompts(models: Models, prompts: Sequence[str]) -> tuple[torch.Tensor, Any]:
    """Hidden states (N, tokens, width) and, for SDXL, the pooled embedding (N, width).

    SD: last states of the one encoder. SDXL: penultimate states of both, joined; the pooled output
    is the second's.
    """
    device = models.text_encoders[0].device
    states, pooled = [], None
    for tokenizer, encoder in zip(models.tokenizers, models.text_encoders, strict=True):
        tokens = tokenizer(
            list(prompts),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids.to(device)
        out = encoder(tokens, output_hidden_states=models.family == "sdxl")
        if models.family == "sd":
            return out[0], None
        states.append(out.hidden_states[-2])
        pooled = out[0]
    return torch.cat(states, dim=-1), pooled


@torch.no_grad()
def encode_images(models: Models, pixels: torch.Tensor) -> torch.Tensor:
    """Posterior mean and log-variance of images (N, 3, H, W) in [-1, 1], joined: (N, 2C, h, w)."""
    posterior = models.vae.encode(pixels).latent_dist
    return torch.cat([posterior.mean, posterior.logvar], dim=1)


def sample_latents(models: Models, posterior: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Latents in the UNet's scale from posteriors (R, 2C, h, w) and noise (R, C, h, w).

    Where an SDXL autoencoder states `latents_mean` and `latents_std`, each channel is centred and
    scaled by them, as its pipeline undoes when it draws.
    """
    mean, logvar = posterior.chunk(2, dim=1)
    latents = mean + torch.exp(0.5 * logvar) * noise
    if (centre := _latents_mean(models)) is not None:
        centre_and_spread = torch.tensor([centre, models.vae.config.latents_std]).to(latents)
        shift, spread = centre_and_spread.view(2, 1, -1, 1, 1)
        latents = (latents - shift) / spread
    return latents * models.vae.config.scaling_factor


def condition_of(
    states: torch.Tensor, pooled: torch.Tensor | None, time_ids: torch.Tensor
) -> Condition:
    """The UNet's condition for R images; SD ignores the time ids."""
    if pooled is None:
        return Condition(states)
    return Condition(states, pooled, time_ids)
