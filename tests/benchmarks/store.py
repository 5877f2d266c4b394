"""How long a million pairs take: in, out, filtered and looked at, beside pandas and `datasets`.

    python -m tests.benchmarks.store WORK_FOLDER [--write] [--only STEP ...]

Every step runs in a process of its own, so that its peak memory is its own. `--write` puts the
table into tests/benchmarks/results/store.md; with `--only` the other steps' figures are those of
the last time (WORK_FOLDER/results.json).
"""

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

MILLION, FINDINGS, PICTURES, TRAJECTORY = 1_000_000, 2_000_000, 20_000, 2_000_000
RESULTS = Path(__file__).parent / "results" / "store.md"
Seconds = dict[str, float]


def ingest_million(work: Path) -> Seconds:
    """1,000,000 rows without images."""
    return _ingest(work / "million", work / "store", "copy", MILLION)


def ingest_copy(work: Path) -> Seconds:
    """20,000 pairs of 256 px JPEGs, decoded, hashed and copied."""
    return _ingest(work / "pictures", work / "copied", "copy", PICTURES)


def ingest_reference(work: Path) -> Seconds:
    """The same by reference."""
    return _ingest(work / "pictures", work / "referenced", "reference", PICTURES)


def _ingest(source: Path, into: Path, mode: str, count: int) -> Seconds:
    from toolkit.ingest import ingest
    from toolkit.store import create_store

    shutil.rmtree(into, ignore_errors=True)
    start = time.perf_counter()
    summary = ingest(create_store(into), "pickapic", [source], images=mode)
    taken = time.perf_counter() - start
    assert summary.kept == count, summary.lines()
    return {"": taken}


def pandas_million(work: Path) -> Seconds:
    """Read, check the labels, name the pairs by a hash, drop doubles, write one Parquet file."""
    import pandas as pd

    start = time.perf_counter()
    frame = pd.read_parquet(work / "million")
    frame = frame[frame.label_0.isin([0, 0.5, 1]) & (frame.label_0 + frame.label_1 == 1)]
    names = ["caption", "image_0_uid", "image_1_uid", "ranking_id", "user_id", "created_at"]
    frame["pair_id"] = pd.util.hash_pandas_object(frame[names], index=False)
    frame = frame.drop_duplicates("pair_id")
    frame.to_parquet(work / "pandas.parquet", compression="zstd")
    return {"": time.perf_counter() - start}


def pandas_pictures(work: Path) -> Seconds:
    """Read and write the same 20,000 rows with their bytes; nothing is decoded."""
    import pandas as pd

    start = time.perf_counter()
    frame = pd.read_parquet(work / "pictures")
    frame.to_parquet(work / "pandas_pictures.parquet")
    return {"": time.perf_counter() - start}


def datasets_million(work: Path) -> Seconds:
    """load_dataset of the Parquet files into a fresh cache."""
    return _load_dataset(work, "million")


def datasets_pictures(work: Path) -> Seconds:
    """The same of the files with images."""
    return _load_dataset(work, "pictures")


def _load_dataset(work: Path, name: str) -> Seconds:
    import datasets

    datasets.disable_progress_bars()
    cache = work / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    start = time.perf_counter()
    datasets.load_dataset("parquet", data_dir=str(work / name), cache_dir=str(cache))
    return {"": time.perf_counter() - start}


def browse(work: Path) -> Seconds:
    """2,000,000 findings, by the calls that the desk makes; the best of five each.

    A condition and a range: the view's pairs numbered, counted, and u's histogram over them. A
    range that moves: the same where the condition was asked before. Then pages by key.
    """
    from toolkit.store import connect, open_store
    from toolkit.store.queue import views as listing
    from toolkit.store.queue.histograms import spread, spread_of
    from toolkit.store.queue.tables import QueueColumns, make_queue
    from toolkit.store.queue.views import View

    store = open_store(work / "browsed")
    with connect(store) as con:
        start = time.perf_counter()
        assert make_queue(con, store, "r") == FINDINGS
        columns = QueueColumns(con, store, "r")
        whole = spread(con, columns, "minority", 40)
        opened = time.perf_counter() - start
        view = View(where="confidence < 0.9 and visits >= 2").with_range("minority", 0.3, None)
        ends = iter(np.arange(0.31, 0.99, 0.01).tolist())

        def shown(one: View) -> int:
            listing.make_view(con, columns, one)
            spread_of(con, columns, one, "minority", whole)
            return listing.count(con, one)

        def filtered() -> int:
            listing.drop_view(con, view)
            listing.drop_pool(con, columns, view)
            return shown(view)

        found = {"open the queue": opened}
        found |= _best_and_cpu("filter and histogram", filtered)
        found |= _best_and_cpu(
            "a range moved", lambda: shown(view.with_range("minority", next(ends), None))
        )
        half = listing.count(con, view) // 2
        found |= _best_and_cpu("next page", lambda: listing.rows_of_page(con, view, half, 50))
    return found


