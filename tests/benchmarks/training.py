"""Seconds a pair of an optimiser step, against the public Diffusion-DPO script of diffusers.

    python -m tests.benchmarks.training --rival FOLDER --out tests/benchmarks/results/training.md
    python -m tests.benchmarks.training --rival FOLDER --backbone PATH --resolution 512 \\
        --precision bf16

FOLDER contains diffusers' examples/research_projects/diffusion_dpo, unchanged. Without --rival a
loop of ours stands in that decodes both images, runs the VAE and the text encoder and switches the
adapters off and on at every step, as the script does.

Everything runs in this one process on the same model, images, batch and precision, and takes turns
for several rounds. Ratios are of seconds a pair between the same two steps of a run: by the clock
on a GPU, and in CPU seconds elsewhere, where other work may share the machine.
"""

import argparse
import contextlib
import io
import platform
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from tests.benchmarks.clock import Clock, Taken
from tests.benchmarks.diffusers_script import find_script, run_script
from tests.benchmarks.synthetic import write_pictures
from toolkit.ingest import ingest
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
    """What all of them share."""

    backbone: str
    resolution: int
    precision: str
    batch: int
    warm: int
    """Steps before the clock starts."""
    steps: int
    """Steps that are timed."""
    workers: int = 0
    """Processes that decode images for the script."""
    network: tuple[tuple[str, Any], ...] = ()
    """Of the recipe's section `network`."""

    @property
    def last(self) -> int:
        return self.warm + self.steps

    @property
    def pairs(self) -> int:
        """So many that no pair is met twice."""
        return self.batch * self.last

    @property
    def family(self) -> str:
        return load_models(self.backbone).family


def _objective(name: str, preset: str, footprints: tuple[float, ...] = ()) -> dict[str, Any]:
    return {
        "objective": {"name": name, "beta": 300},
        "footprints": list(footprints),
        "metric": {"preset": preset},
    }


PLAIN = _objective("diffusion_dpo", "history")
HISTORY = _objective("adaptive_dpo", "history")
M3 = _objective("adaptive_dpo", "running", (0.9999, 0.5))
COLD = {"caches": {"disk": False, "memory_gb": 0.0}}
CACHED = {"caches": {"disk": True}}
FIXED = {**CACHED, "draws": {"kind": "fixed", "count": 1}}

OURS: dict[str, dict[str, Any]] = {
    "plain DPO, first visit": {**PLAIN, **COLD},
    "plain DPO, cached": {**PLAIN, **CACHED},
    "plain DPO, fixed draws": {**PLAIN, **FIXED},
    "Adaptive, history, cached": {**HISTORY, **CACHED},
    "Adaptive, M = 3, first visit": {**M3, **COLD},
    "Adaptive, M = 3, cached": {**M3, **CACHED},
    "Adaptive, M = 3, fixed draws": {**M3, **FIXED},
}


def recipe_of(store: Store, setting: Setting, run: str, **changes: Any) -> Recipe:
    """A recipe of `setting.last` steps that logs, samples and saves nothing on the way."""
    return parse_recipe(
        {
            "store": str(store.root),
            "run": run,
            "backbone": {"path": setting.backbone, "resolution": setting.resolution},
            "precision": setting.precision,
            "batch_size": setting.batch,
            "steps": setting.last,
            "log_every": 10,
            "checkpoint_every": 10**6,
            "verdicts": False,
            "network": dict(setting.network),
            **changes,
        }
    )


def ours(store: Store, setting: Setting, run: str, changes: dict[str, Any]) -> Taken:
    """Train with these changes to the recipe; the run is deleted."""
    _reset()
    clock = Clock(setting.warm, setting.last)
    train(recipe_of(store, setting, run, **changes), progress=clock)
    shutil.rmtree(store.run(run))
    return clock.taken(setting.batch)


def _reset() -> None:
    """Let one process train in another number format than before."""
    AcceleratorState._reset_state(True)


