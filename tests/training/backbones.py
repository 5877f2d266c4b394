"""Really tiny backbones with random weights: true architectures, saved by diffusers itself."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from tests.benchmarks.miniature import parts

TINY = parts.Size(
    image=16,
    vae_channels=(8, 8),
    unet_channels=(8, 16),
    text_width=16,
    text_width_2=16,
    groups=4,
)
WORDS = ["a", "square", "number"]


def tiny_sd(folder: Path, seed: int = 0) -> Path:
    """A saved StableDiffusionPipeline: 16 px images, 4 x 8 x 8 latents."""
    torch.manual_seed(seed)
    words = parts.tokenizer(WORDS, TINY, 16)
    StableDiffusionPipeline(
        vae=parts.autoencoder(TINY),
        text_encoder=parts.text_encoder(words, TINY),
        tokenizer=words,
        unet=parts.unet(TINY),
        scheduler=parts.schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def tiny_sdxl(folder: Path, seed: int = 0) -> Path:
    """A saved StableDiffusionXLPipeline of the same size."""
    torch.manual_seed(seed)
    words = parts.tokenizer(WORDS, TINY, 16)
    words_2 = parts.tokenizer(WORDS, TINY, 16, pad="!")
    StableDiffusionXLPipeline(
        vae=parts.autoencoder(TINY),
        text_encoder=parts.text_encoder(words, TINY),
        text_encoder_2=parts.text_encoder_2(words_2, TINY),
        tokenizer=words,
        tokenizer_2=words_2,
        unet=parts.unet_xl(TINY),
        scheduler=parts.schedule(),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder
