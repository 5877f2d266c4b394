"""What a backbone can be asked for."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.miniature import parts
from tests.training.backbones import TINY
from toolkit.errors import TrainingError
from training.models import load_models, prepare_trainable
from training.recipe import Backbone


def test_an_autoencoder_that_shrinks_by_sixteen_wants_sides_that_it_divides(sd: Path) -> None:
    models = load_models(str(sd))
    models.vae = parts.autoencoder(replace(TINY, vae_channels=(8,) * 5))
    assert models.latent_shape(32) == (4, 2, 2)
    with pytest.raises(TrainingError, match=r"is 24, .* by 16; set it to a multiple of 16, .* 32"):
        prepare_trainable(models, Backbone(path=str(sd), resolution=24))
    prepare_trainable(models, Backbone(path=str(sd), resolution=32))
