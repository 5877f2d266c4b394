"""Pairs per second of an optimiser step, against a loop as the public diffusers script writes it.

    python -m tests.benchmarks.training --out tests/benchmarks/results/training.md
    python -m tests.benchmarks.training --backbone PATH --resolution 512 --precision bf16

Every rival runs in this one process on the same model, pairs, batch and precision. The naive loop
decodes both images, runs the VAE and the text encoder and switches the adapters off and on at every
step, and asks the device for its loss by .item(). Ours are measured from the second visit on, when
what can be cached is cached, and once more with the filling of the caches counted in.
"""

import argparse
import contextlib
import gc
import io
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from toolkit.miniworld.dataset import ingest_world
from toolkit.store import Store, create_store
from toolkit.store.images import ImageReader
from training.denoising import Condition
from training.models import encode_images, encode_prompts, load_models, prepare_trainable
from training.pairs import load_pairs, to_pixels
from training.recipe import Recipe, parse_recipe
from training.trainer import train
from training.trajectory_writer import Seen, StepRecorder


@dataclass(frozen=True)
class Setting:
    """What all rivals share."""

    backbone: str
    resolution: int
    precision: str
    batch: int
    visits: int


RIVALS: dict[str, dict[str, Any]] = {
    "plain DPO": {
        "objective": {"name": "diffusion_dpo", "beta": 300},
        "footprints": [],
        "metric": {"preset": "history"},
    },
    "plain DPO, fixed draws": {
        "objective": {"name": "diffusion_dpo", "beta": 300},
        "footprints": [],
        "metric": {"preset": "history"},
        "draws": {"kind": "fixed", "count": 1},
    },
    "Adaptive, history": {
        "objective": {"name": "adaptive_dpo", "beta": 300},
        "footprints": [],
        "metric": {"preset": "history"},
    },
    "Adaptive, running, M = 3": {
        "objective": {"name": "adaptive_dpo", "beta": 300},
        "footprints": [0.9999, 0.5],
        "metric": {"preset": "running"},
    },
}


def recipe_of(store: Store, setting: Setting, run: str, pairs: int, **changes: Any) -> Recipe:
    steps = setting.visits * pairs // setting.batch
    return parse_recipe(
        {
            "store": str(store.root),
            "run": run,
            "backbone": {"path": setting.backbone, "resolution": setting.resolution},
            "precision": setting.precision,
            "batch_size": setting.batch,
            "steps": steps,
            "log_every": pairs // setting.batch,
            "checkpoint_every": steps + 1,
            "verdicts": False,
            **changes,
        }
    )


class Speed(NamedTuple):
    """Pairs a second of one rival in one round, and what it held on the GPU."""

    warm: float
    whole: float
    """With the filling of caches counted in."""
    gigabytes: float | None
    """At most, None without a GPU."""


def held(measured: Callable[[], tuple[float, float]]) -> Speed:
    """What a rival's run measured, with its peak of GPU memory."""
    gc.collect()
    if not torch.cuda.is_available():
        return Speed(*measured(), None)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    speeds = measured()
    return Speed(*speeds, torch.cuda.max_memory_allocated() / 1e9)


def ours(
    store: Store, setting: Setting, run: str, pairs: int, **changes: Any
) -> tuple[float, float]:
    """Pairs a second once caches are warm, and over the whole run, filling included."""
    train(recipe_of(store, setting, run, pairs, **changes))
    log = store.run(run) / "metrics" / "scalars.jsonl"
    speeds = [json.loads(line)["pairs_per_second"] for line in log.read_text().splitlines()]
    epochs = speeds[: setting.visits]
    whole = len(epochs) / sum(1 / speed for speed in epochs)
    return statistics.median(epochs[1:]), whole


