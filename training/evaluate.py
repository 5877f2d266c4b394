"""Draw samples of several models for the same prompts and seeds, and score them.

OUT/evaluation.json            how the samples were drawn and in which precision, and every
                               model's hashes
OUT/samples/part-*.parquet     model, prompt_index, prompt, seed, png
OUT/scores/SCORER/part-*.parquet   model, prompt_index, seed, figure, value
OUT/scores/SCORER.json         version, weights and preprocessing of a scorer of toolkit.scoring

What is there already is not drawn or scored again, so that an interrupted evaluation can be resumed
and a model added to a finished one.
"""

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image

from toolkit import scoring
from toolkit.errors import InputError
from toolkit.files.atomic import parts, write_part, write_text_whole
from toolkit.miniworld import exact_scores as miniworld
from toolkit.miniworld.prompts import parse
from toolkit.progress import SILENT, Progress
from toolkit.schema import column
from toolkit.scoring.run import judged_rows
from training.devices import name_of
from training.sampling import Policy, Sample, Sampling, draw, identity, load_pipeline

Scorer = Callable[[Sequence[str], Sequence[Image.Image]], Mapping[str, Sequence[float]]]

SAMPLES = pa.schema(
    [
        column("model", pa.string(), "name of the model", nullable=False),
        column("prompt_index", pa.int32(), "which prompt", nullable=False),
        column("prompt", pa.string(), "its words", nullable=False),
        column("seed", pa.int64(), "of the noise, which is the same for every model"),
        column("png", pa.binary(), "the image"),
    ]
)

SCORES = pa.schema(
    [
        column("model", pa.string(), "name of the model", nullable=False),
        column("prompt_index", pa.int32(), "which prompt", nullable=False),
        column("seed", pa.int64(), "of the noise"),
        column("figure", pa.string(), "what was measured", nullable=False),
        column("value", pa.float64(), "larger is better"),
    ]
)


def _miniworld(prompts: Sequence[str], images: Sequence[Image.Image]) -> miniworld.Figures:
    return miniworld.scores([parse(prompt) for prompt in prompts], images)


SCORERS: dict[str, Scorer] = {"miniworld": _miniworld}
"""Name -> (prompts, images) -> figures (N,) each, larger is better. The first is the headline."""


