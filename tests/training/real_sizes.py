"""SD1.5 and SDXL in their published sizes, with random weights, saved by diffusers itself.

The numbers are those of the config files that the published weights come with.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.benchmarks.miniature import parts

WORDS = ["a", "square", "number"]


def sd15_unet() -> UNet2DConditionModel:
    """859,520,964 parameters."""
    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        cross_attention_dim=768,
        attention_head_dim=8,
    )


def sdxl_unet() -> UNet2DConditionModel:
    """2,567,463,684 parameters."""
    return UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        cross_attention_dim=2048,
        attention_head_dim=(5, 10, 20),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def _vae(side: int) -> AutoencoderKL:
    blocks = 4
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=side,
    )


def _clip(words: Any, width: int, layers: int, heads: int, **more: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=77,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        **more,
    )


def _schedule() -> DDPMScheduler:
    return parts.schedule()


def save_sd15(folder: Path) -> Path:
    """A StableDiffusionPipeline of SD1.5's size in half precision, about 2 GB."""
    torch.manual_seed(0)
    words = parts.tokenizer(WORDS, parts.Size(), 77)
    pipeline = StableDiffusionPipeline(
        vae=_vae(512),
        text_encoder=CLIPTextModel(_clip(words, 768, 12, 12)),
        tokenizer=words,
        unet=sd15_unet(),
        scheduler=_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder)
    return folder


def save_sdxl(folder: Path) -> Path:
    """A StableDiffusionXLPipeline of SDXL's size in half precision, about 7 GB."""
    torch.manual_seed(0)
    words = parts.tokenizer(WORDS, parts.Size(), 77)
    words_2 = parts.tokenizer(WORDS, parts.Size(), 77, pad="!")
    second = _clip(words_2, 1280, 32, 20, projection_dim=1280, hidden_act="gelu")
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(1024),
        text_encoder=CLIPTextModel(_clip(words, 768, 12, 12)),
        text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=words,
        tokenizer_2=words_2,
        unet=sdxl_unet(),
        scheduler=_schedule(),
        add_watermarker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder)
    return folder
