"""Images per second of the scorers in environments of their own, against each package's own call.

    python -m tests.benchmarks.scorers WORK_FOLDER [--scorer hps] [--images 9] [--batch 8]

True architectures and random weights, on a CPU or with --device cuda. Both judge the same pictures
and must agree (to 1e-4; to 1e-3 on a GPU, where HPS runs in half precision) before a time is told.
Neither time has the loading of libraries in it; hpsv2's has its checkpoint, which it reads again on
every call. Processor seconds stand beside, since they do not tell of other work on the machine.
Results: results/scorers.md.
"""

import argparse
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

from tests.toolkit.scoring.packages import pictures, told
from toolkit.image_files import decode
from toolkit.scoring import SCORERS, Batch, Judge, load
from toolkit.scoring.environments import install

HEADING = (
    "scorer",
    "package, images/s",
    "ours, images/s",
    "ratio",
    "package, processor s an image",
    "ours, processor s an image",
    "ratio",
    "largest difference",
)


def busy(judge: Judge) -> float:
    """Processor seconds that this process and the judge's worker have used."""
    pid = judge.close.__self__.worker.process.pid
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def timed(
    judge: Judge, images: list[Path], prompts: list[str], size: int
) -> tuple[float, float, list[float]]:
    """Seconds and processor seconds of decoding, preparing and judging, and the scores; the first
    picture was judged before, to warm up."""
    first = judge.prepare(decode(images[0].read_bytes()).image)
    scores = list(next(iter(judge.stream([Batch((prompts[0],), (first,))]))).scores)
    start, used = time.perf_counter(), busy(judge)

    def batches():
        for at in range(1, len(images), size):
            some = images[at : at + size]
            ready = tuple(judge.prepare(decode(path.read_bytes()).image) for path in some)
            yield Batch(tuple(prompts[at : at + size]), ready)

    for judged in judge.stream(batches()):
        scores += judged.scores
    return time.perf_counter() - start, busy(judge) - used, scores


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--scorer", action="append")
    parser.add_argument("--images", type=int, default=9)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = parser.parse_args()
    print("| " + " | ".join(HEADING) + " |")
    print("|---" * len(HEADING) + "|")
    for name in asked.scorer or ["hps", "image_reward"]:
        folder = asked.work / name
        folder.mkdir(parents=True)
        install(SCORERS[name].environment)
        found = told(name, folder, pictures(folder, asked.images), device=asked.device)
        judge = load(SCORERS[name], weights=found.weights, device=asked.device)
        taken, used, scores = timed(judge, found.images, found.prompts, asked.batch)
        judge.close()
        found.file.unlink()
        apart = max(abs(a - b) for a, b in zip(scores, found.scores, strict=True))
        assert apart < (1e-4 if asked.device == "cpu" else 1e-3), (scores, found.scores)
        count = asked.images - 1
        print(
            f"| `{name}` | {count / found.seconds:.3f} | {count / taken:.3f} | "
            f"{found.seconds / taken:.1f} | {found.busy / count:.1f} | {used / count:.1f} | "
            f"{found.busy / used:.1f} | {apart:.1e} |",
            flush=True,
        )
    load_now = os.getloadavg()[0]
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS "
        f"{os.environ.get('OMP_NUM_THREADS', 'not set')}, load average {load_now:.1f}, Python "
        f"{platform.python_version()}, torch {version('torch')}, pyarrow {version('pyarrow')}"
    )


if __name__ == "__main__":
    main()
