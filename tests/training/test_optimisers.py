"""Every option on a real, tiny UNet: it learns, and what must not change does not."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from tests.benchmarks.miniature import parts
from tests.training.backbones import TINY, tiny_sd
from toolkit.errors import TrainingError
from toolkit.miniworld.dataset import ingest_world
from toolkit.store import create_store
from toolkit.store.trajectory import read_trajectory
from training.denoising import instead
from training.ema import snapshot, trainable
from training.lora import add_lora
from training.recipe import Lora, Network, Optimiser, parse_recipe
from training.setup import make_optimiser, prepare_network
from training.trainer import train


def network(seed: int = 0) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    unet = parts.unet(TINY).requires_grad_(False).eval()
    add_lora(unet, Lora(rank=4, alpha=4))
    return unet


def inputs() -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(1)
    noisy = torch.randn(2, 4, 8, 8, generator=rng)
    states = torch.randn(2, 5, TINY.text_width, generator=rng)
    return noisy, torch.tensor([10, 500]), states


def loss_of(unet: torch.nn.Module) -> torch.Tensor:
    return unet(*inputs(), return_dict=False)[0].square().mean()


def loss_and_gradients(unet: torch.nn.Module) -> tuple[float, list[torch.Tensor]]:
    loss = loss_of(unet)
    loss.backward()
    return loss.item(), [p.grad for p in trainable(unet).values() if p.grad is not None]


@pytest.mark.parametrize(("name", "rate"), [("adamw", 1e-2), ("adafactor", 1.0)])
def test_an_optimiser_lowers_the_loss(name: str, rate: float) -> None:
    unet = network()
    section = Optimiser.model_validate({"name": name, "learning_rate": rate})
    optimiser = make_optimiser(section, trainable(unet).values(), torch.device("cpu"))
    first = loss_of(unet).item()
    for _ in range(20):
        optimiser.zero_grad()
        loss_of(unet).backward()
        optimiser.step()
    assert loss_of(unet).item() < 0.9 * first


def test_adafactor_keeps_less_than_adamw() -> None:
    def state(name: str) -> int:
        unet = network()
        section = Optimiser.model_validate({"name": name})
        optimiser = make_optimiser(section, trainable(unet).values(), torch.device("cpu"))
        loss_of(unet).backward()
        optimiser.step()
        held = [v for kept in optimiser.state.values() for v in kept.values()]
        return sum(v.numel() for v in held if torch.is_tensor(v))

    numbers = sum(p.numel() for p in trainable(network()).values())
    assert state("adamw") >= 2 * numbers
    assert state("adafactor") < numbers


def test_the_recipes_numbers_reach_adamw() -> None:
    section = Optimiser(learning_rate=3e-4, beta1=0.5, beta2=0.6, weight_decay=0.25)
    optimiser = make_optimiser(section, trainable(network()).values(), torch.device("cpu"))
    group = optimiser.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (3e-4, (0.5, 0.6), 0.25)


def test_eight_bit_adamw_without_its_package_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("bitsandbytes", "bitsandbytes.optim"):
        monkeypatch.setitem(sys.modules, name, None)  # as import finds an absent package
    section = Optimiser(name="adamw_8bit")
    with pytest.raises(TrainingError, match="pip install bitsandbytes"):
        make_optimiser(section, trainable(network()).values(), torch.device("cpu"))


def test_eight_bit_adamw_holds_bytes_where_it_is_installed() -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    tensor = torch.nn.Parameter(torch.ones(128, 64))  # below 4,096 numbers it keeps full precision
    optimiser = make_optimiser(Optimiser(name="adamw_8bit"), [tensor], torch.device("cpu"))
    tensor.square().sum().backward()
    optimiser.step()
    assert optimiser.state[tensor]["state1"].dtype == torch.uint8
    assert tensor.max() < 1


@pytest.mark.parametrize("option", ["gradient_checkpointing", "channels_last"])
def test_an_option_changes_neither_loss_nor_gradients(option: str) -> None:
    plain, changed = network(), network()
    prepare_network(changed, Network.model_validate({option: True}))
    loss, gradients = loss_and_gradients(plain)
    same_loss, same_gradients = loss_and_gradients(changed)
    assert same_loss == pytest.approx(loss, rel=1e-5)
    assert len(gradients) == len(same_gradients) > 0
    for a, b in zip(gradients, same_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    assert trainable(plain).keys() == trainable(changed).keys()


def test_checkpointing_computes_the_blocks_twice_and_channels_last_reorders() -> None:
    calls: list[int] = []
    for checkpointing in (False, True):
        unet = network()
        prepare_network(unet, Network(gradient_checkpointing=checkpointing))
        seen: list[Any] = []
        unet.mid_block.resnets[1].register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        loss_of(unet).backward()
        calls.append(len(seen))
    assert calls == [1, 2]
    unet = network()
    prepare_network(unet, Network(channels_last=True))
    assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_compiled_blocks_agree_also_when_read_with_other_tensors() -> None:
    """Footprints and reference go through the same compiled code with tensors of their own."""
    plain, compiled = network(), network()
    prepare_network(compiled, Network(compile=True))
    loss, gradients = loss_and_gradients(plain)
    same_loss, same_gradients = loss_and_gradients(compiled)
    assert same_loss == pytest.approx(loss, rel=1e-4)
    for a, b in zip(gradients, same_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    other = {name: value + 0.05 for name, value in snapshot(plain).items()}
    with torch.no_grad():
        found = []
        for unet in (plain, compiled):
            with instead(unet, other):
                found.append(unet(*inputs(), return_dict=False)[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)
    assert (found[0].square().mean() - loss).abs() > 1e-4


@pytest.mark.slow
def test_a_compiled_run_measures_what_a_plain_one_does(tmp_path: Path) -> None:
    """Policy, reference and two footprints over six steps: the same pairs, the same errors."""
    store = create_store(tmp_path / "store")
    ingest_world(store, tmp_path / "truth.parquet", pairs=8, seed=0)
    found = []
    for compiled in (False, True):
        raw = {
            "store": str(store.root),
            "run": f"compiled-{compiled}",
            "backbone": {"path": str(tiny_sd(tmp_path / "sd")), "resolution": TINY.image},
            "objective": {"name": "adaptive_dpo", "beta": 300},
            "metric": {"preset": "running"},
            "network": {"compile": compiled},
            "optimiser": {"learning_rate": 1e-2},
            "steps": 6,
            "batch_size": 4,
        }
        run = train(parse_recipe(raw))
        columns = ["step", "pair_id", "err_ref_0", "err_0", "err_1"]
        rows = read_trajectory(store, run, columns, kind="train")
        found.append(rows.sort_by([("step", "ascending"), ("pair_id", "ascending")]))
    plain, same = found
    assert plain["pair_id"].to_pylist() == same["pair_id"].to_pylist()
    for name in ("err_ref_0", "err_0", "err_1"):
        np.testing.assert_allclose(
            np.array(plain[name].to_pylist()), np.array(same[name].to_pylist()), atol=2e-6
        )
    last = np.array(plain["err_0"].to_pylist())[-4:]
    moved = np.abs(last - np.array(plain["err_ref_0"].to_pylist())[-4:, None])
    assert moved.max() > 1e-4, "a policy that stayed would agree with anything"
