"""Tiny models of the true architectures, with random weights saved in the true layouts."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from toolkit.scoring import Scorer
from toolkit.scoring.clip import AESTHETIC, CLIP, head, load_aesthetic, load_clip
from toolkit.scoring.pickscore import PICKSCORE, load_pickscore
from toolkit.scoring.worker_client import HPS, load_remote

SIDE = 32
TINY = "outvoted-tiny"
TINY_CLIP = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": SIDE,
        "layers": 2,
        "width": 32,
        "head_width": 8,
        "patch_size": 8,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 32,
        "heads": 4,
        "layers": 2,
    },
}
_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_act": "gelu",
    "projection_dim": 16,
}
TINY_PICKSCORE: dict[str, Any] = {
    "projection_dim": 16,
    "text_config": dict(_TOWER),
    "vision_config": {**_TOWER, "patch_size": 8, "image_size": SIDE},
}


def config_file(folder: Path) -> Path:
    """An open_clip config called TINY, as hpsv2's open_clip reads it too."""
    path = folder / f"{TINY}.json"
    path.write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(path)
    return path


def clip_weights(folder: Path, architecture: str = TINY, seed: int = 0) -> Path:
    """A CLIP with random weights in open_clip's layout."""
    torch.manual_seed(seed)
    model = open_clip.create_model(architecture, pretrained=None, load_weights=False)
    path = folder / "open_clip_pytorch_model.bin"
    torch.save(model.state_dict(), path)
    return path


def head_weights(folder: Path, width: int = 16, seed: int = 0) -> Path:
    """An aesthetic predictor with random weights under the published keys."""
    torch.manual_seed(seed)
    path = folder / "sac+logos+ava1-l14-linearMSE.pth"
    torch.save(head(width=width).state_dict(), path)
    return path


def pickscore_weights(folder: Path, config: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """A CLIP with random weights in transformers' layout."""
    torch.manual_seed(seed)
    model = CLIPModel(CLIPConfig(**(config or TINY_PICKSCORE)))
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    path = folder / "model.safetensors"
    save_file(state, path)
    return path


def hps_weights(folder: Path, architecture: str = TINY, seed: int = 0) -> Path:
    """An HPS checkpoint with random weights: open_clip's keys inside `state_dict`, in float16."""
    torch.manual_seed(seed)
    model = open_clip.create_model(architecture, pretrained=None, load_weights=False)
    state = {key: value.half() for key, value in model.state_dict().items()}
    path = folder / "HPS_v2.1_compressed.pt"
    torch.save({"epoch": 1, "state_dict": state}, path)
    return path


TINY_CLIP_SCORER = replace(CLIP, load=partial(load_clip, architecture=TINY))
TINY_AESTHETIC = replace(AESTHETIC, load=partial(load_aesthetic, architecture=TINY))
TINY_PICKSCORE_SCORER = replace(
    PICKSCORE, load=partial(load_pickscore, architecture=TINY_PICKSCORE)
)


def tiny_hps(folder: Path) -> Scorer:
    """HPS on the tiny architecture."""
    options = {"architecture": TINY, "config": str(config_file(folder))}
    return replace(
        HPS,
        load=partial(load_remote, environment="hps", worker="hps", version="v2.1", **options),
    )


def drawn(count: int, seed: int = 0) -> list[Image.Image]:
    """Pictures of unlike shapes: coloured noise, enlarged, so that edges and crops matter."""
    torch.manual_seed(seed)
    found = []
    for k in range(count):
        size = (20 + 13 * (k % 7), 24 + 11 * (k % 5))
        noise = (torch.rand(6, 5, 3) * 255).byte().numpy()
        found.append(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC))
    return found


def words(count: int) -> list[str]:
    """Prompts of different lengths."""
    return [
        " ".join(["a red fox", "by night", "in the rain", "oil paint"][: 1 + k % 4])
        for k in range(count)
    ]