@dataclass(frozen=True)
class Bench:
    """A source of JPEGs larger than they are trained at, as Pick-a-Pic's are, and its store."""

    folder: Path
    store: Store
    setting: Setting
    rival: Path | None
    """The folder of diffusers' scripts."""

    @classmethod
    def make(cls, folder: Path, setting: Setting, rival: Path | None = None) -> "Bench":
        """Write the images, ingest them, and fill the caches."""
        source = folder / "data"
        write_pictures(source, setting.pairs, side=setting.resolution * 3 // 2, ties=False)
        store = create_store(folder / "store")
        ingest(store, "pickapic", [source])
        bench = cls(folder, store, setting, rival)
        ours(store, setting, "fill", {**PLAIN, **FIXED})
        return bench

    def script(self) -> Taken:
        """The public script, or our loop that stands in."""
        _reset()
        setting, clock = self.setting, Clock(self.setting.warm, self.setting.last)
        if self.rival is None:
            naive(self.store, setting, clock)
            return clock.taken(setting.batch)
        models = load_models(setting.backbone)
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            run_script(
                find_script(self.rival, models.family),
                models.path,
                self.folder / "data",
                Path(out),
                clock,
                resolution=setting.resolution,
                precision=setting.precision,
                batch=setting.batch,
                steps=setting.last,
                workers=setting.workers,
                more=_flags(setting, models.family),
            )
        return clock.taken(setting.batch)

    def ours(self, name: str, **more: Any) -> Taken:
        """One of OURS."""
        run = name.replace(" ", "_").replace(",", "").replace("=", "")
        return ours(self.store, self.setting, run, {**OURS[name], **more})

    def silent(self) -> Taken:
        """Plain DPO, cached, without recording anything."""
        with recorder_off():
            return ours(self.store, self.setting, "silent", OURS["plain DPO, cached"])

    def all(self) -> dict[str, Callable[[], Taken]]:
        """Everything that is compared, by name."""
        rival = "diffusers' script" if self.rival else "our loop in place of the script"
        return {
            rival: self.script,
            **{name: partial(self.ours, name) for name in OURS},
            SILENT: self.silent,
        }


SILENT = "plain DPO, cached, nothing recorded"


def _flags(setting: Setting, family: str) -> tuple[str, ...]:
    checkpointing = dict(setting.network).get("gradient_checkpointing", False)
    flags = ("--gradient_checkpointing",) if checkpointing else ()
    return (*flags, "--vae_encode_batch_size", "4") if family == "sdxl" else flags


def naive(store: Store, setting: Setting, clock: Clock) -> None:
    """Plain Diffusion-DPO without caches, as the public script writes it."""
    from accelerate import Accelerator

    precision = "no" if setting.precision == "fp32" else setting.precision
    accelerator = Accelerator(mixed_precision=precision)
    recipe = recipe_of(store, setting, "naive", **PLAIN)
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
    for step in range(setting.last):
        start = step * setting.batch % (len(data) - setting.batch + 1)
        members = order[start : start + setting.batch]
        _naive_step(accelerator, unet, optimiser, models, data, reader, members, setting)
        clock.update("training", step + 1)


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


def measure(setting: Setting, rounds: int, rival: Path | None) -> dict[str, list[Taken]]:
    """Every one in turn, several rounds, so that a busy moment hits all alike."""
    taken: dict[str, list[Taken]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.make(Path(folder), setting, rival)
        for _ in range(rounds):
            for name, run in bench.all().items():
                taken.setdefault(name, []).append(run())
                print(name, taken[name][-1], flush=True)
    return taken


def report(setting: Setting, taken: dict[str, list[Taken]], command: str) -> str:
    """The page: speeds, and ratios to the first of `taken`."""
    rival, base = next(iter(taken.items()))
    gpu = base[0].gigabytes is not None
    lines = [
        "# Pairs per second of a training step",
        "",
        f"    {command}",
        "",
        f"{hardware()}; torch {torch.__version__}, {torch.get_num_threads()} threads. Backbone "
        f"{setting.backbone}, {setting.resolution} px from JPEGs of {setting.resolution * 3 // 2} "
        f"px, LoRA, {setting.precision}, batch {setting.batch}, {setting.steps} steps after "
        f"{setting.warm}, {len(base)} rounds; median (lowest to highest round). Ratios are of "
        f"{'seconds by the clock' if gpu else 'CPU seconds'} in the same round; above 1 is faster.",
        "",
        f"| | pairs per {'second' if gpu else 'CPU second'} | x {rival} | GPU memory, GB |",
        "|---|---|---|---|",
    ]
    for name, rounds in taken.items():
        speed = statistics.median(1 / one.seconds for one in rounds)
        memory = f"{max(one.gigabytes or 0 for one in rounds):.1f}" if gpu else "–"
        lines.append(f"| {name} | {speed:.1f} | {_ratio(base, rounds)} | {memory} |")
    return "\n".join([*lines, ""])


def _ratio(base: list[Taken], rounds: list[Taken]) -> str:
    ratios = sorted(a.seconds / b.seconds for a, b in zip(base, rounds, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"


def hardware() -> str:
    """The GPU's name, or the CPU's."""
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
    """Measure and print; with --out also write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training")
    parser.add_argument("--rival", type=Path, help="folder of diffusers' diffusion_dpo scripts")
    parser.add_argument("--backbone", default="miniature:sd")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    setting = Setting(
        asked.backbone,
        asked.resolution,
        asked.precision,
        asked.batch,
        asked.warm,
        asked.steps,
        asked.workers,
    )
    command = (
        f"python -m tests.benchmarks.training{' --rival FOLDER' if asked.rival else ''} "
        f"--backbone {asked.backbone} --resolution {asked.resolution} --precision "
        f"{asked.precision} --batch {asked.batch}"
    )
    text = report(setting, measure(setting, asked.rounds, asked.rival), command)
    print(text)
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