@dataclass(frozen=True)
class Evaluation:
    """Prompts, seeds and settings of the samples that every model draws."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    sampling: Sampling

    def samples(self) -> list[Sample]:
        """Every image of one model, prompt by prompt."""
        return [Sample(k, p, seed) for k, p in enumerate(self.prompts) for seed in self.seeds]


def evaluate(
    what: Evaluation,
    models: Mapping[str, Policy],
    out: Path,
    *,
    scorer: str | Sequence[str] = "miniworld",
    batch: int = 50,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Progress = SILENT,
) -> tuple[pa.Table, pa.Table]:
    """Draw and score what is missing; all samples (SAMPLES) and scores (SCORES) of `models`.

    `scorer`: names in SCORERS here or in `toolkit.scoring`, whose figure is their name. `progress`
    gets one task a model, counted in images. InputError if `out` contains samples that were drawn
    with other settings, or scores of other weights.
    """
    _claim(out, what, models, dtype)
    wanted = what.samples()
    for name, policy in models.items():
        absent = _absent(wanted, _keys(_read(out / "samples", SAMPLES), name))
        done = len(wanted) - len(absent)
        pipeline = load_pipeline(policy, device, dtype) if absent else None
        for some, images in draw(pipeline, absent, what.sampling, batch) if absent else ():
            write_part(out / "samples", _rows(name, some, images))
            done += len(some)
            progress.update(name, done, len(wanted))
        del pipeline
    samples = _read(out / "samples", SAMPLES)
    names = [scorer] if isinstance(scorer, str) else list(scorer)
    for name in names:
        folder = out / "scores" / name
        if name in SCORERS:
            for table in _unscored(samples, folder, batch):
                write_part(folder, _scored(table, SCORERS[name]))
        else:
            _score_by(samples, folder, scoring.named(name), batch, device)
    chosen = pa.array(list(models))
    scores = [_of(_read(out / "scores" / name, SCORES), chosen) for name in names]
    return _of(samples, chosen), pa.concat_tables(scores)


def _score_by(
    samples: pa.Table, folder: Path, scorer: scoring.Scorer, batch: int, device: str
) -> None:
    """Add the missing scores of a scorer of `toolkit.scoring`; NaN where an image has none."""
    table = next(_unscored(samples, folder, max(1, samples.num_rows)), None)
    if table is None:
        return
    judge = scoring.load(scorer, device=device)
    try:
        _claim_scorer(folder, judge.identity)
        prompts, pngs = table["prompt"].to_pylist(), table["png"].to_pylist()
        keys = [(str(row), prompt) for row, prompt in enumerate(prompts)]
        facts = table.select(["model", "prompt_index", "seed"]).to_pylist()
        for rows in judged_rows(keys, scorer, judge, lambda row: pngs[int(row)], batch):
            scored = [
                {
                    **facts[int(row["image_id"])],
                    "figure": scorer.name,
                    "value": math.nan if row["score"] is None else row["score"],
                }
                for row in rows
            ]
            write_part(folder, pa.Table.from_pylist(scored, schema=SCORES))
    finally:
        judge.close()


def _claim_scorer(folder: Path, identity: scoring.Identity) -> None:
    file = Path(f"{folder}.json")
    about = identity.__dict__
    if file.exists() and not identity.same(json.loads(file.read_text(encoding="utf-8"))):
        raise InputError(
            f"{folder} contains scores made with another version or other weights (see {file}); "
            "name another --out, or remove that folder and file."
        )
    write_text_whole(file, json.dumps(about, indent=2) + "\n")


def _claim(out: Path, what: Evaluation, models: Mapping[str, Policy], dtype: torch.dtype) -> None:
    about = {
        "prompts": list(what.prompts),
        "seeds": list(what.seeds),
        "sampling": what.sampling._asdict(),
        "precision": name_of(dtype),
    }
    hashes: dict[str, Any] = {name: identity(policy) for name, policy in models.items()}
    file = out / "evaluation.json"
    if file.exists():
        # Folders written before the precision was noted: fp32 was the default.
        before = {"precision": "fp32", **json.loads(file.read_text(encoding="utf-8"))}
        known = before.pop("models")
        changed = [key for key in about if before.get(key) != about[key]]
        changed += [f"model {name}" for name in hashes if _other(known.get(name), hashes[name])]
        if changed:
            raise InputError(
                f"{out} contains an evaluation with other {', '.join(changed)}; name another "
                "--out, or use the same."
            )
        hashes = {**known, **hashes}
    write_text_whole(file, json.dumps({**about, "models": hashes}, indent=2) + "\n")


def _other(before: dict[str, str] | str | None, now: dict[str, str]) -> bool:
    """Whether a model is another than the one drawn from. Older files note the weights only."""
    if before is None:
        return False
    return before != (now["weights"] if isinstance(before, str) else now)


def _rows(model: str, some: Sequence[Sample], images: Sequence[Image.Image]) -> pa.Table:
    rows = [
        {"model": model, **sample._asdict(), "png": _png(image)}
        for sample, image in zip(some, images, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SAMPLES)


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _absent(wanted: Sequence[Sample], there: set[tuple[int, int]]) -> list[Sample]:
    return [sample for sample in wanted if (sample.prompt_index, sample.seed) not in there]


def _keys(table: pa.Table, model: str) -> set[tuple[int, int]]:
    mine = _of(table, pa.array([model]))
    return set(zip(mine["prompt_index"].to_pylist(), mine["seed"].to_pylist(), strict=True))


def _of(table: pa.Table, models: pa.Array) -> pa.Table:
    return table.filter(pc.is_in(table["model"], models))


def _read(folder: Path, schema: pa.Schema) -> pa.Table:
    files = parts(folder)
    tables = [pq.read_table(file, schema=schema) for file in files]
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _unscored(samples: pa.Table, folder: Path, batch: int) -> Iterator[pa.Table]:
    done = _read(folder, SCORES)
    names = ("model", "prompt_index", "seed")
    there = set(zip(*(done[name].to_pylist() for name in names), strict=True))
    keys = zip(*(samples[name].to_pylist() for name in names), strict=True)
    rows = [row for row, key in enumerate(keys) if key not in there]
    for start in range(0, len(rows), batch):
        yield samples.take(rows[start : start + batch])


def _scored(samples: pa.Table, scorer: Scorer) -> pa.Table:
    images = [Image.open(io.BytesIO(png)) for png in samples["png"].to_pylist()]
    figures = scorer(samples["prompt"].to_pylist(), images)
    keys = samples.select(["model", "prompt_index", "seed"]).to_pylist()
    rows = [
        {**key, "figure": figure, "value": float(value)}
        for figure, values in figures.items()
        for key, value in zip(keys, values, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCORES)