def pandas_browse(work: Path) -> Seconds:
    """The same on a frame in memory: boolean masks, numpy's histogram, a sort for the page."""
    import pandas as pd

    start = time.perf_counter()
    frame = pd.read_parquet(work / "browsed" / "findings" / "r" / "minority.parquet")
    opened = time.perf_counter() - start

    def passing() -> Any:
        return frame[(frame.minority > 0.3) & (frame.confidence < 0.9) & (frame.visits >= 2)]

    first = _best(lambda: np.histogram(passing().minority, bins=40))
    following = _best(lambda: passing().nlargest(100, "minority").iloc[50:])
    return {"open the queue": opened, "filter and histogram": first, "next page": following}


def look(work: Path) -> Seconds:
    """One pair with its two thumbnails and its trajectory of 2,000,000 rows; median of 40 pairs.

    As the desk makes them: pictures decoded, and encoded at their size where they are larger.
    """
    from app.desk.image_cache import shrunk
    from toolkit.image_files import THUMBNAIL_SIDE
    from toolkit.store import connect, open_store
    from toolkit.store.connection import read_pairs
    from toolkit.store.images import ImageReader
    from toolkit.store.queue.tables import card, ell_by_visit, make_queue

    store = open_store(work / "copied")
    names = read_pairs(store, ["pair_id"])[0].to_pylist()
    taken = []
    with connect(store) as con:
        make_queue(con, store, "r")
        small, whole = ImageReader(store, "thumbnails"), ImageReader(store)
        for row in np.random.default_rng(0).integers(0, len(names), 40).tolist():
            start, used = time.perf_counter(), time.process_time()
            found = card(con, names[row])
            assert found is not None
            for slot in (0, 1):
                name = found[f"image_{slot}"]
                shrunk((small if name in small else whole).read(name), THUMBNAIL_SIDE)
            assert ell_by_visit(con, found["nth"], 1.0)
            taken.append((time.perf_counter() - start, time.process_time() - used))
    seconds, cpu = np.median(taken, axis=0).tolist()
    return {"": seconds, "(CPU seconds)": cpu}


def pair_page(work: Path) -> Seconds:
    """What the run's findings say of one pair, with its rank among 2,000,000; median of 20."""
    from toolkit.store import open_store
    from toolkit.store.pair_details import findings_on

    store = open_store(work / "browsed")
    taken = []
    for number in np.random.default_rng(0).integers(0, FINDINGS, 20).tolist():
        start, used = time.perf_counter(), time.process_time()
        found = findings_on(store, "r", f"p{number:011d}")
        taken.append((time.perf_counter() - start, time.process_time() - used))
        assert [value.column for value in found][1:] == ["confidence", "stability", "minority"]
    seconds, cpu = np.median(taken, axis=0).tolist()
    return {"": seconds, "(CPU seconds)": cpu}


def export_million(work: Path) -> Seconds:
    """1,000,000 rows without images in Pick-a-Pic's columns, with record and card."""
    from toolkit.export import FORMATS, Policy, export_set
    from toolkit.store import open_store

    shutil.rmtree(work / "exported", ignore_errors=True)
    start = time.perf_counter()
    policy = Policy(images=False, keep_ties=True)
    export_set(open_store(work / "store"), work / "exported", policy, FORMATS["pickapic"])
    return {"": time.perf_counter() - start}


def pandas_export(work: Path) -> Seconds:
    """Read the rows, add a weight column and pseudonyms of the users, write Parquet."""
    import pandas as pd

    start = time.perf_counter()
    frame = pd.read_parquet(work / "pandas.parquet")
    frame["user_id"] = pd.util.hash_array(frame.user_id.to_numpy(), hash_key="0123456789123456")
    frame["sample_weight"] = 1.0
    frame.to_parquet(work / "pandas_export.parquet", compression="zstd")
    return {"": time.perf_counter() - start}


