"""CLIP score and LAION's aesthetic score, both on OpenAI's ViT-L/14 through open_clip.

CLIP score: 100 * max(cos(image, prompt), 0), as in Hessel et al. 2021 with w = 100 as torchmetrics
and most tables have it (their own w is 2.5). Aesthetic: the image embedding over its L2 norm,
through the published predictor's five linear layers (768-1024-128-64-16-1, no activation between).
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from toolkit.scoring.checkpoints import load_into, read_state, sha256_of
from toolkit.scoring.scorer import (
    Batch,
    Judge,
    Judged,
    Scorer,
    Setup,
    WeightFile,
    autocast,
    dtype_name,
    forward,
    one_by_one,
)
from toolkit.scoring.workers.tensors import unfilled
from toolkit.store.scores import Identity

ARCHITECTURE = "ViT-L-14-quickgelu"
CROP = "shorter side to {side}, bicubic, centre crop, CLIP's mean and deviation"
HEAD_WIDTHS = (1024, 128, 64, 16, 1)

VISION = WeightFile(
    "clip",
    "OpenAI's CLIP ViT-L/14, in open_clip's layout or as ViT-L-14.pt",
    ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "ViT-L-14.pt"),
    "timm/vit_large_patch14_clip_224.openai",
)
HEAD = WeightFile(
    "head",
    "LAION's aesthetic predictor for ViT-L/14",
    ("sac+logos+ava1-l14-linearMSE.pth",),
    published="github.com/christophschuhmann/improved-aesthetic-predictor",
)


def build(architecture: str) -> tuple[Any, Callable[[Image.Image], Any], Any]:
    """An open_clip model without weights, its preprocessing for judging, and its tokenizer.

    Random weights only, nothing is fetched; `architecture` is the name of an open_clip config.
    """
    import open_clip

    logging.getLogger().addFilter(_quiet)  # open_clip warns of random weights, which are replaced
    try:
        model = open_clip.create_model(architecture, pretrained=None, load_weights=False)
    finally:
        logging.getLogger().removeFilter(_quiet)
    size = model.visual.image_size
    side = size[0] if isinstance(size, tuple) else size
    transform = open_clip.image_transform(side, is_train=False)
    return model, transform, open_clip.get_tokenizer(architecture)


def _quiet(record: logging.LogRecord) -> bool:
    return "No pretrained weights loaded" not in record.getMessage()


def load_model(
    architecture: str, path: Path, device: str
) -> tuple[Any, Callable[[Image.Image], Any], Any]:
    """The same with the weights at `path`, on the device. InputError where they do not fit."""
    with unfilled():
        model, transform, tokenizer = build(architecture)
    load_into(model, read_state(path), path, f"CLIP {architecture}")
    return model.to(device).eval(), transform, tokenizer


def cut(tokenizer: Any, prompts: tuple[str, ...], limit: int = 77) -> tuple[bool, ...]:
    """Which prompts are longer than the tokenizer's limit, beginning and end counted."""
    return tuple(len(tokenizer.encode(prompt)) + 2 > limit for prompt in prompts)


def load_clip(setup: Setup, architecture: str = ARCHITECTURE) -> Judge:
    """CLIP score, ready. InputError for weights that do not fit."""
    path = setup.weights["clip"]
    model, transform, tokenizer = load_model(architecture, path, setup.device)

    def judge(batch: Batch) -> Judged:
        import torch

        with forward(), autocast(setup):
            images = model.encode_image(torch.stack(batch.images).to(setup.device))
            texts = model.encode_text(tokenizer(list(batch.prompts)).to(setup.device))
            cosine = torch.cosine_similarity(images.float(), texts.float())
        scores = (100.0 * cosine.clamp(min=0.0)).double().cpu().tolist()
        return Judged(tuple(scores), cut(tokenizer, batch.prompts))

    return Judge(_identity(f"CLIP {architecture}", setup, model), transform, one_by_one(judge))


def head(widths: tuple[int, ...] = HEAD_WIDTHS, width: int = 768) -> Any:
    """The predictor's layers under the names of its state dict; dropouts sit between them."""
    import torch

    sizes = list(zip((width, *widths[:-1]), widths, strict=True))
    first, second, third, fourth, fifth = (torch.nn.Linear(*size) for size in sizes)
    pauses = [torch.nn.Dropout(share) for share in (0.2, 0.2, 0.1)]
    layers = (first, pauses[0], second, pauses[1], third, pauses[2], fourth, fifth)
    return torch.nn.ModuleDict({"layers": torch.nn.Sequential(*layers)})


def load_aesthetic(setup: Setup, architecture: str = ARCHITECTURE) -> Judge:
    """Aesthetic score, ready. InputError for weights that do not fit."""
    path = setup.weights["head"]
    model, transform, _ = load_model(architecture, setup.weights["clip"], setup.device)
    predictor = head(width=int(model.visual.output_dim))
    load_into(predictor, read_state(path), path, "LAION's aesthetic predictor")
    predictor.to(setup.device).eval()

    def judge(batch: Batch) -> Judged:
        import torch

        with forward():
            with autocast(setup):
                features = model.encode_image(torch.stack(batch.images).to(setup.device))
            scores = predictor["layers"](torch.nn.functional.normalize(features.float(), dim=-1))
        values = scores[:, 0].double().cpu().tolist()
        return Judged(tuple(values), (False,) * len(values))

    identity = _identity(f"LAION aesthetic on {architecture}", setup, model)
    return Judge(identity, transform, one_by_one(judge))


def _identity(version: str, setup: Setup, model: Any) -> Identity:
    size = model.visual.image_size
    crop = CROP.format(side=size[0] if isinstance(size, tuple) else size)
    return Identity(version, sha256_of(setup.weights), crop, dtype_name(setup))


CLIP = Scorer(
    "clip",
    "CLIP score, ViT-L/14",
    "CLIP",
    partial(load_clip),
    needs=(VISION,),
)
AESTHETIC = Scorer(
    "aesthetic",
    "LAION aesthetic predictor on ViT-L/14; it sees no prompt",
    "Aes",
    partial(load_aesthetic),
    sees_prompt=False,
    needs=(VISION, HEAD),
)
