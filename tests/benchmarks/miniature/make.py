"""Pre-train a miniature Stable Diffusion or SDXL from scratch.

    python -m tests.benchmarks.miniature.make sd --out DIR
    python -m tests.benchmarks.miniature.make sdxl --out DIR --vae DIR/vae
    python -m tests.benchmarks.miniature.make sd --out DIR --csv ratings.csv --images images

Without a source of images the drawn scenes of the mini world are used.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from rich.progress import Progress

from tests.benchmarks.miniature import caption_data as captioned
from tests.benchmarks.miniature import parts
from tests.benchmarks.miniature import pipeline as miniature
from tests.benchmarks.miniature.denoiser import train_denoiser
from tests.benchmarks.miniature.pipeline import Kind
from tests.benchmarks.miniature.train_loop import progress_report
from tests.benchmarks.miniature.vae import encode_all, open_up, train_autoencoder


@dataclass(frozen=True)
class Plan:
    """How long and with what to pre-train; `miniatures/README.md` says what made those shipped."""

    steps: int = 6000
    batch: int = 32
    rate: float = 3e-3
    vae_steps: int = 4000
    vae_batch: int = 8
    vae_rate: float = 2e-3
    empty: float = 0.1
    seed: int = 0
    threads: int | None = None
    size: parts.Size = field(default_factory=parts.Size)


def pretrain(
    kind: Kind,
    data: captioned.Captioned,
    out: Path,
    plan: Plan | None = None,
    vae: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Pre-train a miniature on captioned images and save it as a pipeline under `out`.

    With `vae` an autoencoder saved earlier goes on for the plan's `vae_steps`, which may be 0,
    instead of a new one. Returns the mean losses of the last tenth of the steps and the seconds
    taken, which `pretraining.json` beside the weights records together with the plan.
    """
    plan = plan or Plan()
    progress = progress or Progress(disable=True)
    began = time.monotonic()
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    with progress:
        autoencoder, figures = _autoencoder(data, plan, vae, progress)
        latents = encode_all(autoencoder, data.images)
        # So that a saved autoencoder leads to the same UNet as one trained just now.
        torch.manual_seed(plan.seed)
        mini = miniature.assemble(kind, autoencoder, data.words, data.captions, plan.size)
        figures |= train_denoiser(
            mini,
            latents,
            data.captions,
            plan.steps,
            plan.seed,
            progress_report(progress, f"{kind}: UNet and text", plan.steps),
            batch=plan.batch,
            rate=plan.rate,
            empty=plan.empty,
        )
    miniature.save(mini, out)
    figures["seconds"] = round(time.monotonic() - began, 1)
    record = {"kind": kind, "data": data.name, "images": len(data.captions)}
    record |= {"plan": asdict(plan), "figures": figures}
    (out / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return figures


def _autoencoder(
    data: captioned.Captioned, plan: Plan, saved: Path | None, progress: Progress
) -> tuple[AutoencoderKL, dict[str, float]]:
    if saved is not None:
        vae = AutoencoderKL.from_pretrained(saved, torch_dtype=torch.float32)
    else:
        vae = parts.autoencoder(plan.size)
        open_up(vae)
    if plan.vae_steps == 0:
        return vae.eval(), {}
    figures = train_autoencoder(
        vae,
        data.images,
        plan.vae_steps,
        plan.seed,
        progress_report(progress, "VAE", plan.vae_steps),
        batch=plan.vae_batch,
        rate=plan.vae_rate,
    )
    return vae, figures


def _data(asked: argparse.Namespace) -> captioned.Captioned:
    sources = [captioned.from_parquet(path) for path in asked.parquet]
    if asked.csv is not None:
        folder = asked.images or asked.csv.parent / "images"
        sources.append(captioned.from_csv(asked.csv, folder))
    if not sources:
        sources.append(captioned.drawn(asked.count, asked.seed))
    return captioned.joined(*sources)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["sd", "sdxl"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the saved pipeline")
    parser.add_argument("--steps", type=int, default=Plan.steps, help="steps of UNet and text")
    parser.add_argument("--batch", type=int, default=Plan.batch)
    parser.add_argument("--vae", type=Path, help="a saved autoencoder to use")
    parser.add_argument(
        "--vae-steps",
        type=int,
        help=f"steps of the autoencoder ({Plan.vae_steps} for a new one, 0 for a saved one)",
    )
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--count", type=int, default=20_000, help="how many scenes to draw")
    parser.add_argument(
        "--parquet", type=Path, action="append", default=[], help="file with `caption` and `png`"
    )
    parser.add_argument("--csv", type=Path, help="file with image names and prompts")
    parser.add_argument("--images", type=Path, help="folder of the CSV's images")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _arguments(arguments)
    fresh = Plan.vae_steps if asked.vae is None else 0
    plan = Plan(
        steps=asked.steps,
        batch=asked.batch,
        vae_steps=fresh if asked.vae_steps is None else asked.vae_steps,
        seed=asked.seed,
        threads=asked.threads,
    )
    progress = Progress()
    figures = pretrain(asked.kind, _data(asked), asked.out, plan, asked.vae, progress)
    for name, figure in figures.items():
        progress.console.print(f"{name} {figure:.4g}")


if __name__ == "__main__":
    main()
