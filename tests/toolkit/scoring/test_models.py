"""Scorers of the main environment: the right numbers, in any batch, and sentences for bad weights.

Tiny models of the true architectures, with random weights in the true layouts.
"""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.toolkit.scoring.models import (
    SIDE,
    TINY,
    TINY_AESTHETIC,
    TINY_CLIP_SCORER,
    TINY_PICKSCORE,
    TINY_PICKSCORE_SCORER,
    clip_weights,
    config_file,
    drawn,
    head_weights,
    pickscore_weights,
    words,
)
from toolkit.errors import InputError
from toolkit.scoring import Batch, Judge, Judged, Scorer, load
from toolkit.scoring.checkpoints import sha256_of
from toolkit.scoring.clip import build
from toolkit.scoring.pickscore import VIT_H_14, embedding

PICTURES, WORDS = drawn(7), words(7)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTVOTED_SCORERS", str(tmp_path / "home"))
    config_file(tmp_path)


def scores(judge: Judge, order: list[int], size: int) -> list[float]:
    ready = [judge.prepare(PICTURES[k]) for k in order]
    batches = [
        Batch(tuple(WORDS[k] for k in order[at : at + size]), tuple(ready[at : at + size]))
        for at in range(0, len(order), size)
    ]
    found = [score for answer in judge.stream(batches) for score in answer.scores]
    return [found[order.index(k)] for k in range(len(order))]


def clip_by_hand(folder: Path) -> list[float]:
    """One picture at a time, as open_clip's own example has it."""
    model, _, transform = open_clip.create_model_and_transforms(
        TINY, pretrained=str(folder / "open_clip_pytorch_model.bin")
    )
    tokenizer, found = open_clip.get_tokenizer(TINY), []
    with torch.no_grad():
        for picture, prompt in zip(PICTURES, WORDS, strict=True):
            image = model.eval().encode_image(transform(picture)[None])[0].numpy()
            text = model.encode_text(tokenizer([prompt]))[0].numpy()
            cosine = image @ text / (np.linalg.norm(image) * np.linalg.norm(text))
            found.append(100 * max(float(cosine), 0.0))
    return found


def aesthetic_by_hand(folder: Path) -> list[float]:
    """The embedding over its norm, five matrices."""
    model, _, transform = open_clip.create_model_and_transforms(
        TINY, pretrained=str(folder / "open_clip_pytorch_model.bin")
    )
    state = torch.load(folder / "sac+logos+ava1-l14-linearMSE.pth")
    assert sorted(state) == sorted(
        f"layers.{k}.{part}" for k in (0, 2, 4, 6, 7) for part in ("weight", "bias")
    )
    found = []
    with torch.no_grad():
        for picture in PICTURES:
            vector = model.eval().encode_image(transform(picture)[None])[0].numpy()
            vector = vector / np.linalg.norm(vector)
            for k in (0, 2, 4, 6, 7):
                weight, bias = (state[f"layers.{k}.{p}"].numpy() for p in ("weight", "bias"))
                vector = weight @ vector + bias
            found.append(float(vector[0]))
    return found


def pickscore_by_hand(folder: Path) -> list[float]:
    """One picture at a time through transformers, as PickScore's page has it."""
    model = CLIPModel(CLIPConfig(**TINY_PICKSCORE)).eval()
    from safetensors.torch import load_file

    model.load_state_dict(load_file(folder / "model.safetensors"))
    square = {"height": SIDE, "width": SIDE}
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=square)
    tokenizer, found = open_clip.SimpleTokenizer(), []
    with torch.no_grad():
        for picture, prompt in zip(PICTURES, WORDS, strict=True):
            tokens = [tokenizer.sot_token_id, *tokenizer.encode(prompt), tokenizer.eot_token_id]
            output = model(
                input_ids=torch.tensor([tokens]),  # unpadded: padding must not reach the score
                pixel_values=torch.tensor(np.asarray(processor(picture)["pixel_values"])),
            )
            found.append(float(output.logits_per_image[0, 0]))
    return found


CASES = {
    "clip": (TINY_CLIP_SCORER, clip_by_hand),
    "aesthetic": (TINY_AESTHETIC, aesthetic_by_hand),
    "pickscore": (TINY_PICKSCORE_SCORER, pickscore_by_hand),
}


def saved(scorer: Scorer, folder: Path) -> list[str]:
    made = {"clip": clip_weights, "head": head_weights, "model": pickscore_weights}
    return [f"{need.role}={made[need.role](folder)}" for need in scorer.needs]


@pytest.mark.parametrize("name", CASES)
def test_batched_scores_equal_single_calls_in_any_batch_and_order(
    name: str, tmp_path: Path
) -> None:
    scorer, by_hand = CASES[name]
    judge = load(scorer, weights=saved(scorer, tmp_path), device="cpu")
    expected = by_hand(tmp_path)
    assert max(expected) - min(expected) > 1e-3
    for order, size in (([0, 1, 2, 3, 4, 5, 6], 7), ([6, 2, 0, 5, 1, 4, 3], 3)):
        assert scores(judge, order, size) == pytest.approx(expected, abs=1e-4)


