"""Runs inside a scorer's environment: the packages' own public calls, and random weights for them.

Usage: python package_calls.py VERB, with a JSON object on standard input and one on output. Imports
nothing of this project.
"""

import json
import os
import sys
import time


def hps_weights(asked):
    """Random weights of hpsv2's own ViT-H/14 in its checkpoint's layout, in float16."""
    import torch
    from hpsv2.src.open_clip import create_model

    with torch.device("meta"):
        model = create_model("ViT-H-14", None, device="meta", output_dict=True)
    state = random_state(model.state_dict(), asked["seed"])
    torch.save({"epoch": 1, "state_dict": state}, asked["path"])
    return {"keys": len(state)}


def random_state(shapes, seed):
    """Tensors of these shapes in float16, of the scale that lets deep networks tell inputs apart.

    Cut from one block of random numbers, each at another place: a billion draws take minutes.
    """
    import torch

    generator, state = torch.Generator().manual_seed(seed), {}
    block = torch.randn(1 << 22, generator=generator).half()
    for number, (key, value) in enumerate(shapes.items()):
        size = value.numel()
        if not value.is_floating_point():
            state[key] = value
        elif value.ndim == 0:
            state[key] = torch.tensor(4.6, dtype=torch.float16)
        elif value.ndim == 1:
            state[key] = torch.full(value.shape, float(key.endswith("weight")), dtype=torch.float16)
        else:
            scaled = block.roll(number * 7919) / value[0].numel() ** 0.5
            state[key] = scaled.repeat(size // len(block) + 1)[:size].reshape(value.shape).clone()
    return state


def hps_score(asked):
    """hpsv2.score on files, a call a picture; the hub's cache holds the checkpoint."""
    import hpsv2

    return _timed(
        lambda path, prompt: hpsv2.score(path, prompt, hps_version=asked["version"])[0], asked
    )


def _timed(score, asked):
    """Scores of the pictures, and the seconds and processor seconds of all calls but the first,
    which warms up."""
    pairs = list(zip(asked["images"], asked["prompts"], strict=True))
    scores = [float(score(*pairs[0]))]
    started, busy = time.perf_counter(), time.process_time()
    scores += [float(score(*pair)) for pair in pairs[1:]]
    return {
        "scores": scores,
        "seconds": time.perf_counter() - started,
        "busy": time.process_time() - busy,
    }


def hps_pixels(asked):
    """What hpsv2's preprocessing makes of a picture, at a few places."""
    from hpsv2.src.open_clip.transform import image_transform
    from PIL import Image

    transform = image_transform(224, is_train=False, resize_longest_max=True)
    pixels = transform(Image.open(asked["image"]))
    return {"shape": list(pixels.shape), "at": [pixels[:, y, x].tolist() for y, x in asked["at"]]}


def _reward(asked):
    import ImageReward

    os.chdir(asked["bert_parent"])  # its folder bert-base-uncased is what the package asks for
    return ImageReward


def image_reward_weights(asked):
    """Random weights under the keys of the package's own model."""
    import torch

    package = _reward(asked)
    model = package.ImageReward(med_config=asked["med_config"], device="cpu")
    state = random_state(model.state_dict(), asked["seed"])
    torch.save(state, asked["path"])
    return {"keys": len(state)}


def image_reward_score(asked):
    """The package's own load and score, a call a picture."""
    import torch

    package = _reward(asked)
    model = package.load(asked["path"], device=asked["device"], med_config=asked["med_config"])
    with torch.no_grad():
        return _timed(lambda path, prompt: model.score(prompt, path), asked)


def main():
    asked = json.loads(sys.stdin.read())
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    verbs = {f.__name__: f for f in VERBS}
    out.write(json.dumps(verbs[sys.argv[1]](asked)))


VERBS = (hps_weights, hps_score, hps_pixels, image_reward_weights, image_reward_score)

if __name__ == "__main__":
    main()
