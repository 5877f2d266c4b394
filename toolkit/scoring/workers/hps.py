"""HPS v2.0 and v2.1 (Wu et al. 2023, arXiv 2306.09341) through hpsv2 1.2.0, in its environment.

The package reloads its checkpoint on every call and judges one image at a time. Here its own
model, preprocessing and tokenizer are made once, as `hpsv2.img_score.score` makes them, and fed
batches; the score is its diagonal of image_features @ text_features.T (no logit scale).
"""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from serving import Model, serve
from tensors import load_into, read_state, unfilled


def load(setup: dict[str, Any]) -> Model:
    """The model, ready. ValueError for weights that do not fit."""
    import torch
    from hpsv2.src import open_clip
    from hpsv2.src.open_clip import tokenizer as words

    if setup.get("config"):
        open_clip.add_model_config(Path(setup["config"]))
    device, path = setup["device"], Path(setup["weights"]["model"])
    name = setup.get("architecture", "ViT-H-14")
    with unfilled():
        model, _, transform = open_clip.create_model_and_transforms(
            name,
            None,  # the package fetches LAION's weights here, only to load its own over them
            precision="amp",
            device=device,
            light_augmentation=True,
            aug_cfg={},
            output_dict=True,
        )
    load_into(model, read_state(path), path, f"HPS ({name} in open_clip's layout)")
    model.eval()
    side = model.visual.image_size
    side = side[0] if isinstance(side, tuple) else side
    half = setup["dtype"] == "auto" and device.startswith("cuda")

    def judge(prompts: Sequence[str], images: Sequence[Any]) -> tuple[list[float], list[bool]]:
        tokens = words.tokenize(list(prompts)).to(device)
        cut = [len(words._tokenizer.encode(prompt)) + 2 > 77 for prompt in prompts]
        context = torch.autocast("cuda", dtype=torch.float16) if half else nullcontext()
        with torch.no_grad(), context:
            features = model(torch.stack(list(images)).to(device), tokens)
            every = features["image_features"] @ features["text_features"].T
        return torch.diagonal(every).double().cpu().tolist(), cut

    return Model(
        version=f"hpsv2 1.2.0, HPS {setup['version']}",
        preprocessing=f"longer side to {side}, bicubic on tensors, black to a square, CLIP's mean "
        "and deviation",
        dtype="autocast float16" if half else "float32",
        prepare=lambda image: squared(transform, image, side),
        judge=judge,
    )


def squared(transform: Any, image: Any, side: int) -> Any:
    """The package's preprocessing, (3, side, side).

    An image whose longer side is `side` already leaves it as it came, not square, and the
    package's own call fails on it; such a one is made square before, with the black of the others.
    """
    if max(image.size) == side and min(image.size) != side:
        from PIL import Image

        square = Image.new("RGB", (side, side))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    return transform(image)


if __name__ == "__main__":
    serve(load)