def naive(store: Store, setting: Setting, pairs: int) -> float:
    """Plain Diffusion-DPO without caches, in pairs a second after a first warming step."""
    from accelerate import Accelerator

    precision = "no" if setting.precision == "fp32" else setting.precision
    accelerator = Accelerator(mixed_precision=precision)
    recipe = recipe_of(store, setting, "naive", pairs, **RIVALS["plain DPO"])
    models = load_models(setting.backbone)
    prepare_trainable(models, recipe.backbone)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    for part in (models.unet, models.vae, *models.text_encoders):
        part.to(accelerator.device)
    for name, parameter in models.unet.named_parameters():
        if "lora" not in name:
            parameter.data = parameter.data.to(dtype[setting.precision])
    adapters = [p for p in models.unet.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(adapters, lr=1e-5)
    unet, optimiser = accelerator.prepare(models.unet, optimiser)
    data = load_pairs(store, labels="original", split="train")
    reader = ImageReader(store)
    order = np.random.default_rng(0).permutation(len(data))
    steps = setting.visits * pairs // setting.batch
    began = 0.0
    for step in range(steps + 1):
        if step == 1:
            began = time.perf_counter()
        start = step * setting.batch % (pairs - setting.batch + 1)
        _naive_step(
            accelerator,
            unet,
            optimiser,
            models,
            data,
            reader,
            order[start:][: setting.batch],
            setting,
        )
    return steps * setting.batch / (time.perf_counter() - began)


def _naive_step(
    accelerator: Any,
    unet: Any,
    optimiser: Any,
    models: Any,
    data: Any,
    reader: ImageReader,
    members: np.ndarray,
    setting: Setting,
) -> None:
    device = accelerator.device
    names = [data.chosen(k) for k in members] + [data.rejected(k) for k in members]
    pictures = [Image.open(io.BytesIO(reader.read(name))).convert("RGB") for name in names]
    pixels = torch.stack([to_pixels(p, setting.resolution)[0] for p in pictures]).to(device)
    mean, logvar = encode_images(models, pixels).chunk(2, dim=1)
    latents = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
    latents = latents * models.vae.config.scaling_factor
    noise = torch.randn_like(latents).chunk(2)[0].repeat(2, 1, 1, 1)
    timestep = torch.randint(0, 1000, (len(members),), device=device).repeat(2)
    noisy = models.scheduler.add_noise(latents, noise, timestep)
    more = condition_of(models, [data.prompt[k] for k in members], setting.resolution)
    with accelerator.autocast():
        predicted = unet(noisy, timestep, **more).sample
        errors = (predicted.float() - noise.float()).square().mean(dim=(1, 2, 3))
        chosen, rejected = errors.chunk(2)
        accelerator.unwrap_model(unet).disable_adapters()
        with torch.no_grad():
            reference = unet(noisy, timestep, **more).sample
            before = (reference.float() - noise.float()).square().mean(dim=(1, 2, 3))
            ref_chosen, ref_rejected = before.chunk(2)
        accelerator.unwrap_model(unet).enable_adapters()
    ell = (ref_chosen - ref_rejected) - (chosen - rejected)
    loss = -torch.nn.functional.logsigmoid(300 * ell).mean()
    accuracy = (ell > 0).float().mean()
    accelerator.gather(loss.repeat(setting.batch)).mean().item()
    accelerator.gather(accuracy).mean().item()
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(unet.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad()


def condition_of(models: Any, prompts: list[str], side: int) -> dict[str, Any]:
    """What the UNet is told of both images of each pair, encoded anew."""
    states, pooled = encode_prompts(models, prompts)
    pooled = None if pooled is None else pooled.repeat(2, 1)
    time_ids = None
    if pooled is not None:
        sides = [float(side), float(side), 0.0, 0.0, float(side), float(side)]
        time_ids = torch.tensor(sides, device=pooled.device).repeat(len(pooled), 1)
    return Condition(states.repeat(2, 1, 1), pooled, time_ids).arguments()


@contextlib.contextmanager
def recorder_off() -> Iterator[None]:
    """Runs that hold no rows and write none: what recording costs is the difference."""
    kept = StepRecorder.add, StepRecorder.seen
    still = Seen(*(np.ones(1, np.float32) for _ in Seen._fields))
    StepRecorder.add = lambda *_: None  # type: ignore[method-assign, assignment]
    StepRecorder.seen = lambda *_: still  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        StepRecorder.add, StepRecorder.seen = kept  # type: ignore[method-assign]


def measure(setting: Setting, pairs: int, rounds: int) -> dict[str, list[Speed]]:
    """Every rival in turn, several rounds, so that a busy moment hits all alike."""
    found: dict[str, list[Speed]] = {"naive plain loop": []}
    with tempfile.TemporaryDirectory() as folder:
        store = create_store(Path(folder) / "store")
        ingest_world(store, Path(folder) / "truth.parquet", pairs=pairs, seed=0)
        for turn in range(rounds):
            found["naive plain loop"].append(held(lambda: (naive(store, setting, pairs),) * 2))
            for name, changes in RIVALS.items():
                run = f"{name}-{turn}".replace(" ", "_").replace(",", "").replace("=", "")
                speeds = held(partial(ours, store, setting, run, pairs, **changes))
                found.setdefault(name, []).append(speeds)
            with recorder_off():
                silent, plain = f"silent-{turn}", RIVALS["plain DPO"]
                speeds = held(partial(ours, store, setting, silent, pairs, **plain))
            found.setdefault("plain DPO, nothing recorded", []).append(speeds)
    return found


def report(setting: Setting, found: dict[str, list[Speed]], command: str) -> str:
    base = [speed.warm for speed in found["naive plain loop"]]
    plain = [speed.warm for speed in found["plain DPO"]]
    lines = [
        "# Pairs per second of a training step",
        "",
        f"    {command}",
        "",
        f"{_hardware()}; torch {torch.__version__}, {torch.get_num_threads()} threads. Backbone "
        f"{setting.backbone}, {setting.resolution} px, LoRA, {setting.precision}, batch "
        f"{setting.batch}, {len(base)} rounds; median (lowest to highest round).",
        "",
        "| | pairs per second | x naive | x our plain | x naive, caches filled on the way | "
        "GPU memory, GB at most |",
        "|---|---|---|---|---|---|",
    ]
    for name, speeds in found.items():
        warm, whole, memory = zip(*speeds, strict=True)
        most = "–" if None in memory else f"{max(memory):.1f}"
        lines.append(
            f"| {name} | {statistics.median(warm):.1f} | {_ratio(warm, base)} | "
            f"{_ratio(warm, plain)} | {_ratio(whole, base)} | {most} |"
        )
    return "\n".join([*lines, ""])


def _ratio(speeds: Any, base: list[float]) -> str:
    ratios = sorted(one / other for one, other in zip(speeds, base, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":")[1].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return f"CPU {names[0] if names else platform.processor()}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training")
    parser.add_argument("--backbone", default="miniature:sd")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--visits", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    setting = Setting(asked.backbone, asked.resolution, asked.precision, asked.batch, asked.visits)
    text = report(
        setting,
        measure(setting, asked.pairs, asked.rounds),
        "python -m tests.benchmarks.training"
        + f" --backbone {asked.backbone} --resolution {asked.resolution} --precision "
        + f"{asked.precision} --batch {asked.batch} --pairs {asked.pairs}",
    )
    print(text)
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
