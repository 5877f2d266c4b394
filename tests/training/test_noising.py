import numpy as np

from training.denoising import epoch_order, image_noise, pair_draw

SHAPE = (4, 8, 8)


def test_a_draw_depends_on_seed_pair_and_draw_alone() -> None:
    t, noise = pair_draw(0, "pair", 3, SHAPE, 1000)
    again_t, again = pair_draw(0, "pair", 3, SHAPE, 1000)
    assert t == again_t
    np.testing.assert_array_equal(noise, again)
    for other in ((1, "pair", 3), (0, "other", 3), (0, "pair", 4)):
        assert not np.array_equal(noise, pair_draw(*other, SHAPE, 1000)[1])


def test_noise_is_standard_normal_and_timesteps_cover_the_schedule() -> None:
    drawn = [pair_draw(0, f"p{k}", 0, SHAPE, 1000) for k in range(400)]
    noise = np.concatenate([n.ravel() for _, n in drawn])
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    timesteps = np.array([t for t, _ in drawn])
    assert timesteps.min() >= 0
    assert timesteps.max() <= 999
    assert np.histogram(timesteps, bins=10, range=(0, 1000))[0].min() > 20


def test_fixed_draws_put_one_timestep_in_each_part_of_the_schedule() -> None:
    for pair in ("a", "b", "c"):
        timesteps = [pair_draw(0, pair, k, SHAPE, 1000, strata=8)[0] for k in range(8)]
        assert sorted(t * 8 // 1000 for t in timesteps) == list(range(8))


def test_vae_noise_belongs_to_the_image() -> None:
    np.testing.assert_array_equal(image_noise(0, "i", 1, SHAPE), image_noise(0, "i", 1, SHAPE))
    assert not np.array_equal(image_noise(0, "i", 1, SHAPE), image_noise(0, "j", 1, SHAPE))


def test_an_epoch_meets_every_pair_once_in_an_order_of_its_own() -> None:
    first, second = epoch_order(0, 0, 50), epoch_order(0, 1, 50)
    assert sorted(first) == sorted(second) == list(range(50))
    assert not np.array_equal(first, second)