STEPS: dict[str, tuple[str, Callable[[Path], Seconds], str]] = {
    "ingest_million": ("1,000,000 pairs in, no images", ingest_million, "60 s, 2 GB"),
    "pandas_million": ("- pandas: read, check, hash, write", pandas_million, ""),
    "datasets_million": ("- datasets: load_dataset", datasets_million, ""),
    "ingest_copy": ("20,000 pairs of 256 px JPEGs in, by copy", ingest_copy, ""),
    "ingest_reference": ("the same by reference", ingest_reference, ""),
    "pandas_pictures": ("- pandas: read and write, nothing decoded", pandas_pictures, ""),
    "datasets_pictures": ("- datasets: load_dataset, nothing decoded", datasets_pictures, ""),
    "browse": ("2,000,000 findings", browse, "filter .3 s, page .05 s"),
    "pandas_browse": ("- pandas, a frame in memory", pandas_browse, ""),
    "look": ("one pair, two thumbnails, trajectory", look, ".05 s"),
    "pair_page": ("a pair's findings, ranked among 2,000,000", pair_page, ""),
    "export_million": ("1,000,000 rows out, no images", export_million, "30 s"),
    "pandas_export": ("- pandas: read, hash users, write", pandas_export, ""),
}


def prepare(work: Path) -> None:
    """The synthetic sources, once."""
    from tests.benchmarks.synthetic import write_pictures, write_rows

    if not (work / "million").exists():
        write_rows(work / "million", MILLION)
    if not (work / "pictures").exists():
        write_pictures(work / "pictures", PICTURES)
    if not (work / "browsed").exists():
        _findings(work / "browsed", FINDINGS)


def _findings(root: Path, count: int) -> None:
    """A store of `count` bare pairs with a run's finding."""
    import pyarrow as pa

    from toolkit.files.atomic import write_part
    from toolkit.schema import PAIRS, conform
    from toolkit.store import create_store
    from toolkit.store.runs import start_run, write_findings

    store = create_store(root)
    rng = np.random.default_rng(0)
    ids = pa.array([f"p{k:011d}" for k in rng.permutation(count)])
    words = pa.array([f"a prompt, number {k // 20}" for k in range(count)])
    pairs = {"pair_id": ids, "comparison_id": ids, "prompt": words, "label": np.ones(count)}
    write_part(store.folder("pairs"), conform(pa.table(pairs), PAIRS))
    start_run(store, "r", {"models": ["policy"], "labels": "original"}, "")
    scores = {
        name: rng.beta(2, 5, count).astype(np.float32)
        for name in ("confidence", "stability", "minority")
    }
    visits = rng.integers(1, 6, count).astype(np.int32)
    write_findings(
        store, "r", "minority", pa.table({"pair_id": ids, "visits": visits} | scores), {}
    )


