"""Every measurement that needs a GPU, in one call; logs and results are written under OUT.

    python -m tests.benchmarks.on_gpu OUT
    python -m tests.benchmarks.on_gpu OUT --only training --only training-sdxl

A failed step does not stop the others; the last lines say how each ended. Every step is a process
of its own, so that its memory is free for the next.

    tests          the tests marked `gpu`: SD1.5 and SDXL of full size in bf16, random weights
    training       pairs per second and memory, SD1.5 LoRA at 512 px, against the naive loop
    training-sdxl  the same for SDXL at 1,024 px
    scorers        hps and image_reward against their packages' own calls
    tables         `tests.benchmarks.paper_tables 1`, 0 and 20 % flips, as many cells as fit an hour
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

_BUILD = "import sys; from pathlib import Path; from tests.training import real_sizes; "


def steps_of(out: Path) -> dict[str, list[list[str]]]:
    """Every step's commands, in order."""
    python = [sys.executable]

    def training(family: str, side: int, batch: int) -> list[list[str]]:
        folder = out / "backbones" / family
        build = f"{_BUILD}Path(sys.argv[1]).exists() or real_sizes.save_{family}(Path(sys.argv[1]))"
        measured = ["-m", "tests.benchmarks.training", "--backbone", str(folder)]
        measured += ["--resolution", str(side), "--precision", "bf16", "--batch", str(batch)]
        result = out / f"training_{family}.md"
        return [[*python, "-c", build, str(folder)], [*python, *measured, "--out", str(result)]]

    scorers = ["-m", "tests.benchmarks.scorers", str(out / "scorers"), "--device", "cuda"]
    tables = [
        "-m",
        "tests.benchmarks.paper_tables",
        "1",
        "--out",
        str(out / "tables"),
        "--device",
        "cuda",
    ]
    return {
        "tests": [[*python, "-m", "pytest", "-m", "gpu", "tests", "-q"]],
        "training": training("sd15", 512, 8),
        "training-sdxl": training("sdxl", 1024, 2),
        "scorers": [[*python, *scorers, "--images", "65", "--batch", "32"]],
        "tables": [[*python, *tables, "--rate", "0", "--rate", "0.2"]],
    }


def run(name: str, commands: Sequence[Sequence[str]], log: Path, limit: float) -> str:
    """Run a step's commands in order; a sentence on how it ended."""
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as stream:
        for command in commands:
            left = limit - (time.monotonic() - began)
            # A group of its own, so that a command's own processes can be ended with it.
            begun = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                ended = begun.wait(max(left, 1))
            except subprocess.TimeoutExpired:
                return f"{name}: stopped after {limit:.0f} s, see {log}"
            finally:
                if begun.poll() is None:
                    os.killpg(begun.pid, signal.SIGKILL)
                    begun.wait()
            if ended:
                return f"{name}: failed ({ended}), see {log}"
    return f"{name}: done in {time.monotonic() - began:.0f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.on_gpu")
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", action="append", help="name of a step; may be repeated")
    parser.add_argument("--limit", type=float, default=3600, help="time limit of a step in seconds")
    options = parser.parse_args(arguments)
    steps = steps_of(options.out.resolve())
    unknown = sorted(set(options.only or ()) - set(steps))
    if unknown:
        parser.error(f"there is no step {', '.join(unknown)}; choose {', '.join(steps)}")
    if not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here, so nothing can be measured")
    options.out.mkdir(parents=True, exist_ok=True)
    ends = []
    for name in options.only or steps:
        ends.append(run(name, steps[name], options.out / f"{name}.log", options.limit))
        print(ends[-1], flush=True)
    return int(any(": done" not in end for end in ends))


if __name__ == "__main__":
    sys.exit(main())
