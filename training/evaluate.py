"""Draw samples of several models for the same prompts and seeds, and score them.

OUT/evaluation.json            how the samples were drawn and in which precision, and every
                               model's hashes
OUT/samples/part-*.parquet     model, prompt_index, prompt, seed, png
OUT/scores/SCORER/part-*.parquet   model, prompt_index, seed, figure, value
OUT/scores/SCORER.json         version, weights and preprocessing of a scorer of toolkit.scoring

What is there already is not drawn or scored again, so that an interrupted evaluation can be resumed
and a model added to a finished one.

Prompts are read from a text, table, JSON or Parquet file, or made by the mini world. Pick-a-Pic
v2's test set comes as Parquet with `caption`, HPDv2's benchmark as JSON lists of strings,
PartiPrompts as tab-separated text with `Prompt`; other collections as lists of objects.
"""

import contextlib
import csv
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
from toolkit.miniworld.scenes import parse
from toolkit.progress import SILENT, Progress
from toolkit.schema import column
from toolkit.scoring import miniworld_scorers
from toolkit.scoring.run import judged_rows
from training.devices import name_of
from training.sampling import Policy, Sample, Sampling, draw, identity, load_pipeline

ImageScorer = Callable[[Sequence[str], Sequence[Image.Image]], Mapping[str, Sequence[float]]]

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


def _miniworld(prompts: Sequence[str], images: Sequence[Image.Image]) -> dict[str, list[float]]:
    return miniworld_scorers.scores([parse(prompt) for prompt in prompts], images)


SCORERS: dict[str, ImageScorer] = {"miniworld": _miniworld}
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


