"""Pre-train a miniature Stable Diffusion or SDXL from scratch.

    python -m tests.benchmarks.miniature sd --out DIR
    python -m tests.benchmarks.miniature sdxl --out DIR --vae DIR/vae
    python -m tests.benchmarks.miniature sd --out DIR --csv ratings.csv --images images

Without a source of images it draws scenes of the mini world.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from tests.benchmarks.miniature import caption_data
from tests.benchmarks.miniature.caption_data import Captioned
from tests.benchmarks.miniature.make import Plan, pretrain


def _data(asked: argparse.Namespace) -> Captioned:
    sources = [caption_data.from_parquet(path) for path in asked.parquet]
    if asked.csv is not None:
        folder = asked.images or asked.csv.parent / "images"
        sources.append(caption_data.from_csv(asked.csv, folder))
    if not sources:
        sources.append(caption_data.drawn(asked.count, asked.seed))
    return caption_data.joined(*sources)


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
