"""Pre-train a miniature Stable Diffusion or SDXL from scratch, and save it as a pipeline."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from rich.progress import Progress

from tests.benchmarks.miniature import caption_data as captioned
from tests.benchmarks.miniature import parts
from tests.benchmarks.miniature import pipeline as miniature
from tests.benchmarks.miniature.denoiser import train_denoiser
from tests.benchmarks.miniature.pipeline import Kind
from tests.benchmarks.miniature.train_loop import progress_report
from tests.benchmarks.miniature.vae import encode_all, open_up, train_autoencoder


@dataclass(frozen=True)
class Plan:
    """Length and settings of a pre-training. The defaults made the shipped miniatures."""

    steps: int = 6000
    batch: int = 32
    rate: float = 3e-3
    vae_steps: int = 4000
    vae_batch: int = 8
    vae_rate: float = 2e-3
    empty: float = 0.1
    seed: int = 0
    threads: int | None = None
    size: parts.Size = field(default_factory=parts.Size)


def pretrain(
    kind: Kind,
    data: captioned.Captioned,
    out: Path,
    plan: Plan | None = None,
    vae: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Pre-train a miniature on captioned images and save it as a pipeline under `out`.

    With `vae` a saved autoencoder is trained for the plan's `vae_steps` more (0: used as it is)
    instead of a new one. Returns the mean losses over the last tenth of the steps and the seconds
    taken; `pretraining.json` beside the weights records them with the plan.
    """
    plan = plan or Plan()
    progress = progress or Progress(disable=True)
    began = time.monotonic()
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    with progress:
        autoencoder, figures = _autoencoder(data, plan, vae, progress)
        latents = encode_all(autoencoder, data.images)
        # So that a saved autoencoder leads to the same UNet as one trained just now.
        torch.manual_seed(plan.seed)
        mini = miniature.assemble(kind, autoencoder, data.words, data.captions, plan.size)
        figures |= train_denoiser(
            mini,
            latents,
            data.captions,
            plan.steps,
            plan.seed,
            progress_report(progress, f"{kind}: UNet and text", plan.steps),
            batch=plan.batch,
            rate=plan.rate,
            empty=plan.empty,
        )
    miniature.save(mini, out)
    figures["seconds"] = round(time.monotonic() - began, 1)
    record = {"kind": kind, "data": data.name, "images": len(data.captions)}
    record |= {"plan": asdict(plan), "figures": figures}
    (out / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return figures


def _autoencoder(
    data: captioned.Captioned, plan: Plan, saved: Path | None, progress: Progress
) -> tuple[AutoencoderKL, dict[str, float]]:
    if saved is not None:
        vae = AutoencoderKL.from_pretrained(saved, torch_dtype=torch.float32)
    else:
        vae = parts.autoencoder(plan.size)
        open_up(vae)
    if plan.vae_steps == 0:
        return vae.eval(), {}
    figures = train_autoencoder(
        vae,
        data.images,
        plan.vae_steps,
        plan.seed,
        progress_report(progress, "VAE", plan.vae_steps),
        batch=plan.vae_batch,
        rate=plan.vae_rate,
    )
    return vae, figures