def _scored(samples: pa.Table, scorer: ImageScorer) -> pa.Table:
    images = [Image.open(io.BytesIO(png)) for png in samples["png"].to_pylist()]
    figures = scorer(samples["prompt"].to_pylist(), images)
    keys = samples.select(["model", "prompt_index", "seed"]).to_pylist()
    rows = [
        {**key, "figure": figure, "value": float(value)}
        for figure, values in figures.items()
        for key, value in zip(keys, values, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCORES)


PROMPT_COLUMNS = ("prompt", "caption", "text")
"""Columns that hold prompts if none is named; the first of these, in any case."""
PROMPT_FILES = (".txt", ".tsv", ".csv", ".json", ".jsonl", ".parquet")


def read_prompts(source: str, column: str = "") -> list[str]:
    """The prompts of a file (see PROMPT_FILES), or of miniworld:COUNT; each once, in order.

    `column`: name of the column or key; by default the first of PROMPT_COLUMNS that is there.
    InputError if there is no such column or no prompt, or the file cannot be read.
    """
    if source.startswith("miniworld:"):
        return _miniworld_prompts(source)
    file = Path(source)
    try:
        every = _read_prompts(file, column)
    except (OSError, ValueError) as problem:  # pyarrow's errors are ValueErrors, UnicodeDecode too
        raise InputError(
            f"The prompts in {file} cannot be read ({' '.join(str(problem).split())}); name a "
            f"{', '.join(PROMPT_FILES[:-1])} or {PROMPT_FILES[-1]} file, or miniworld:100."
        ) from problem
    prompts = list(dict.fromkeys(text.strip() for text in every if text.strip()))
    if not prompts:
        raise InputError(f"{file} contains no prompt; name a file that does.")
    return prompts


def _miniworld_prompts(source: str) -> list[str]:
    from toolkit.miniworld.scenes import sample_prompts, to_words

    count = source.removeprefix("miniworld:")
    if not count.isdigit() or not int(count):
        raise InputError(f"{source!r} names no number of prompts; write miniworld:100.")
    return [to_words(prompt) for prompt in sample_prompts(int(count))]


def _read_prompts(file: Path, column: str) -> list[str]:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return _from_parquet(file, column)
    if suffix not in (*PROMPT_FILES, ""):
        raise InputError(
            f"Prompts cannot be read from a file such as {file}; name a "
            f"{', '.join(PROMPT_FILES[:-1])} or {PROMPT_FILES[-1]} file."
        )
    text = file.read_text(encoding="utf-8-sig")
    if suffix == ".json":
        return _from_json(json.loads(text), file, column)
    if suffix == ".jsonl":
        return _from_json(
            [json.loads(line) for line in text.split("\n") if line.strip()], file, column
        )
    if suffix in (".csv", ".tsv"):
        return _from_rows(_cells(text, tabs=suffix == ".tsv"), file, column)
    return text.splitlines()


def _from_parquet(file: Path, column: str) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = prompt_column(pq.read_schema(file).names, file, column)
    values = pq.read_table(file, columns=[name])[name]
    with contextlib.suppress(
        pa.ArrowNotImplementedError
    ):  # lists and structs are no text: refused below
        values = values.cast(pa.string())
    return _texts(values.to_pylist(), file, name)


def _from_json(content: Any, file: Path, column: str) -> list[str]:
    """A list of strings or objects, or an object: of such lists, of strings, or by columns."""
    if isinstance(content, dict):
        lists = all(isinstance(value, list) for value in content.values())
        names = [name for name in content if name.lower() in (column.lower(), *PROMPT_COLUMNS)]
        if lists and names:
            name = prompt_column(list(content), file, column)
            return _texts(content[name], file, name)
        content = (
            [row for rows in content.values() for row in rows] if lists else [*content.values()]
        )
    rows = content if isinstance(content, list) else []
    if any(isinstance(row, dict) for row in rows):
        names = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
        name = prompt_column(names, file, column)
        rows = [row.get(name) if isinstance(row, dict) else row for row in rows]
        return _texts(rows, file, name)
    return _texts(rows, file, "")


def _cells(text: str, *, tabs: bool) -> Iterator[tuple[int, list[str]]]:
    """The line each row begins on, from 1, and its cells.

    In tab-separated text a quote is a character, unless the whole cell is quoted: PartiPrompts has
    cells that begin with a quote.
    """
    if not tabs:
        reader, begins = csv.reader(io.StringIO(text), strict=True), 1
        for cells in reader:
            yield begins, cells
            begins = reader.line_num + 1
        return
    for number, line in enumerate(text.split("\n"), 1):
        yield number, [_unquoted(cell) for cell in line.split("\t")]


def _unquoted(cell: str) -> str:
    inner = cell[1:-1]
    whole = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if whole else cell


def _from_rows(rows: Iterator[tuple[int, list[str]]], file: Path, column: str) -> list[str]:
    try:
        _, heading = next(rows, (1, []))
        place = heading.index(prompt_column(heading, file, column))
        lines = [(number, cells) for number, cells in rows if any(cells)]
    except csv.Error as problem:
        raise ValueError(str(problem)) from problem
    for number, cells in lines:
        if len(cells) != len(heading):
            raise InputError(
                f"Line {number} of {file} has another number of cells ({len(cells)}) than its "
                f"heading ({len(heading)}); fix it, or put the prompts into a .txt file, a line "
                "each."
            )
    return [cells[place] for _, cells in lines]


def prompt_column(names: Sequence[str], file: Path, column: str) -> str:
    """The column of the prompts. InputError lists the columns if it is not among them."""
    if column in names and column:
        return column
    if not column:
        for wanted in PROMPT_COLUMNS:
            if name := next((name for name in names if name.lower() == wanted), None):
                return name
    wanted = repr(column) if column else f"{', '.join(PROMPT_COLUMNS[:-1])} or {PROMPT_COLUMNS[-1]}"
    there = ", ".join(name for name in names if name) or "none"
    raise InputError(
        f"{file} has no column {wanted} (columns: {there}); name the column of the prompts "
        "with --column."
    )


def _texts(values: Sequence[Any], file: Path, column: str) -> list[str]:
    """The texts without nulls. InputError if a value is neither text nor null."""
    strange = next((value for value in values if not isinstance(value, str | None)), None)
    if strange is not None:
        where = f"the column {column!r} of {file}" if column else str(file)
        raise InputError(
            f"In {where} {json.dumps(strange, default=str)[:60]} is no text; name the column of "
            "the prompts with --column."
        )
    return [text for text in values if text]
