import torch

from training.ema import footprints_of, snapshot, tensors_hash, trainable
from training.recipe import FootprintSection


def one_weight(value: float) -> torch.nn.Module:
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(module.weight, value)
    return module


def test_the_decay_ramps_up_to_its_cap() -> None:
    """From 0 towards 1: decays .1, 2/11, 3/12 leave 1 - product of decays."""
    policy = one_weight(0.0)
    caps = (FootprintSection(decay=0.9999), FootprintSection(decay=0.15))
    slow, fast = footprints_of(policy, caps)
    torch.nn.init.constant_(policy.weight, 1.0)
    for _ in range(3):
        slow.update(trainable(policy))
        fast.update(trainable(policy))
    expected_slow = 1 - 0.1 * (2 / 11) * (3 / 12)
    expected_fast = 1 - 0.1 * 0.15 * 0.15
    assert abs(slow.tensors["weight"].item() - expected_slow) < 1e-6
    assert abs(fast.tensors["weight"].item() - expected_fast) < 1e-6


def test_the_ramp_is_a_setting_and_part_of_the_name() -> None:
    """With ramp 4: decays 1/4, 2/5; with ramp 1 the cap from the first update on."""
    policy = one_weight(0.0)
    wanted = (FootprintSection(decay=0.9999, ramp=4), FootprintSection(decay=0.5, ramp=1))
    ramped, constant = footprints_of(policy, wanted)
    torch.nn.init.constant_(policy.weight, 1.0)
    for _ in range(2):
        ramped.update(trainable(policy))
        constant.update(trainable(policy))
    assert abs(ramped.tensors["weight"].item() - (1 - (1 / 4) * (2 / 5))) < 1e-6
    assert abs(constant.tensors["weight"].item() - (1 - 0.5 * 0.5)) < 1e-6
    assert [ramped.name, constant.name] == ["ema_0.9999_ramp_4", "ema_0.5_ramp_1"]
    assert footprints_of(policy, (FootprintSection(decay=0.5),))[0].name == "ema_0.5"


def test_a_snapshot_holds_trainable_tensors_only_and_does_not_follow() -> None:
    module = torch.nn.Sequential(one_weight(1.0), one_weight(2.0))
    module[0].requires_grad_(False)
    reference = snapshot(module)
    torch.nn.init.constant_(module[1].weight, 5.0)
    assert list(reference) == ["1.weight"]
    assert reference["1.weight"].item() == 2.0


def test_the_hash_names_the_values() -> None:
    a, b = snapshot(one_weight(1.0)), snapshot(one_weight(1.0))
    assert tensors_hash(a) == tensors_hash(b)
    assert tensors_hash(a) != tensors_hash(snapshot(one_weight(1.0001)))
