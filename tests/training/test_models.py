"""What a backbone can be asked for."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler

from tests.benchmarks.miniature import parts
from tests.training.backbones import TINY
from toolkit.errors import InputError, TrainingError
from training.models import load_models, prepare_trainable, sample_latents
from training.recipe import Backbone
from training.sampling import use_sampler


def test_an_autoencoder_that_shrinks_by_sixteen_wants_sides_that_it_divides(sd: Path) -> None:
    models = load_models(str(sd))
    models.vae = parts.autoencoder(replace(TINY, vae_channels=(8,) * 5))
    assert models.latent_shape(32) == (4, 2, 2)
    with pytest.raises(TrainingError, match=r"is 24, .* by 16; set it to a multiple of 16, .* 32"):
        prepare_trainable(models, Backbone(path=str(sd), resolution=24))
    prepare_trainable(models, Backbone(path=str(sd), resolution=32))


BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
FOREIGN = [
    ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "which names no betas"),
    ({"_class_name": "UniPCMultistepScheduler", **BETAS, "use_flow_sigmas": True}, "flow matching"),
    ({"_class_name": "EDMEulerScheduler", "sigma_data": 1.0, "sigma_max": 120.0}, "EDM"),
    ({"_class_name": "EulerDiscreteScheduler", **BETAS, "timestep_type": "continuous"}, "EDM"),
    ({"_class_name": "DDIMScheduler", **BETAS, "prediction_type": "sample"}, "predicts 'sample'"),
]


@pytest.mark.parametrize(("config", "says"), FOREIGN)
def test_a_foreign_noise_schedule_is_refused(
    config: dict, says: str, sd: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(sd, tmp_path / "model")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(config))
    with pytest.raises(TrainingError, match=f"The noise schedule of .*{says}.*SD1.5's and SDXL's"):
        load_models(str(folder))
    with pytest.raises(InputError, match=f"{says}.*--sampler own"):
        use_sampler(SimpleNamespace(scheduler=SimpleNamespace(config=config)), "ddim")
    file.write_text(json.dumps({"_class_name": "PNDMScheduler", **BETAS}))
    assert load_models(str(folder)).timesteps == 1000


def test_latents_are_centred_and_scaled_as_the_pipeline_undoes_it(
    sd: Path, sdxl: Path, tmp_path: Path
) -> None:
    stated = {"latents_mean": [0.5, -1.0, 2.0, 0.0], "latents_std": [2.0, 0.5, 1.0, 3.0]}
    posterior, noise = torch.randn(2, 8, 3, 3), torch.randn(2, 4, 3, 3)
    plain = sample_latents(load_models(str(sdxl)), posterior, noise)
    for path, more in ((sdxl, stated), (sd, stated), (sd, {"shift_factor": 0.1})):
        folder = shutil.copytree(path, tmp_path / f"{path.name}-{len(more)}")
        vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
        vae.register_to_config(**more)
        vae.save_pretrained(folder / "vae")
        if path == sd:
            with pytest.raises(TrainingError, match="StableDiffusionPipeline does not undo"):
                load_models(str(folder))
            continue
        models = load_models(str(folder))
        mean, std = (torch.tensor(stated[key])[:, None, None] for key in stated)
        scale = models.vae.config.scaling_factor
        there = sample_latents(models, posterior, noise) * std / scale + mean
        torch.testing.assert_close(there, plain / scale)


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_a_sampler_clamps_only_where_the_config_says_so(name: str) -> None:
    for says, clamps in (({}, False), ({"clip_sample": True}, True)):
        scheduler = EulerDiscreteScheduler(**BETAS)
        scheduler.register_to_config(**says)
        pipeline = SimpleNamespace(scheduler=scheduler)
        use_sampler(pipeline, name)
        assert pipeline.scheduler.config.clip_sample is clamps
