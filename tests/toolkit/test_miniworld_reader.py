"""The reader gives back what was drawn, and gives up gracefully on what is no scene."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from toolkit.miniworld.pixel_scorer import read
from toolkit.miniworld.scenes import ATTRIBUTES, VOCABULARY, all_scenes, draw, look


def accuracy(blur: float, every: int) -> dict[str, float]:
    scenes = all_scenes(jitter=5)[::every]
    right = dict.fromkeys(ATTRIBUTES, 0)
    for scene in scenes:
        image = draw(scene)
        reading = read(image.filter(ImageFilter.GaussianBlur(blur)) if blur else image)
        for name in ATTRIBUTES:
            right[name] += reading.best(name) == getattr(scene, name)
    return {name: count / len(scenes) for name, count in right.items()}


def test_reader_reads_back_every_scene_of_the_vocabulary() -> None:
    assert accuracy(blur=0.0, every=1) == dict.fromkeys(ATTRIBUTES, 1.0)


def test_reader_measures_the_numbers_behind_a_scene() -> None:
    for scene in all_scenes(jitter=9)[::31]:
        truth, reading = look(scene), read(draw(scene))
        assert abs((reading.hue - truth.hue + 180) % 360 - 180) < 2.0
        assert reading.radius == pytest.approx(truth.radius, rel=0.12)
        assert reading.x == pytest.approx(truth.x, abs=1.0)
        assert reading.y == pytest.approx(truth.y, abs=1.5)
        assert reading.saturation == pytest.approx(truth.saturation, abs=0.03)
        assert reading.luminance == pytest.approx(truth.luminance, abs=0.01)


def test_belief_is_shared_out_and_whole_on_clean_drawings() -> None:
    for scene in all_scenes()[::97]:
        belief = read(draw(scene)).belief
        assert tuple(belief) == ATTRIBUTES
        for name, shares in belief.items():
            assert set(shares) == set(VOCABULARY[name])
            assert 0.9 < sum(shares.values()) <= 1.0 + 1e-9


def test_blur_takes_the_shape_before_the_rest() -> None:
    slight, strong = accuracy(blur=1.0, every=23), accuracy(blur=3.0, every=23)
    assert min(slight.values()) >= 0.98
    assert strong["shape"] < 0.8
    assert min(strong[name] for name in ("colour", "place", "background")) >= 0.95


def test_blur_lowers_the_belief_in_the_right_shape() -> None:
    def mean_belief(blur: float) -> float:
        scenes = all_scenes(jitter=5)[::37]
        blurred = (draw(scene).filter(ImageFilter.GaussianBlur(blur)) for scene in scenes)
        return float(
            np.mean(
                [
                    read(image).belief["shape"][scene.shape]
                    for image, scene in zip(blurred, scenes, strict=True)
                ]
            )
        )

    sharp, soft, softer = mean_belief(0.3), mean_belief(1.5), mean_belief(3.0)
    assert sharp > 0.95
    assert sharp > soft > softer


def test_a_little_noise_does_not_mislead() -> None:
    rng = np.random.default_rng(3)
    for scene in all_scenes(jitter=5)[::53]:
        pixels = np.asarray(draw(scene)) + rng.normal(0.0, 8.0, (64, 64, 3))
        reading = read(np.clip(pixels, 0, 255).astype(np.uint8))
        assert reading.scene() is not None
        assert all(reading.best(name) == getattr(scene, name) for name in ATTRIBUTES)


@pytest.mark.parametrize("grey", [0, 100, 255])
def test_a_flat_image_shows_no_shape(grey: int) -> None:
    reading = read(np.full((64, 64, 3), grey, dtype=np.uint8))
    assert reading.presence == 0.0
    assert reading.scene() is None
    assert reading.best("shape") is None
    assert reading.best("background") is not None


def test_noise_shows_no_shape() -> None:
    for seed in range(5):
        noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        assert read(noise).presence < 0.05


@pytest.mark.parametrize("size", [(1, 1), (7, 200), (512, 512)])
@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_any_size_and_mode_can_be_read(size: tuple[int, int], mode: str) -> None:
    assert 0.0 <= read(Image.new(mode, size)).presence <= 1.0


def test_an_enlarged_scene_reads_the_same() -> None:
    scene = all_scenes()[700]
    large = draw(scene).resize((512, 512), Image.Resampling.LANCZOS)
    assert all(read(large).best(name) == getattr(scene, name) for name in ATTRIBUTES)
