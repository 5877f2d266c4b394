"""PickScore (Kirstain et al. 2023, arXiv 2305.01569): ViT-H/14, logit scale times cosine.

Its weights are published in transformers' layout. It was trained on Pick-a-Pic's own labels, so on
that set it is no independent witness.
"""

from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from toolkit.errors import InputError
from toolkit.scoring.checkpoints import load_into, read_state, sha256_of
from toolkit.scoring.clip import cut
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
from toolkit.store.scores import Identity

VIT_H_14: dict[str, Any] = {
    "projection_dim": 1024,
    "text_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
        "projection_dim": 1024,
    },
    "vision_config": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
        "image_size": 224,
        "hidden_act": "gelu",
        "projection_dim": 1024,
    },
}
"""CLIP ViT-H/14 as transformers describes it."""


def embedding(output: Any, width: int) -> Any:
    """The projected features, (N, width), of get_image_features or get_text_features.

    transformers 5 wraps them in an object whose pooled output they are; older ones give them bare.
    """
    features = getattr(output, "pooler_output", output)
    if features.ndim != 2 or features.shape[1] != width:
        raise InputError(
            f"This version of transformers gives features of shape {tuple(features.shape)} where "
            f"PickScore needs (N, {width}); install another one (5.x was tried)."
        )
    return features


def load_pickscore(setup: Setup, architecture: dict[str, Any] | None = None) -> Judge:
    """PickScore, ready. InputError for weights that do not fit."""
    import open_clip
    import torch
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    config = CLIPConfig(**(architecture or VIT_H_14))
    path = setup.weights["model"]
    state = read_state(path)
    with torch.device("meta"):
        model = CLIPModel(config)
    model = model.to_empty(device="cpu")
    load_into(model, state, path, "PickScore (CLIP ViT-H/14 in transformers' layout)")
    del state
    _positions(model)
    model.to(setup.device).eval()
    tokenizer, width = open_clip.SimpleTokenizer(), config.projection_dim
    side = config.vision_config.image_size
    size = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    processor = CLIPImageProcessorPil(**size)

    def prepare(image: Image.Image) -> np.ndarray:
        return np.asarray(processor(image)["pixel_values"][0], np.float32)

    def judge(batch: Batch) -> Judged:
        pixels = torch.from_numpy(np.stack(batch.images)).to(setup.device)
        tokens = tokenizer(list(batch.prompts), context_length=77).to(setup.device)
        with forward(), autocast(setup):
            images = embedding(model.get_image_features(pixel_values=pixels), width)
            texts = embedding(model.get_text_features(input_ids=tokens), width)
            cosine = torch.cosine_similarity(images.float(), texts.float())
            scores = model.logit_scale.exp().float() * cosine
        return Judged(tuple(scores.double().cpu().tolist()), cut(tokenizer, batch.prompts))

    identity = Identity(
        "PickScore v1",
        sha256_of(setup.weights),
        f"shorter side to {side}, bicubic, centre crop (rounded down), CLIP's mean and deviation",
        dtype_name(setup),
    )
    return Judge(identity, prepare, one_by_one(judge))


def _positions(model: Any) -> None:
    """Fill the buffers that no checkpoint holds: positions count from 0."""
    import torch

    for name, buffer in model.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))


PICKSCORE = Scorer(
    "pickscore",
    "PickScore v1, ViT-H/14",
    "PS",
    partial(load_pickscore),
    needs=(
        WeightFile(
            "model",
            "PickScore v1 in transformers' layout",
            ("model.safetensors", "pytorch_model.bin"),
            "yuvalkirstain/PickScore_v1",
        ),
    ),
    trained_on=("pickapic",),
)
