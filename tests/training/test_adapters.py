"""Starting from a given adapter: the reference is that start, never the bare base by accident."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from tests.factories import StoreFactory
from tests.training.backbones import TINY
from toolkit.errors import TrainingError
from toolkit.store import Store, connect
from toolkit.store.connection import add_trajectory, fetch
from toolkit.store.runs import run_about
from training.ema import snapshot, tensors_hash
from training.lora import WEIGHTS, add_lora, is_fresh, load_lora, without_adapters
from training.models import load_models, prepare_trainable
from training.recipe import Backbone, Lora, Recipe
from training.trainer import train

MakeRecipe = Callable[..., Recipe]
SHAPE = Lora(rank=4, alpha=12)  # alpha other than the rank: the default of many loaders would err


@pytest.fixture
def adapter(make_store: StoreFactory, recipe_for: MakeRecipe) -> tuple[Store, Path]:
    """A store and the checkpoint of a short run in it."""
    store = make_store()
    train(recipe_for(store, run="first", backbone={"lora": SHAPE.model_dump()}))
    return store, store.run("first") / "checkpoints" / "step-000008"


def all_rows(store: Store, run: str) -> list[dict]:
    with connect(store) as con:
        add_trajectory(con, store, run)
        return fetch(con, "SELECT * FROM trajectory ORDER BY ALL").to_pylist()


def rows_of(store: Store, run: str) -> list[dict]:
    with connect(store) as con:
        add_trajectory(con, store, run)
        sql = "SELECT * FROM trajectory WHERE step = 0 ORDER BY pair_id"
        return fetch(con, sql).to_pylist()


def test_a_checkpoint_has_its_strength_for_other_programs_and_may_be_read_by_all(
    adapter: tuple[Store, Path], sd: Path
) -> None:
    _, folder = adapter
    tensors = load_file(folder / "lora_kohya.safetensors")
    alphas = {name: float(value) for name, value in tensors.items() if name.endswith(".alpha")}
    assert set(alphas.values()) == {SHAPE.alpha}
    assert len(tensors) == 3 * len(alphas)
    assert all(name.startswith("lora_unet_") for name in tensors)
    loaded = [load_models(str(sd)).unet for _ in range(2)]
    for unet, file in zip(loaded, (folder, folder / "lora_kohya.safetensors"), strict=True):
        load_lora(unet, file, SHAPE)
    for one, other in zip(loaded[0].parameters(), loaded[1].parameters(), strict=True):
        assert torch.equal(one, other)
    plain = folder.parent.parent / "run.json"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.stat().st_mode for path in files} == {plain.stat().st_mode}


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_reference_is_the_adapters_network_and_not_the_bare_base(
    kind: str, adapter: tuple[Store, Path], recipe_for: MakeRecipe, sd: Path
) -> None:
    store, folder = adapter
    backbone = {"train": kind, "lora": SHAPE.model_dump()}
    train(recipe_for(store, run="bare", steps=1, backbone=backbone))
    train(recipe_for(store, run="on", steps=1, backbone={**backbone, "adapter": str(folder)}))
    bare, on = rows_of(store, "bare"), rows_of(store, "on")
    for row in on:  # the policy starts as its reference
        assert row["err_ref_0"] == row["err_0"][0]
        assert row["err_ref_1"] == row["err_1"][0]
    moved = [abs(a["err_ref_0"] - b["err_ref_0"]) for a, b in zip(bare, on, strict=True)]
    assert max(moved) > 1e-5
    models = load_models(str(sd))
    section = Backbone(path=str(sd), train=kind, lora=SHAPE, adapter=str(folder))
    prepare_trainable(models, section)
    hashed = run_about(store, "on")["reference"]
    assert hashed == tensors_hash(snapshot(models.unet))
    assert hashed != run_about(store, "bare")["reference"]


def test_fresh_adapters_are_switched_off_for_the_reference_and_nothing_changes(
    make_store: StoreFactory, recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    switched: list[Any] = []

    def counted(unet: Any) -> contextlib.AbstractContextManager[None]:
        switched.append(unet)
        return without_adapters(unet)

    monkeypatch.setattr("training.step.without_adapters", counted)
    train(recipe_for(store, run="off", steps=3))
    assert switched
    switched.clear()
    monkeypatch.setattr("training.setup.is_fresh", lambda _: False)
    train(recipe_for(store, run="on", steps=3))
    assert not switched
    assert all_rows(store, "off") == all_rows(store, "on")
    tensors = [
        load_file(store.run(run) / "checkpoints" / "step-000003" / WEIGHTS) for run in ("off", "on")
    ]
    assert all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())


def test_trained_adapters_are_part_of_the_reference(sd: Path) -> None:
    unet = load_models(str(sd)).unet
    add_lora(unet, SHAPE)
    fresh = snapshot(unet)
    assert is_fresh(fresh)
    up = next(name for name in fresh if ".lora_B." in name)
    assert not is_fresh({**fresh, up: fresh[up] + 1e-6})
    assert not is_fresh({"conv_in.weight": torch.zeros(1)})


def test_fused_and_attached_adapters_are_the_same_network_as_in_a_pipeline(
    adapter: tuple[Store, Path], sd: Path
) -> None:
    _, folder = adapter
    rng = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, 4, 8, 8, generator=rng)
    states = torch.randn(1, 5, TINY.text_width, generator=rng)
    pipeline = StableDiffusionPipeline.from_pretrained(sd)
    networks = [pipeline.unet]
    for kind in ("lora", "full"):
        models = load_models(str(sd))
        section = Backbone(path=str(sd), train=kind, lora=SHAPE, adapter=str(folder))
        prepare_trainable(models, section)
        networks.append(models.unet)
    with torch.no_grad():
        bare = pipeline.unet(noisy, 7, states).sample
        pipeline.load_lora_weights(folder)
        found = [unet(noisy, 7, states).sample for unet in networks]
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], rtol=1e-4, atol=1e-5)
    assert (found[0] - bare).abs().max() > 1e-4
    assert not any(".lora_" in name for name, _ in networks[2].named_parameters())


def test_what_does_not_fit_is_said_in_a_sentence(
    adapter: tuple[Store, Path], sd: Path, tmp_path: Path
) -> None:
    _, folder = adapter
    text = tmp_path / "text.safetensors"
    save_file({"text_encoder.x.lora_A.weight": torch.zeros(4, 4)}, text)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((folder / WEIGHTS).read_bytes()[:100])
    no_alpha = tmp_path / "no_alpha.safetensors"  # says no alpha: the recipe's counts
    save_file(load_file(folder / WEIGHTS), no_alpha)
    cases = [
        (tmp_path / "none", SHAPE, "There is no adapter at"),
        (folder, Lora(rank=8, alpha=12), r"has rank 4 and the recipe lora.rank 8; set lora.rank"),
        (folder, Lora(rank=4, alpha=4), "trained with alpha 12 and the recipe has lora.alpha 4"),
        (folder, Lora(rank=4, alpha=12, targets=("to_q",)), "set lora.targets"),
        (text, SHAPE, "belong to no UNet"),
        (broken, SHAPE, "cannot be read"),
    ]
    for path, shape, says in cases:
        with pytest.raises(TrainingError, match=says):
            load_lora(load_models(str(sd)).unet, path, shape)
    load_lora(load_models(str(sd)).unet, no_alpha, Lora(rank=4, alpha=3))


@pytest.mark.parametrize(
    "kind", [{"use_rslora": True}, {"use_dora": True}, {"alpha_pattern": {"to_q": 8}}]
)
def test_adapters_whose_tensors_mean_another_network_are_refused(
    kind: dict[str, Any], sd: Path, tmp_path: Path
) -> None:
    """Saved as peft and diffusers save them; read as plain LoRA they would start elsewhere."""
    unet = load_models(str(sd)).unet
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_v"], **kind))
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(unet)),
        unet_lora_adapter_metadata=unet.peft_config["default"].to_dict(),
    )
    shape = Lora(rank=4, alpha=4, targets=("to_q", "to_v"))
    with pytest.raises(TrainingError, match=f"was made with {next(iter(kind))}, under which"):
        load_lora(load_models(str(sd)).unet, tmp_path, shape)


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (("nonsense",), "names 'nonsense'; every"),
        (("to_q", "to_kk"), "names 'to_kk'; every"),  # beside one that fits
        (("attn1",), "names 'attn1'; every"),  # there, and no layer
        ((), "is empty; every"),
    ],
)
def test_targets_that_fit_no_layer_are_named_beside_some_that_do(
    targets: tuple[str, ...], found: str, sd: Path
) -> None:
    unet = load_models(str(sd)).unet
    with pytest.raises(TrainingError) as caught:
        add_lora(unet, Lora(targets=targets))
    head, _, some = str(caught.value).rstrip(".").partition(" of this network, such as ")
    assert head.startswith(f"lora.targets {found}")
    add_lora(unet, Lora(targets=tuple(some.split(", "))))  # what it offers can be had
