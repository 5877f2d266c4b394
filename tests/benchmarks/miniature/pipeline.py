"""A miniature as one piece: its parts, how a caption conditions it, and saving it as a pipeline."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tests.benchmarks.miniature import parts

Kind = Literal["sd", "sdxl"]


@dataclass(frozen=True)
class Miniature:
    """The modules of one pipeline; SDXL has two tokenizers and two text encoders."""

    kind: Kind
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    tokenizers: tuple[CLIPTokenizer, ...]
    text_encoders: tuple[CLIPTextModel | CLIPTextModelWithProjection, ...]
    scheduler: DDPMScheduler

    @property
    def learned(self) -> torch.nn.ModuleList:
        """What is trained together once the VAE is done."""
        return torch.nn.ModuleList([self.unet, *self.text_encoders])


@dataclass(frozen=True)
class Condition:
    """Input of the UNet: text states (B, T, D), and for SDXL its pooled text and time ids."""

    states: torch.Tensor
    added: dict[str, torch.Tensor] | None


def assemble(
    kind: Kind, vae: AutoencoderKL, words: Sequence[str], captions: Sequence[str], size: parts.Size
) -> Miniature:
    """An untrained miniature around a VAE, with tokenizers built from the words."""
    longest = _longest(words, captions, size)
    tokens = parts.tokenizer(words, size, longest)
    if kind == "sd":
        encoder = parts.text_encoder(tokens, size)
        return Miniature(kind, vae, parts.unet(size), (tokens,), (encoder,), parts.schedule())
    # SDXL's second tokenizer fills up with "!".
    tokens_2 = parts.tokenizer(words, size, longest, pad="!")
    encoders = (parts.text_encoder(tokens, size), parts.text_encoder_2(tokens_2, size))
    return Miniature(kind, vae, parts.unet_xl(size), (tokens, tokens_2), encoders, parts.schedule())


def token_ids(mini: Miniature, captions: Sequence[str]) -> tuple[torch.Tensor, ...]:
    """Each tokenizer's ids of the captions, (N, T), cut and filled to the model's length."""
    return tuple(
        tokens(list(captions), padding="max_length", truncation=True, return_tensors="pt").input_ids
        for tokens in mini.tokenizers
    )


def condition(mini: Miniature, ids: Sequence[torch.Tensor], zeroed: torch.Tensor) -> Condition:
    """Encode token ids.

    `zeroed` (B,) bool marks rows whose text is replaced by zeros, as SDXL's pipeline does for an
    empty negative prompt; SD has no such rule and ignores it.
    """
    if mini.kind == "sd":
        return Condition(mini.text_encoders[0](ids[0]).last_hidden_state, None)
    encoded = [
        encoder(rows, output_hidden_states=True)
        for encoder, rows in zip(mini.text_encoders, ids, strict=True)
    ]
    kept = (~zeroed).to(encoded[0].hidden_states[-2].dtype)[:, None]
    states = torch.cat([text.hidden_states[-2] for text in encoded], dim=-1) * kept[:, None]
    side = float(mini.vae.config.sample_size)
    time_ids = torch.tensor([side, side, 0.0, 0.0, side, side]).repeat(len(kept), 1)
    return Condition(states, {"text_embeds": encoded[1].text_embeds * kept, "time_ids": time_ids})


def save(mini: Miniature, out: Path) -> None:
    """Save in half precision, in the layout that `from_pretrained` reads."""
    pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline
    if mini.kind == "sd":
        pipeline = StableDiffusionPipeline(
            vae=mini.vae,
            text_encoder=mini.text_encoders[0],
            tokenizer=mini.tokenizers[0],
            unet=mini.unet,
            scheduler=mini.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    else:
        pipeline = StableDiffusionXLPipeline(
            vae=mini.vae,
            text_encoder=mini.text_encoders[0],
            text_encoder_2=mini.text_encoders[1],
            tokenizer=mini.tokenizers[0],
            tokenizer_2=mini.tokenizers[1],
            unet=mini.unet,
            scheduler=mini.scheduler,
            force_zeros_for_empty_prompt=True,
            add_watermarker=False,
        )
    for module in (mini.vae, *mini.learned):
        module.half()
    pipeline.save_pretrained(out, safe_serialization=True)
    _load_in_full_precision(out)


def _load_in_full_precision(out: Path) -> None:
    """Make the text encoders load as float32 by default.

    transformers takes the saved precision for its default and diffusers does not: a pipeline loaded
    without a precision would get half its modules in each.
    """
    for path in out.glob("text_encoder*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        config["dtype"] = "float32"
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _longest(words: Sequence[str], captions: Sequence[str], size: parts.Size) -> int:
    """Room for the longest caption in steps of 8 tokens, at most CLIP's 77."""
    ruler = parts.tokenizer(words, size, 77)
    counts = [len(ids) for ids in ruler(list(captions), truncation=True).input_ids]
    return min(77, -(-max(counts) // 8) * 8)
