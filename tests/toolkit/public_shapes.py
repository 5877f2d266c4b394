"""Small files in the documented shapes of public sets, and what a store must hold of them."""

import csv
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.factories import png


@dataclass(frozen=True)
class Truth:
    """What the files say, by prompt."""

    labels: dict[str, float | None]
    axes: dict[str, dict[str, float]] = field(default_factory=dict)
    votes: int = 0
    """On the label and on every axis."""
    images: bool = True
    """Whether the files have images; `image_0_of` and `image_1_of` make their bytes."""


def image_of(k: int, slot: int) -> bytes:
    """The image at a slot of pair k."""
    return png((k % 256, 60 * (slot + 1), k // 256))


def feature(k: int, slot: int, path: str | None = None) -> dict[str, Any]:
    """The same as the image feature of `datasets`."""
    return {"bytes": image_of(k, slot), "path": path}


def parquet(path: Path, made: list[dict[str, Any]]) -> None:
    """One Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(made), path)


def diffusers_dpo(folder: Path) -> Truth:
    """175 rows, of which 89 prefer the second image."""
    labels = {f"number {k}": float(k * 8 % 175 >= 89) for k in range(175)}
    made = [
        {"caption": prompt, "jpg_0": image_of(k, 0), "jpg_1": image_of(k, 1), "label_0": label}
        for k, (prompt, label) in enumerate(labels.items())
    ]
    parquet(folder / "train.parquet", made)
    return Truth(labels, votes=175)


VOTE_TYPES = {"leftvote": 1.0, "rightvote": 0.0, "tievote": 0.5, "bothbad_vote": 0.5}


def genai_bench(folder: Path) -> Truth:
    """The generation part, one row a vote."""
    made = [
        {
            "prompt": f"p{k}",
            "left_model": "SDXL",
            "left_image": feature(k, 0),
            "right_model": "PixArtAlpha",
            "right_image": feature(k, 1),
            "vote_type": word,
        }
        for k, word in enumerate(VOTE_TYPES)
    ]
    parquet(folder / "image_generation" / "train-00000-of-00001.parquet", made)
    return Truth({f"p{k}": label for k, label in enumerate(VOTE_TYPES.values())}, votes=4)


def editreward_data(folder: Path) -> Truth:
    """Votes on edits, with scores for two axes a side."""
    said = [("leftvote", 4.0, 2.0, 3.0, 3.0), ("rightvote", 1.0, 3.0, 4.0, 2.0)]
    made = [
        {
            "instruction": f"make it {k}",
            "source_img": feature(k, 2),
            "left_output_image": feature(k, 0),
            "right_output_image": feature(k, 1),
            "left_model": "a",
            "right_model": "b",
            "left_instruction_following_score": left,
            "right_instruction_following_score": right,
            "left_quality_aesthetic_score": fine,
            "right_quality_aesthetic_score": finer,
            "vote_type": word,
        }
        for k, (word, left, right, fine, finer) in enumerate(said)
    ]
    parquet(folder / "data" / "train-00000-of-00002.parquet", made)
    axes = {
        "instruction_following": {"make it 0": 1.0, "make it 1": 0.0},
        "quality": {"make it 0": 0.5, "make it 1": 1.0},
    }
    return Truth({"make it 0": 1.0, "make it 1": 0.0}, axes, votes=2)


def videogen_rewardbench(folder: Path) -> Truth:
    """A, B or same on three axes and overall; the videos are names."""
    said = [("A", "B", "same", "A"), ("B", "B", "A", "B"), ("same", "same", "same", "same")]
    with (folder / "videogen-rewardbench.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        names = ["path_A", "path_B", "A_model", "B_model", "prompt", "VQ", "MQ", "TA", "Overall"]
        writer.writerow(names)
        for k, words in enumerate(said):
            writer.writerow([f"videos/{k}_a.mp4", f"videos/{k}_b.mp4", "x", "y", f"p{k}", *words])
    meaning = {"A": 1.0, "B": 0.0, "same": 0.5}
    axes = {
        axis: {f"p{k}": meaning[words[at]] for k, words in enumerate(said)}
        for at, axis in enumerate(("visual_quality", "motion_quality", "text_alignment"))
    }
    labels = {f"p{k}": meaning[words[3]] for k, words in enumerate(said)}
    return Truth(labels, axes, votes=12, images=False)


def answers(*said: tuple[str, float]) -> list[dict[str, Any]]:
    """Rapidata's detailed results: whom each annotator voted for, and their trust."""
    return [
        {"votedFor": name, "userDetails": {"country": "IT", "userScores": {"global": trust}}}
        for name, trust in said
    ]


def share(said: list[dict[str, Any]], name: str) -> float:
    """The share of trust behind a name."""
    trust = [(a["votedFor"], a["userDetails"]["userScores"]["global"]) for a in said]
    return sum(value for who, value in trust if who == name) / sum(value for _, value in trust)


RAPIDATA = [
    {
        "preference": answers(("a.png", 0.5), ("b.png", 0.3), ("a.png", 0.2)),
        "coherence": answers(("b.png", 0.5), ("b.png", 0.3)),
        "alignment": answers(("a.png", 0.4), ("b.png", 0.4)),
    },
    {
        axis: answers(("b.png", 0.9), ("a.png", 0.1))
        for axis in ("preference", "coherence", "alignment")
    },
]


def rapidata(folder: Path, names: tuple[str | None, str | None] = ("a.png", "b.png")) -> Truth:
    """A newer set: shares and answers on three axes."""
    made = []
    for k, said in enumerate(RAPIDATA):
        row: dict[str, Any] = {"prompt": f"p{k}", "model1": "flux", "model2": "imagen"}
        row |= {f"image{slot + 1}": feature(k, slot, names[slot]) for slot in (0, 1)}
        for axis, given in said.items():
            row[f"weighted_results_image1_{axis}"] = share(given, "a.png")
            row[f"weighted_results_image2_{axis}"] = share(given, "b.png")
            row[f"detailed_results_{axis}"] = json.dumps(given)
        made.append(row)
    parquet(folder / "data" / "train-00000-of-00001.parquet", made)
    by_axis = {
        axis: {f"p{k}": share(said[axis], "a.png") for k, said in enumerate(RAPIDATA)}
        for axis in RAPIDATA[0]
    }
    return Truth(by_axis.pop("preference"), by_axis, votes=13)


def datapoint(folder: Path) -> Truth:
    """Votes, pairs, images and prompts in tables of their own; ten votes a pair."""
    count = 6
    images = [
        {"image_id": 2 * k + slot, "model": f"m{slot}", "image": image_of(k, slot)}
        for k in range(count)
        for slot in (0, 1)
    ]
    pairs = [
        {"pair_id": 70 + k, "prompt_id": k, "left_image_id": 2 * k, "right_image_id": 2 * k + 1}
        for k in range(count)
    ]
    votes = [
        {
            "pair_id": 70 + k,
            "winner": 2 * k + int(n >= k),
            "annotator_id": f"u{n}",
            "trust_score": 0.1 * n,
        }
        for n in range(10)
        for k in range(count)
    ]
    prompts = [{"prompt_id": k, "prompt": f"p{k}"} for k in range(count)]
    for name, made in (
        ("images", images),
        ("pairs", pairs),
        ("votes", votes),
        ("prompts", prompts),
    ):
        parquet(folder / f"{name}.parquet", made)
    return Truth({f"p{k}": k / 10 for k in range(count)}, votes=10 * count)


def shard(path: Path, samples: dict[str, dict[str, bytes]]) -> Path:
    """A WebDataset shard: key -> members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for key, members in samples.items():
            for name, data in members.items():
                entry = tarfile.TarInfo(f"{key}.{name}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return path


def mirrored(k: int, label: float) -> dict[str, bytes]:
    """The members of one pair in a mirror of Pick-a-Pic."""
    return {
        "jpg_0.jpg": image_of(k, 0),
        "jpg_1.jpg": image_of(k, 1),
        "label_0.txt": str(label).encode(),
        "label_1.txt": str(1 - label).encode(),
        "original_prompt.txt": f"a prompt\n{k} é".encode(),
    }


def pickapic_webdataset(folder: Path) -> Truth:
    """A mirror of Pick-a-Pic as a shard."""
    labels = [1.0, 0.0, 0.5, 1.0]
    samples = {f"data/{k:05d}": mirrored(k, label) for k, label in enumerate(labels)}
    shard(folder / "shards" / "train-00000.tar", samples)
    return Truth({f"a prompt\n{k} é": label for k, label in enumerate(labels)}, votes=4)


def per_annotator_table(folder: Path) -> Truth:
    """A column a person."""
    made = [
        {"prompt": "a", "image_a": "a1", "image_b": "a2", "P01": "A", "P02": "B", "P03": "A"},
        {"prompt": "b", "image_a": "b1", "image_b": "b2", "P01": "B", "P02": "same", "P03": ""},
    ]
    with (folder / "study.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(made[0]))
        writer.writeheader()
        writer.writerows(made)
    return Truth({"a": 2 / 3, "b": 0.25}, votes=5, images=False)


def label_studio(folder: Path) -> Truth:
    """Three annotators of one task, one of whom cancelled, and a task without any."""
    said = [("ann", "left", False), ("bob", "right", False), ("eve", "right", True)]
    annotations = [
        {
            "completed_by": {"email": who},
            "was_cancelled": cancelled,
            "result": [{"from_name": "pw", "type": "pairwise", "value": {"selected": word}}],
        }
        for who, word, cancelled in said
    ]
    tasks = [
        {
            "id": k,
            "data": {"prompt": f"p{k}", "image1": f"{k}_1.png", "image2": f"{k}_2.png"},
            "annotations": given,
        }
        for k, given in enumerate((annotations, annotations[1:2], []))
    ]
    (folder / "project.json").write_text(json.dumps(tasks))
    return Truth({"p0": 0.5, "p1": 0.0, "p2": None}, votes=3, images=False)


def hpdv3(folder: Path) -> Truth:
    """How many chose which; the first path is the preferred image."""
    counts = [[3, 1], [9, 0], [1, 1], None]
    made = [
        {
            "prompt": f"p{k}",
            "path1": f"{k}_0.png",
            "path2": f"{k}_1.png",
            "choice_dist": count,
            "confidence": 0.9,
            "model1": "x",
            "model2": "y",
        }
        for k, count in enumerate(counts)
    ]
    (folder / "IMAGES").mkdir()
    for k in range(len(counts)):
        for slot in (0, 1):
            (folder / "IMAGES" / f"{k}_{slot}.png").write_bytes(image_of(k, slot))
    (folder / "train.json").write_text(json.dumps(made))
    return Truth({"p0": 0.75, "p1": 1.0, "p2": 0.5, "p3": 1.0}, votes=15)


def imagereward_group(folder: Path) -> Truth:
    """A row a group: lists of images, ranks and ratings; two images, so that a group is a pair."""
    ranks = [[1, 2], [2, 1], [1, 1]]
    made = [
        {
            "prompt_id": f"{k:06d}-0",
            "prompt": f"p{k}",
            "classification": "People",
            "image_amount_in_total": 2,
            "generations": [feature(k, slot, f"{k}_{slot}.png") for slot in (0, 1)],
            "rank": rank,
            "overall_rating": [5, 3],
        }
        for k, rank in enumerate(ranks)
    ]
    parquet(folder / "group" / "train.parquet", made)
    return Truth({"p0": 1.0, "p1": 0.0, "p2": 0.5})


SHAPES: dict[str, Callable[[Path], Truth]] = {
    "diffusers_dpo": diffusers_dpo,
    "genai_bench": genai_bench,
    "editreward_data": editreward_data,
    "videogen_rewardbench": videogen_rewardbench,
    "rapidata": rapidata,
    "datapoint": datapoint,
    "pickapic_webdataset": pickapic_webdataset,
    "per_annotator_table": per_annotator_table,
    "label_studio": label_studio,
    "hpdv3": hpdv3,
    "imagereward": imagereward_group,
}
"""Data card -> the files that its command reads."""
