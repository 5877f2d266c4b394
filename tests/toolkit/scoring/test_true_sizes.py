"""The true architectures with random weights: our batches against each package's own call.

`make test-scorers`; some 12 GB of memory and 10 GB of disk, and a few minutes for each model. The
pictures are of every kind that people have (MODES), the first one from a file as it is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.toolkit.scoring.package_calls import random_state
from tests.toolkit.scoring.packages import MODES, flat, in_modes, prompts, told
from toolkit.image_files import decode
from toolkit.scoring import SCORERS, Batch, Judge, load
from toolkit.scoring.clip import ARCHITECTURE, head
from toolkit.scoring.pickscore import VIT_H_14
from toolkit.scoring.workers.tensors import unfilled

pytestmark = [pytest.mark.scorers, pytest.mark.timeout(3600)]

NEAR = 1e-4
"""What a score may differ by from the package's own."""


@dataclass(frozen=True)
class Case:
    """A scorer with its weights, and what its package says of some pictures."""

    name: str
    weights: list[str]
    images: list[Path]
    scores: list[float]


def vit_l_14(folder: Path) -> Path:
    """Weights of OpenAI's ViT-L/14 in open_clip's layout."""
    with unfilled():
        model = open_clip.create_model(ARCHITECTURE, load_weights=False)
    path = folder / "open_clip_pytorch_model.bin"
    torch.save(random_state(model.state_dict(), 0), path)
    return path


def predictor(folder: Path) -> Path:
    """An aesthetic predictor whose scores lie apart."""
    path = folder / "sac+logos+ava1-l14-linearMSE.pth"
    state = random_state(head().state_dict(), 1)
    torch.save({key: value.float() * 2 for key, value in state.items()}, path)
    return path


def through_open_clip(name: str, folder: Path, images: list[Path]) -> tuple[list[str], list[float]]:
    """CLIP score or aesthetic as open_clip's and the predictor's own examples have them."""
    weights = {"clip": vit_l_14(folder)}
    with unfilled():
        model, _, transform = open_clip.create_model_and_transforms(ARCHITECTURE)
    model.load_state_dict(torch.load(weights["clip"]))
    if name == "aesthetic":
        weights["head"] = predictor(folder)
        state = torch.load(weights["head"])
    tokenizer, found = open_clip.get_tokenizer(ARCHITECTURE), []
    with torch.no_grad():
        for path, prompt in zip(flat(folder, images), prompts(len(images)), strict=True):
            image = model.eval().encode_image(transform(Image.open(path))[None])[0].numpy()
            image = image / np.linalg.norm(image)
            if name == "clip":
                text = model.encode_text(tokenizer([prompt]))[0].numpy()
                found.append(100 * max(float(image @ text / np.linalg.norm(text)), 0.0))
                continue
            for k in (0, 2, 4, 6, 7):
                weight, bias = (state[f"layers.{k}.{part}"].numpy() for part in ("weight", "bias"))
                image = weight @ image + bias
            found.append(float(image[0]))
    return [f"{role}={path}" for role, path in weights.items()], found


def through_transformers(folder: Path, images: list[Path]) -> tuple[list[str], list[float]]:
    """PickScore's logits by CLIPModel's own forward, from a folder as it is published."""
    config, path = CLIPConfig(**VIT_H_14), folder / "model.safetensors"
    with unfilled():
        save_file(random_state(CLIPModel(config).state_dict(), 0), path, {"format": "pt"})
    config.save_pretrained(folder)
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor, tokenizer = CLIPImageProcessorPil(), open_clip.SimpleTokenizer()
    found = []
    with torch.no_grad():
        for file, prompt in zip(flat(folder, images), prompts(len(images)), strict=True):
            words = tokenizer.encode(prompt)[:75]  # unpadded: padding must not reach the score
            tokens = [tokenizer.sot_token_id, *words, tokenizer.eot_token_id]
            pixels = torch.tensor(np.asarray(processor(Image.open(file))["pixel_values"]))
            output = model(input_ids=torch.tensor([tokens]), pixel_values=pixels)
            found.append(float(output.logits_per_image[0, 0]))
    return [f"model={path}"], found


def through_its_package(
    name: str, folder: Path, images: list[Path]
) -> tuple[list[str], list[float]]:
    """HPS and ImageReward, asked in their own environments."""
    found = told(name, folder, images, seed=len(name))
    return found.weights, found.scores


Call = Callable[[Path, list[Path]], tuple[list[str], list[float]]]
CASES: dict[str, tuple[list[int], Call]] = {
    "clip": ([0, 1, 2, 3, 4, 5], partial(through_open_clip, "clip")),
    "aesthetic": ([0, 1, 2, 3, 4, 5], partial(through_open_clip, "aesthetic")),
    "image_reward": ([0, 1, 2, 3, 4, 5], partial(through_its_package, "image_reward")),
    # A picture takes ViT-H/14 seconds on a CPU; between them these two see every kind.
    "hps": ([0, 1, 2, 3], partial(through_its_package, "hps")),
    "pickscore": ([0, 3, 4, 5], through_transformers),
    # The same model and code as hps, with another checkpoint.
    "hps_v2.0": ([0, 1], partial(through_its_package, "hps_v2.0")),
}
"""Scorer -> which of the pictures it is asked about, and how its package is."""


@pytest.fixture(params=CASES)
def case(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    made_both: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Case]:
    monkeypatch.setenv("OUTVOTED_SCORERS", str(made_both))
    which, call = CASES[request.param]
    kinds = in_modes(tmp_path)
    images = [kinds[k] for k in which]
    weights, scores = call(tmp_path, images)
    yield Case(request.param, weights, images, scores)
    for given in weights:
        path = Path(given.partition("=")[2])
        if path.is_file():
            path.unlink()  # gigabytes each


def judged(judge: Judge, case: Case, order: list[int]) -> list[float]:
    """Scores in the order asked for, in batches of three, two and one."""
    ready = [judge.prepare(decode(case.images[k].read_bytes()).image) for k in order]
    words = prompts(len(case.images))
    sizes = {2: (1, 1), 4: (3, 1), 6: (3, 2, 1)}[len(order)]
    batches = [
        Batch(tuple(words[k] for k in order[at : at + size]), tuple(ready[at : at + size]))
        for at, size in zip(accumulate(sizes, initial=0), sizes, strict=False)
    ]
    return [score for answer in judge.stream(batches) for score in answer.scores]


def test_batched_scores_equal_the_packages_own_call_in_any_batch_and_order(case: Case) -> None:
    """The package judges one picture at a time; here they come three, two and one at a time, last
    one first."""
    gap = max(case.scores) - min(case.scores)
    assert gap > 10 * NEAR, f"random weights tell the pictures apart by {gap} only"
    order = list(reversed(range(len(case.scores))))
    judge = load(SCORERS[case.name], weights=case.weights, device="cpu")
    try:
        found = judged(judge, case, order)
    finally:
        judge.close()
    print(case.name, [f"{theirs:.6f}" for theirs in case.scores], found[::-1])
    assert found[::-1] == pytest.approx(case.scores, abs=NEAR)


def test_pictures_of_every_kind_are_among_them(tmp_path: Path) -> None:
    assert [Image.open(path).mode for path in in_modes(tmp_path)] == list(MODES)
    asked = {k for which, _ in CASES.values() for k in which}
    assert asked == set(range(len(MODES)))
