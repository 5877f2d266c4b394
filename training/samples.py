"""Images drawn from a policy in training, from fixed prompts and seeds, saved for the app."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

from training.models import Models
from training.recipe import Samples


@torch.no_grad()
def draw_samples(
    models: Models, unet: Any, section: Samples, resolution: int, folder: Path
) -> list[Path]:
    """Save one PNG a prompt under `folder`, 00.png and so on, and prompts.txt; their paths.

    Prompt k starts from the noise of seed + k, whatever else is drawn.
    """
    pipeline = _pipeline(models, unet)
    pipeline.set_progress_bar_config(disable=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts.txt").write_text("\n".join(section.prompts) + "\n", encoding="utf-8")
    written = []
    for k, prompt in enumerate(section.prompts):
        image = pipeline(
            prompt,
            generator=torch.Generator().manual_seed(section.seed + k),
            num_inference_steps=section.steps,
            guidance_scale=section.guidance,
            height=resolution,
            width=resolution,
        ).images[0]
        written.append(folder / f"{k:02d}.png")
        image.save(written[-1])
    return written


def _pipeline(models: Models, unet: Any) -> Any:
    scheduler = DPMSolverMultistepScheduler.from_config(models.scheduler.config)
    if models.family == "sd":
        return StableDiffusionPipeline(
            vae=models.vae,
            text_encoder=models.text_encoders[0],
            tokenizer=models.tokenizers[0],
            unet=unet,
            scheduler=scheduler,
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
        scheduler=scheduler,
        add_watermarker=False,
    )