def test_a_prompt_beyond_the_limit_is_cut_and_said_to_be(tmp_path: Path) -> None:
    judge = load(TINY_CLIP_SCORER, weights=saved(TINY_CLIP_SCORER, tmp_path), device="cpu")
    fits, over = "fox " * 75, "fox " * 76  # 77 with beginning and end
    picture = judge.prepare(PICTURES[0])
    (found,) = judge.stream([Batch((fits, over), (picture, picture))])
    assert found.truncated == (False, True)
    assert found.scores[0] == pytest.approx(found.scores[1], abs=1e-4)


def test_crops_keep_the_middle_of_a_wide_picture() -> None:
    """Golden values: red ends and a green middle; CLIP's own mean and deviation."""
    wide = Image.new("RGB", (96, 32), (255, 0, 0))
    ImageDraw.Draw(wide).rectangle((32, 0, 63, 31), fill=(0, 255, 0))
    _, transform, _ = build(TINY)
    pixels = transform(wide)
    assert pixels.shape == (3, 32, 32)
    green = [(0 - 0.48145466) / 0.26862954, (1 - 0.4578275) / 0.26130258]
    green.append((0 - 0.40821073) / 0.27577711)
    for y, x in ((0, 0), (16, 16), (31, 31)):
        assert pixels[:, y, x].tolist() == pytest.approx(green, abs=1e-5)


def test_nothing_of_what_transformers_5_wraps_is_taken_for_the_embedding() -> None:
    class Wrapped:
        pooler_output = torch.zeros(2, 1024)

    assert embedding(Wrapped(), 1024) is Wrapped.pooler_output
    assert embedding(torch.zeros(2, 1024), 1024).shape == (2, 1024)
    with pytest.raises(InputError, match=r"features of shape \(2, 1280\)"):
        embedding(torch.zeros(2, 1280), 1024)


def test_pickscores_architecture_is_vit_h_14s() -> None:
    """By its shapes, and by as many numbers as open_clip's ViT-H/14 has."""
    with torch.device("meta"):
        model = CLIPModel(CLIPConfig(**VIT_H_14))
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes["vision_model.embeddings.patch_embedding.weight"] == (1280, 3, 14, 14)
    assert shapes["visual_projection.weight"] == (1024, 1280)
    assert shapes["text_model.encoder.layers.23.mlp.fc1.weight"] == (4096, 1024)
    with torch.device("meta"):
        twin = open_clip.create_model("ViT-H-14", load_weights=False, device="meta")
    assert sum(v.numel() for v in model.parameters()) == sum(v.numel() for v in twin.parameters())


def judged(scorer: Scorer, path: Path, role: str = "model") -> Judged:
    judge = load(scorer, weights=[f"{role}={path}"], device="cpu")
    return next(iter(judge.stream([Batch(("a",), (judge.prepare(PICTURES[0]),))])))


def test_weights_that_are_missing_cut_off_or_anothers_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pickscore has no model yet .*outvoted scorers weights"):
        load(TINY_PICKSCORE_SCORER, device="cpu")
    with pytest.raises(InputError, match=r"There is nothing at .*gone"):
        judged(TINY_PICKSCORE_SCORER, tmp_path / "gone.safetensors")
    good = pickscore_weights(tmp_path)
    assert len(judged(TINY_PICKSCORE_SCORER, good).scores) == 1
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"cut.safetensors cannot be read as weights .*cut off"):
        judged(TINY_PICKSCORE_SCORER, cut)
    other = clip_weights(tmp_path)
    with pytest.raises(InputError) as told:
        judged(TINY_PICKSCORE_SCORER, other)
    assert "keys are missing (text_model.embeddings" in str(told.value)
    assert "are none of its keys (ln_final.bias, ln_final.weight" in str(told.value)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match=r"list.pt holds no table of tensors"):
        judged(TINY_CLIP_SCORER, tmp_path / "list.pt", "clip")


def test_a_head_for_another_embedding_is_named_by_its_shape(tmp_path: Path) -> None:
    given = [f"clip={clip_weights(tmp_path)}", f"head={head_weights(tmp_path, width=768)}"]
    with pytest.raises(InputError, match=r"layers.0.weight is \(1024, 768\) and not \(1024, 16\)"):
        load(TINY_AESTHETIC, weights=given, device="cpu")


def test_the_hash_of_weights_is_of_what_is_in_the_file(tmp_path: Path) -> None:
    import hashlib

    path = clip_weights(tmp_path)
    told = hashlib.sha256(path.read_bytes()).hexdigest()
    assert sha256_of({"clip": path}) == told
    both = {"clip": path, "head": head_weights(tmp_path)}
    assert sha256_of(both) not in (told, sha256_of({"head": both["head"]}))
    clip_weights(tmp_path, seed=1)
    assert sha256_of({"clip": path}) != told
