"""ImageReward v1.0 (Xu et al. 2023, arXiv 2304.05977) through image-reward 1.5, in its environment.

The package judges one image at a time. Here its own model (BLIP-L and its head) is fed batches:
prompts to 35 tokens, the first text feature under cross attention to the image, the head, and
the published mean and deviation.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving import Model, serve
from tensors import load_into, read_state, unfilled

BERT = Path(__file__).with_name("image_reward_bert.json")
"""What the published med_config.json says about the text encoder."""
LIMIT = 35


def load(setup: dict[str, Any]) -> Model:
    """The model, ready. ValueError for weights or a tokenizer that do not fit."""
    import torch

    device, path = setup["device"], Path(setup["weights"]["model"])
    model = _built(Path(setup["weights"]["tokenizer"]), device)
    # The package passes over keys that its model does not have, so they are no fault here.
    load_into(model, read_state(path), path, "ImageReward (BLIP-L and its head)", further=True)
    model.to(device).eval()
    tokenizer = model.blip.tokenizer

    def judge(prompts: Sequence[str], images: Sequence[Any]) -> tuple[list[float], list[bool]]:
        cut = [len(ids) > LIMIT for ids in tokenizer(list(prompts)).input_ids]
        text = tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=LIMIT,
            return_tensors="pt",
        ).to(device)
        with torch.no_grad():
            pixels = torch.stack(list(images)).to(device)
            rewards = model.score_gard(text.input_ids, text.attention_mask, pixels)
        return rewards[:, 0].double().cpu().tolist(), cut

    return Model(
        version="image-reward 1.5, ImageReward v1.0",
        preprocessing="shorter side to 224, bicubic, centre crop, CLIP's mean and deviation",
        dtype="float32",
        prepare=model.preprocess,
        judge=judge,
    )


def _built(tokenizer: Path, device: str) -> Any:
    """The package's model, without weights.

    It asks for the tokenizer as 'bert-base-uncased', which is a folder of that name in the working
    folder before it is anything on the hub.
    """
    if not (tokenizer / "vocab.txt").is_file():
        raise ValueError(
            f"{tokenizer} holds no vocab.txt, so it is no tokenizer of bert-base-uncased; name its "
            "folder with `outvoted scorers weights image_reward tokenizer=FOLDER`."
        )
    from ImageReward.ImageReward import ImageReward

    before = Path.cwd()
    with tempfile.TemporaryDirectory() as here:
        (Path(here) / "bert-base-uncased").symlink_to(tokenizer.resolve(), True)
        os.chdir(here)
        try:
            with unfilled():
                return ImageReward(device=device, med_config=str(BERT.resolve()))
        finally:
            os.chdir(before)


if __name__ == "__main__":
    serve(load)
