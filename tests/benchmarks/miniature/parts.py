"""The parts of a miniature pipeline, untrained: the real classes at a small size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tests.benchmarks.miniature.bpe import learn_merges

Encoder = TypeVar("Encoder", bound=torch.nn.Module)

START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Size:
    """Widths of a miniature; the defaults are those of the shipped ones."""

    image: int = 64
    vae_channels: tuple[int, ...] = (16, 16, 32, 64)
    latent_channels: int = 4
    unet_channels: tuple[int, ...] = (32, 64)
    text_width: int = 64
    text_width_2: int = 64
    text_layers: int = 2
    groups: int = 4
    tokens: int = 2048

    @property
    def latent(self) -> int:
        """Side of the latent square."""
        return int(self.image // 2 ** (len(self.vae_channels) - 1))


def autoencoder(size: Size) -> AutoencoderKL:
    blocks = len(size.vae_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=size.vae_channels,
        layers_per_block=1,
        latent_channels=size.latent_channels,
        norm_num_groups=size.groups,
        sample_size=size.image,
        force_upcast=False,
    )


def tokenizer(words: Sequence[str], size: Size, longest: int, pad: str = END) -> CLIPTokenizer:
    """A CLIP tokenizer whose merges spell out the given words.

    As in CLIP the vocabulary begins with every byte, alone and at a word's end, so that an unknown
    word falls apart into letters and nothing is ever outside the vocabulary. `longest` is the
    number of tokens a prompt may have, both ends included.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    merges = _merges(words, size.tokens)
    symbols = dict.fromkeys([*letters, *(left + right for left, right in merges), START, END])
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad, model_max_length=longest)


def _merges(words: Sequence[str], limit: int) -> list[tuple[str, str]]:
    rules = CLIPTokenizer().backend_tokenizer
    split = (
        piece
        for word in words
        for piece, _ in rules.pre_tokenizer.pre_tokenize_str(rules.normalizer.normalize_str(word))
    )
    return learn_merges(list(split), limit)


def text_encoder(words: CLIPTokenizer, size: Size) -> CLIPTextModel:
    return _telling_apart(CLIPTextModel(_text_config(words, size.text_width, size)))


def text_encoder_2(words: CLIPTokenizer, size: Size) -> CLIPTextModelWithProjection:
    """SDXL's second text encoder, which also gives the pooled embedding."""
    config = _text_config(words, size.text_width_2, size, hidden_act="gelu")
    return _telling_apart(CLIPTextModelWithProjection(config))


def _telling_apart(encoder: Encoder) -> Encoder:
    """Begin with embeddings of unit spread.

    CLIP begins with .02, from which a word stands out from its sentence only after thousands of
    steps; until then a UNet that is trained at the same time learns to ignore the text.
    """
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if name.endswith("token_embedding.weight"):
                weight.normal_(0.0, 1.0)
            elif name.endswith("position_embedding.weight"):
                weight.normal_(0.0, 0.25)
    return encoder


def _text_config(
    words: CLIPTokenizer, width: int, size: Size, hidden_act: str = "quick_gelu"
) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=size.text_layers,
        num_attention_heads=4,
        max_position_embeddings=words.model_max_length,
        hidden_act=hidden_act,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


def unet(size: Size) -> UNet2DConditionModel:
    """SD's UNet: attention on the text in every block."""
    return UNet2DConditionModel(cross_attention_dim=size.text_width, **_unet_config(size))


def unet_xl(size: Size) -> UNet2DConditionModel:
    """SDXL's UNet: both text encoders' states side by side, pooled embedding and time ids."""
    time_width = 8
    return UNet2DConditionModel(
        cross_attention_dim=size.text_width + size.text_width_2,
        addition_embed_type="text_time",
        addition_time_embed_dim=time_width,
        projection_class_embeddings_input_dim=size.text_width_2 + 6 * time_width,
        use_linear_projection=True,
        **_unet_config(size),
    )


def _unet_config(size: Size) -> dict[str, object]:
    blocks = len(size.unet_channels)
    return {
        "sample_size": size.latent,
        "in_channels": size.latent_channels,
        "out_channels": size.latent_channels,
        "block_out_channels": size.unet_channels,
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D",) * blocks,
        "up_block_types": ("CrossAttnUpBlock2D",) * blocks,
        "attention_head_dim": 4,
        "norm_num_groups": size.groups,
    }


def schedule() -> DDPMScheduler:
    """The noise schedule of Stable Diffusion 1.5."""
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="epsilon",
        steps_offset=1,
        clip_sample=False,
    )
