"""Pre-training makes a real diffusers pipeline out of captioned images."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image

from tests.benchmarks.miniature import caption_data as captioned
from tests.benchmarks.miniature import parts
from tests.benchmarks.miniature.__main__ import main
from tests.benchmarks.miniature.bpe import learn_merges, merged
from tests.benchmarks.miniature.denoiser import train_denoiser
from tests.benchmarks.miniature.make import Plan, pretrain
from tests.benchmarks.miniature.pipeline import assemble, condition, token_ids
from tests.benchmarks.miniature.prompt_fidelity import draw_samples, score
from tests.benchmarks.miniature.train_loop import batches
from tests.benchmarks.miniature.vae import encode_all, open_up, to_pixels, train_autoencoder
from toolkit.miniworld.scenes import WORDS, parse, sample_prompts

TINY = parts.Size(
    vae_channels=(4, 4, 4, 8),
    unet_channels=(8, 16),
    text_width=8,
    text_width_2=12,
    groups=2,
    tokens=100,
)
PLAN = Plan(steps=3, batch=4, vae_steps=2, vae_batch=2, size=TINY, threads=1)
PIPELINES = {"sd": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrained") / request.param
    pretrain(request.param, captioned.drawn(24, seed=1), out, PLAN)
    return out


def kind_of(folder: Path) -> str:
    return folder.name


def load(folder: Path):
    return PIPELINES[kind_of(folder)].from_pretrained(folder)


def test_it_is_saved_in_half_precision_and_loads_in_full(saved: Path) -> None:
    stored = (saved / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    header = json.loads(stored[8 : 8 + int.from_bytes(stored[:8], "little")])
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F16"}
    pipeline = load(saved)
    modules = [pipeline.unet, pipeline.vae, pipeline.text_encoder]
    modules += [pipeline.text_encoder_2] if kind_of(saved) == "sdxl" else []
    assert {module.dtype for module in modules} == {torch.float32}


def test_it_draws_an_image_for_a_prompt(saved: Path) -> None:
    pipeline = load(saved)
    prompts = sample_prompts(2)
    first = draw_samples(pipeline, prompts, steps=2)
    again = draw_samples(pipeline, prompts, steps=2, batch=1)
    assert [image.size for image in first] == [(64, 64)] * 2
    assert np.abs(np.asarray(first[0], float) - np.asarray(again[0], float)).max() <= 2
    assert 0.0 <= score(prompts, first)["alignment"] <= 1.0


def test_it_has_the_settings_of_the_large_one(saved: Path) -> None:
    pipeline = load(saved)
    assert pipeline.unet.config.sample_size == 8
    wanted = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon",
        "steps_offset": 1,
        "clip_sample": False,
        "num_train_timesteps": 1000,
    }
    assert {name: pipeline.scheduler.config[name] for name in wanted} == wanted
    if kind_of(saved) == "sdxl":
        assert pipeline.unet.config.addition_embed_type == "text_time"
        assert pipeline.unet.config.cross_attention_dim == 8 + 12
        assert pipeline.config.force_zeros_for_empty_prompt
    else:
        assert pipeline.safety_checker is None


def test_the_record_beside_the_weights_says_how_they_were_made(saved: Path) -> None:
    record = json.loads((saved / "pretraining.json").read_text())
    assert record["kind"] == kind_of(saved)
    assert record["data"] == "miniworld"
    assert record["plan"]["steps"] == 3
    assert set(record["figures"]) == {"vae_l1", "vae_kl", "denoising_loss", "seconds"}


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    data = captioned.drawn(8, seed=1)
    for name in ("one", "two"):
        pretrain("sd", data, tmp_path / name, PLAN)
    stored = [
        (tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
        for name in ("one", "two")
    ]
    assert stored[0] == stored[1]


def test_a_saved_autoencoder_is_used_as_it_is(saved: Path, tmp_path: Path) -> None:
    options = ["--vae", str(saved / "vae"), "--count", "8", "--steps", "1", "--batch", "2"]
    main(["sd", "--out", str(tmp_path), *options, "--threads", "1"])
    name = "diffusion_pytorch_model.safetensors"
    assert (tmp_path / "vae" / name).read_bytes() == (saved / "vae" / name).read_bytes()


def test_the_autoencoder_learns_and_its_latents_have_unit_spread() -> None:
    torch.manual_seed(0)
    images = np.ascontiguousarray(captioned.drawn(16, seed=2).images[:, 20:44, 20:44])
    vae = parts.autoencoder(parts.Size(vae_channels=(8, 16), groups=4))
    open_up(vae)
    losses: list[float] = []
    train_autoencoder(vae, images, 100, 0, lambda _, loss: losses.append(loss), batch=4, rate=5e-3)
    assert np.mean(losses[-10:]) < 0.65 * np.mean(losses[:10])
    mean, std = encode_all(vae, images)
    assert float(std.mean()) < float(mean.std())
    assert float((mean * vae.config.scaling_factor).std()) == pytest.approx(1.0, abs=0.1)


def test_the_denoiser_learns_and_hears_the_caption() -> None:
    torch.manual_seed(0)
    data = captioned.drawn(32, seed=2)
    vae = parts.autoencoder(TINY)
    mini = assemble("sd", vae, data.words, data.captions, TINY)
    latents = encode_all(vae, data.images)
    vae.register_to_config(scaling_factor=1.0 / float((latents[0] + latents[1]).std()))
    before = mini.text_encoders[0].get_input_embeddings().weight.clone()
    losses: list[float] = []
    train_denoiser(
        mini, latents, data.captions, 50, 0, lambda _, loss: losses.append(loss), batch=8, rate=8e-3
    )
    first, last = np.mean(losses[:10]), np.mean(losses[-10:])
    assert last < 0.9 * first
    assert not torch.equal(before, mini.text_encoders[0].get_input_embeddings().weight)


def test_an_empty_prompt_of_sdxl_can_be_zeros() -> None:
    data = captioned.drawn(4, seed=2)
    mini = assemble("sdxl", parts.autoencoder(TINY), data.words, data.captions, TINY)
    told = condition(mini, token_ids(mini, ["", ""]), torch.tensor([True, False]))
    assert told.added is not None
    assert told.states.shape[2] == 8 + 12
    assert told.states[0].abs().max() == told.added["text_embeds"][0].abs().max() == 0
    assert told.states[1].abs().max() > 0
    assert told.added["time_ids"].tolist() == [[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]] * 2


def test_a_word_of_the_world_is_one_token_and_an_unknown_one_its_letters() -> None:
    tokens = parts.tokenizer(WORDS, TINY, 16)
    for word in WORDS:
        assert tokens.tokenize(word) == [f"{word}</w>"]
    assert "".join(tokens.tokenize("zebra")) == "zebra</w>"
    strange = tokens("漢字 ünï \x00 🙂", padding="max_length", truncation=True).input_ids
    assert len(strange) == 16
    assert strange[0] == tokens.bos_token_id
    assert tokens.eos_token_id in strange


def test_frequent_pairs_are_merged_first_and_ties_go_by_the_alphabet() -> None:
    words = ["low", "low", "lot", "bow"]
    assert learn_merges(words, 2) == [("l", "o"), ("lo", "w</w>")]
    assert learn_merges(["zy", "ab"], 9) == [("a", "b</w>"), ("z", "y</w>")]
    assert merged(["a", "b", "a", "b", "a</w>"], ("a", "b")) == ["ab", "ab", "a</w>"]


def test_drawn_captions_are_imperfect_to_the_degree_asked_for() -> None:
    honest, loose = captioned.drawn(400, wrong=0.0), captioned.drawn(400, wrong=0.25)
    assert (honest.images == loose.images).all()
    told = [
        (parse(one).mentioned, parse(two).mentioned)
        for one, two in zip(honest.captions, loose.captions, strict=True)
    ]
    slips = [one[name] != two[name] for one, two in told for name in one]
    assert np.mean(slips) == pytest.approx(0.25, abs=0.03)


def test_captioned_images_come_from_parquet(tmp_path: Path) -> None:
    tile = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    tile.paste((255, 0, 0, 255), (0, 0, 16, 32))
    buffer = io.BytesIO()
    tile.save(buffer, format="PNG")
    rows = {"caption": ["a red half"] * 2, "png": [buffer.getvalue()] * 2}
    pq.write_table(pa.table(rows), tmp_path / "tiles.parquet")
    data = captioned.from_parquet(tmp_path / "tiles.parquet")
    assert data.images.shape == (2, 64, 64, 3)
    assert data.images[0, 10, 10].tolist() == [255, 0, 0]
    assert data.images[0, 10, 60].tolist() == [128, 128, 128]


def test_captioned_images_come_from_a_table_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (300, 200), (0, 0, 255)).save(tmp_path / "images" / "one.png")
    with (tmp_path / "ratings.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([["name", "prompt"], ["one.png", 'a "blue", wide one']])
    data = captioned.from_csv(tmp_path / "ratings.csv", tmp_path / "images")
    assert data.captions == ('a "blue", wide one',)
    assert (data.images == np.array([0, 0, 255])).all()
    both = captioned.joined(data, captioned.drawn(3))
    assert len(both.captions) == len(both.images) == 4


def test_a_table_without_prompts_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("name,score\none.png,3\n")
    with pytest.raises(ValueError, match="columns name, score; one of them must be named prompt"):
        captioned.from_csv(tmp_path / "ratings.csv", tmp_path)


def test_every_image_is_met_once_before_any_is_met_twice() -> None:
    rows = np.concatenate(list(batches(10, 4, 5, seed=0)))
    assert sorted(rows[:10].tolist()) == sorted(rows[10:].tolist()) == list(range(10))


def test_pixels_run_from_minus_one_to_one() -> None:
    pixels = to_pixels(np.array([[[[0, 255, 51]]]], dtype=np.uint8))
    assert pixels.shape == (1, 3, 1, 1)
    assert pixels.flatten().tolist() == pytest.approx([-1.0, 1.0, -0.6])
