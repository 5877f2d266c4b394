"""Calls into scorers' environments from tests and benchmarks, and what they need on disk."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.toolkit.scoring.models import drawn
from toolkit.image_files import decode
from toolkit.scoring import SCORERS
from toolkit.scoring.environments import ready

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "agiqa3k"
_COMMIT = "0" * 40


def call(environment: str, verb: str, asked: dict[str, Any], **surroundings: str) -> dict[str, Any]:
    """A verb of package_calls.py, run in an environment with the hub shut."""
    script = Path(__file__).with_name("package_calls.py")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(ready(environment).python), "-s", str(script), verb],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env=kept | {"HF_HUB_OFFLINE": "1", **surroundings},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


def hub_with_hps(folder: Path, weights: Path, name: str = "HPS_v2.1_compressed.pt") -> Path:
    """A hub cache that holds an HPS checkpoint, and the LAION weights that hpsv2 loads first."""
    for repository, file in (
        ("xswu/HPSv2", name),
        ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "open_clip_pytorch_model.bin"),
    ):
        place = folder / "hub" / f"models--{repository.replace('/', '--')}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text(_COMMIT)
        snapshot = place / "snapshots" / _COMMIT
        snapshot.mkdir(parents=True)
        (snapshot / file).symlink_to(weights)
    return folder


def bert(folder: Path) -> Path:
    """A tokenizer folder of bert-base-uncased's shape: 30,522 entries, few of them words."""
    place = folder / "bert-base-uncased"
    place.mkdir(parents=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(k) for k in range(33, 127) if not chr(k).isupper()]
    known = [*special, *letters, *(f"##{one}" for one in letters), "a", "red", "fox", "night"]
    known = list(dict.fromkeys(known))
    known += [f"[unused{k}]" for k in range(30522 - len(known))]
    (place / "vocab.txt").write_text("\n".join(known) + "\n", encoding="utf-8")
    return place


def med_config(folder: Path) -> Path:
    """The text encoder's description that image-reward would fetch."""
    place = files("toolkit.scoring.workers").joinpath("image_reward_bert.json")
    path = folder / "med_config.json"
    path.write_bytes(place.read_bytes())
    return path


def pictures(folder: Path, count: int) -> list[Path]:
    """Real pictures where they are, drawn ones elsewhere; as files."""
    real = sorted((REAL / "images").glob("*.jpg"))
    if real:
        return real[:: max(1, len(real) // count)][:count]
    paths = []
    for k, picture in enumerate(drawn(count)):
        paths.append(folder / f"{k}.png")
        picture.resize((256, 256 - 16 * (k % 3)), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


MODES = {"RGB": "png", "L": "png", "RGBA": "png", "P": "gif", "CMYK": "tiff", "I;16": "png"}
"""Kinds of pictures that people have, and a format that keeps each."""


def in_modes(folder: Path) -> list[Path]:
    """A picture of each of MODES, of unlike shapes; the first is a real file where there is one."""
    found = pictures(folder, len(MODES))
    for k, (mode, kind) in enumerate(MODES.items()):
        if k:
            picture = Image.open(found[k]).convert("RGB").resize((330 - 40 * k, 170 + 30 * k))
            found[k] = folder / f"mode-{k}.{kind}"
            _as_mode(picture, mode).save(found[k])
            assert Image.open(found[k]).mode == mode
    return found


def _as_mode(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        deep = np.asarray(picture.convert("L"), np.uint16) * 257
        return Image.fromarray(deep)
    if mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        return picture
    return picture.convert(mode)


def flat(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """The same pictures as RGB files, as packages are given them: they know neither transparency
    on white nor 16 bits."""
    found = []
    for path in paths:
        found.append(folder / f"flat-{path.stem}.png")
        decode(path.read_bytes()).image.save(found[-1])
    return found


def prompts(count: int) -> list[str]:
    """Prompts of different lengths, one of them beyond every limit."""
    words = ["a red fox", "by night, in heavy rain", "an oil painting of a harbour", "42 cats!"]
    long = "a very long story about a fox and a crow " * 20
    return [long if k == 3 else " ".join(words[: 1 + k % 4]) for k in range(count)]


@dataclass(frozen=True)
class Told:
    """Random weights of a scorer's true size, and what its package says of some pictures."""

    weights: list[str]
    images: list[Path]
    prompts: list[str]
    scores: list[float]
    seconds: float
    """Of all its calls but the first."""
    busy: float
    """Processor seconds of the same."""
    file: Path
    """The weights; gigabytes, to be removed."""


def told(
    name: str, folder: Path, images: list[Path], *, seed: int = 0, device: str = "cpu"
) -> Told:
    """Make a scorer's weights and ask its package for the score of each picture, a call each."""
    entry = SCORERS[name]
    words, path = prompts(len(images)), folder / entry.needs[0].names[0]
    given = [str(file) for file in flat(folder, images)]
    asked = {"path": str(path), "images": given, "prompts": words, "seed": seed}
    asked["device"] = device
    shut = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}  # hpsv2 takes what it finds
    weights = [f"model={path}"]
    if entry.environment == "hps":
        call("hps", "hps_weights", asked)
        hub = hub_with_hps(folder / "hf", path, path.name)
        asked["version"] = "v2.1" if name == "hps" else "v2.0"
        answer = call("hps", "hps_score", asked, HF_HOME=str(hub), **shut)
    else:
        weights.append(f"tokenizer={bert(folder)}")
        asked |= {"bert_parent": str(folder), "med_config": str(med_config(folder))}
        call("image_reward", "image_reward_weights", asked)
        answer = call("image_reward", "image_reward_score", asked, **shut)
    return Told(weights, images, words, answer["scores"], answer["seconds"], answer["busy"], path)