def _trajectory(root: Path) -> None:
    """A run over the store's pairs: rows in visit order, as a trainer leaves them."""
    import pyarrow as pa

    from toolkit.recorder import TrajectoryWriter
    from toolkit.store import open_store
    from toolkit.store.connection import read_pairs
    from toolkit.store.runs import start_run, write_findings

    store = open_store(root)
    if "r" in store.runs():
        return
    names = np.array(read_pairs(store, ["pair_id"])[0].to_pylist())
    rng = np.random.default_rng(0)
    start_run(store, "r", {"models": ["policy"], "labels": "original"}, "")
    recorder = TrajectoryWriter(store.run("r"), ["policy"])
    step, batch = 0, 2000
    for visit in range(TRAJECTORY // len(names)):
        order = rng.permutation(len(names))
        for start in range(0, len(names), batch):
            take = order[start : start + batch]
            errors = rng.uniform(0.1, 0.2, (4, len(take))).astype(np.float32)
            recorder.append(
                pair_id=names[take].tolist(),
                timestep=np.zeros(len(take), np.int32),
                err_ref_0=errors[0],
                err_ref_1=errors[1],
                err_0=errors[2:3],
                err_1=errors[3:4],
                scale=np.ones((1, len(take))),
                label=np.ones(len(take), np.float32),
                confidence=errors[0],
                stability=errors[1],
                minority=errors[2],
                weight=errors[3],
                margin=errors[3],
                c2=0.0,
                loss=errors[0],
                visit=visit,
                draw=visit,
                step=step,
                micro=step,
            )
            step += 1
    recorder.close()
    scores = {n: rng.random(len(names)) for n in ("confidence", "stability", "minority")}
    visits = np.full(len(names), 3, np.int32)
    write_findings(
        store, "r", "minority", pa.table({"pair_id": names, "visits": visits} | scores), {}
    )


def _best_and_cpu(name: str, act: Callable[[], object], times: int = 5) -> Seconds:
    """Seconds by the clock, and those of both cores at work: the least of each.

    The second says what the first would be on an idle machine, or twice that.
    """
    taken = []
    for _ in range(times):
        start, used = time.perf_counter(), time.process_time()
        act()
        taken.append((time.perf_counter() - start, time.process_time() - used))
    return {name: min(t[0] for t in taken), f"{name} (CPU seconds)": min(t[1] for t in taken)}


def _best(act: Callable[[], object], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        act()
        taken.append(time.perf_counter() - start)
    return min(taken)


def measured(work: Path, step: str) -> dict[str, Any]:
    """Run a step in a process of its own."""
    load = os.getloadavg()[0]
    return {**json.loads(_alone(work, "--step", step).splitlines()[-1]), "load": load}


def _alone(work: Path, *words: str) -> str:
    command = [sys.executable, "-m", "tests.benchmarks.store", str(work), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr}")
    return done.stdout


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "| what | seconds | CPU seconds | peak MB | load before | asked for |",
        "|---|---|---|---|---|---|",
    ]
    for step, found in results.items():
        title, _, asked = STEPS[step]
        for part, seconds in found["seconds"].items():
            name = f"{title}: {part}" if part else title
            shown = f"{seconds:.3f}" if seconds < 1 else f"{seconds:.1f}"
            lines.append(
                f"| {name} | {shown} | {found['cpu']:.1f} | {found['peak_mb']:.0f} |"
                f" {found['load']:.1f} | {asked} |"
            )
    return "\n".join(lines)


def report(results: dict[str, dict[str, Any]]) -> str:
    """The whole file of results."""
    packages = ("pyarrow", "duckdb", "pandas", "datasets", "numpy", "pillow")
    found = []
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} absent")

    def ratio(ours: str, theirs: str, part: str = "") -> str:
        if not part:
            return f"{results[ours]['cpu'] / results[theirs]['cpu']:.1f}"
        return f"{results[ours]['seconds'][part] / results[theirs]['seconds'][part]:.1f}"

    ingest = ratio("ingest_million", "pandas_million")
    export = ratio("export_million", "pandas_export")
    choose = ratio("browse", "pandas_browse", "filter and histogram")
    turn = ratio("browse", "pandas_browse", "next page")
    machine = platform.processor() or platform.machine()
    return f"""# The store at a million pairs

`python -m tests.benchmarks.store WORK_FOLDER --write`, on {os.cpu_count()} cores ({machine}),
Python {platform.python_version()}, {", ".join(found)}.

Other work ran on the same cores: the load average before each step stands beside it, and
{os.cpu_count()} would be a full machine. Where it was high the clock says little; CPU seconds are
those of the whole step, all threads, the start of Python and libraries included. Lines that end in
(CPU seconds) hold those of the one call: idle cores would need between half and all of them.

Synthetic rows in Pick-a-Pic v2's schema (`tests/benchmarks/synthetic.py`, seed 0). Every step is a
process of its own, and the peak is that process's. Lines that begin with a dash are the rivals.

{table(results)}

As a multiple of pandas' in the same run: CPU seconds of ingest {ingest}, of export {export};
clock seconds of filter and histogram {choose}, of the next page {turn}. pandas does less in each:
its ingest keeps no quarantine and no votes, knows nothing of a store that has rows already and is
not atomic; its export writes no record, card or balance. `datasets` only copies the rows into its
cache.
"""


def main() -> None:
    """Prepare, measure every step, print; or run one step and print JSON."""
    work = Path(sys.argv[1])
    if "--step" in sys.argv:
        act = STEPS[sys.argv[sys.argv.index("--step") + 1]][1]
        seconds = act(work)
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu = used.ru_utime + used.ru_stime
        print(json.dumps({"seconds": seconds, "peak_mb": used.ru_maxrss / 1024, "cpu": cpu}))
        return
    if "--prepare" in sys.argv:
        prepare(work)
        return
    if "--trajectory" in sys.argv:
        _trajectory(work / "copied")
        return
    work.mkdir(parents=True, exist_ok=True)
    # In processes of their own: a child's peak begins at the size of the parent that forked it.
    _alone(work, "--prepare")
    kept = work / "results.json"
    only = sys.argv[sys.argv.index("--only") + 1 :] if "--only" in sys.argv else list(STEPS)
    results = json.loads(kept.read_text()) if "--only" in sys.argv and kept.exists() else {}
    for step in only:
        if step == "look":
            _alone(work, "--trajectory")
        results[step] = measured(work, step)
        kept.write_text(json.dumps(results))
        print(step, results[step], flush=True)
    if missing := [step for step in STEPS if step not in results]:
        raise SystemExit(f"not measured yet: {', '.join(missing)}")
    text = report({step: results[step] for step in STEPS})
    print(text)
    if "--write" in sys.argv:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
