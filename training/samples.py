"""Images drawn from a policy in training, from fixed prompts and seeds, saved for the app."""

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from training.models import Models
from training.sampling import Sample, Sampling, draw
from training.sections import Samples


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
