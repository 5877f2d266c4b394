"""Where an exported set comes from: the record curation.json, and the card that shows it.

The record: the policy, what it did to which pairs, the balance before and after, hashes of all
inputs and outputs. The card: README.md from the template in data_cards.
"""

import hashlib
import json
from collections import Counter
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from toolkit.errors import InputError
from toolkit.export.decisions import TIE, UNLABELLED, Plan
from toolkit.export.policy import Policy
from toolkit.export.table import SourceColumns
from toolkit.files.atomic import parts
from toolkit.preference import Floats, Mask, differs, is_graded, is_tie, lean
from toolkit.schema import meaning_of
from toolkit.store import Store
from toolkit.store.images import images_fingerprint
from toolkit.store.label_sets import label_set_files, label_set_recipe
from toolkit.store.layout import described
from toolkit.store.runs import findings, findings_about


def counts(plan: Plan) -> dict[str, Any]:
    """Pairs before and after, and what happened in between.

    `not_the_sources` are the exported pairs whose label differs from the source's: flips, and what
    the label set had changed before. `planted` are those of them that carry a planted flip, and
    `without_planted` the label set that lacks it.
    """
    done = Counter(decision["action"] for decision in plan.decisions.values())
    reasons = Counter(
        f"{decision['action']}: {decision['why']} ({decision['by']})"
        for decision in plan.decisions.values()
    )
    everything = np.ones(len(plan.label), bool)
    original = plan.rows["original_label"].to_numpy()
    changed = differs(plan.final, original)
    return {
        "before": _labels(plan.label, everything),
        "after": _labels(plan.final, plan.kept),
        "graded": int(np.count_nonzero(plan.kept & is_graded(plan.final))),
        "flipped": done["flipped"],
        "tied": done["tied"],
        "dropped": done["dropped"],
        "ties_left_out": _ending(plan, TIE),
        "unlabelled_left_out": _ending(plan, UNLABELLED),
        "not_the_sources": int(np.count_nonzero(plan.kept & changed)),
        "planted": int(np.count_nonzero(plan.kept & plan.planted & (plan.final == plan.label))),
        "labels": plan.labels,
        "without_planted": plan.without_planted,
        "reweighted": int(np.count_nonzero(plan.weight[plan.kept] != 1)),
        "reasons": dict(sorted(reasons.items())),
    }


def _ending(plan: Plan, why: str) -> int:
    return sum(decision["why"].endswith(why) for decision in plan.decisions.values())


def _labels(label: Floats, mask: Mask) -> dict[str, int]:
    label = label[mask]
    return {
        "pairs": len(label),
        "image_0 preferred": int(np.count_nonzero(lean(label) > 0)),
        "image_1 preferred": int(np.count_nonzero(lean(label) < 0)),
        "tied": int(np.count_nonzero(is_tie(label))),
        "unlabelled": int(np.count_nonzero(np.isnan(label))),
    }


def balance(plan: Plan) -> dict[str, Any]:
    """Per model and per prompt, before and after: curation that empties a corner shows here."""
    everything = np.ones(len(plan.label), bool)
    before, after = _prompts(plan, everything), _prompts(plan, plan.kept)
    lost = sorted(set(before) - set(after))
    return {
        "models": {
            "before": _models(plan, plan.label, everything),
            "after": _models(plan, plan.final, plan.kept),
        },
        "prompts": {
            "before": _spread(before),
            "after": _spread(after),
            "lost": len(lost),
            "lost_prompts": lost[:100],
        },
    }


def _prompts(plan: Plan, mask: Mask) -> Counter[str]:
    return Counter(plan.rows["prompt"].filter(mask).to_pylist())


def _spread(prompts: Counter[str]) -> dict[str, float]:
    sizes = np.array(sorted(prompts.values()) or [0])
    return {
        "prompts": len(prompts),
        "pairs_per_prompt_min": int(sizes.min()),
        "pairs_per_prompt_median": float(np.median(sizes)),
        "pairs_per_prompt_max": int(sizes.max()),
    }


def _models(plan: Plan, label: Floats, mask: Mask) -> dict[str, dict[str, Any]]:
    """model: pairs it takes part in, how many it was chosen in (half for a tie), its share."""
    pairs: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    kept = label[mask]
    for slot in (0, 1):
        models = plan.rows[f"model_{slot}"].filter(pa.array(mask)).combine_chunks()
        codes = models.dictionary_encode()
        known = ~np.isnan(kept) & codes.is_valid().to_numpy(zero_copy_only=False)
        places = codes.indices.fill_null(0).to_numpy()[known]
        value = kept[known] if slot == 0 else 1 - kept[known]
        names = codes.dictionary.to_pylist()
        pairs.update(dict(zip(names, np.bincount(places, minlength=len(names)), strict=True)))
        sums = np.bincount(places, value, minlength=len(names))
        chosen.update(dict(zip(names, sums, strict=True)))
    return {
        name: {
            "pairs": int(pairs[name]),
            "chosen": float(chosen[name]),
            "chosen_share": round(float(chosen[name] / pairs[name]), 6),
        }
        for name in sorted(pairs)
        if pairs[name]
    }


def decisions(plan: Plan) -> list[dict[str, Any]]:
    """Every pair that was decided about, in the store's order; all others left as they were."""
    ids = plan.pair_ids
    original = plan.rows["original_label"].to_pylist()
    return [
        {
            "pair_id": ids[row],
            **plan.decisions[row],
            "label": None if np.isnan(plan.final[row]) else float(plan.final[row]),
            "original_label": original[row],
        }
        for row in sorted(plan.decisions)
    ]


def inputs(store: Store, plan: Plan, policy: Policy) -> dict[str, Any]:
    """sha256 of everything the export was made from; paths are relative to the store."""
    files = [*plan.files, *parts(store.folder("votes")), *label_set_files(store, plan.labels)]
    if policy.verdicts:
        files += parts(store.folder("verdicts"))
    if policy.run is not None:
        files.append(store.findings(policy.run) / f"{policy.finding}.parquet")
    else:
        named = " ".join(text for _, text in policy.conditions)
        known = [name for name in findings(store, "") if f"{name}." in named]
        files += [store.findings("") / f"{name}.parquet" for name in known]
    hashes = {file.relative_to(store.root).as_posix(): sha256_of(file) for file in files}
    return {"files": hashes, "images": images_fingerprint(store)}


def curation(
    store: Store,
    plan: Plan,
    policy: Policy,
    source: SourceColumns,
    *,
    command: str | None,
    outputs: dict[str, Any],
) -> dict[str, Any]:
    """The whole record. It contains no time of day: the same export is the same file."""
    finding = None
    if policy.run is not None:
        about = findings_about(store, policy.run, policy.finding)
        finding = {"run": policy.run, "name": policy.finding, "about": about}
    # Lists name pairs and people, and the label set's hash covers them.
    recipe = {
        name: len(value) if isinstance(value, list) else value
        for name, value in label_set_recipe(store, plan.labels).items()
    }
    return {
        "tool": "outvoted",
        "version": tool_version(),
        "command": command,
        "store": described(store.root).get("store_id"),
        "policy": asdict(policy),
        "labels": {"set": plan.labels, "recipe": recipe},
        "finding": finding,
        "source_columns": {
            "exported": source.schema.names,
            "pseudonymized": sorted(source.pseudonyms),
            "left_behind": [*source.left_behind, *source.nested],
        },
        "counts": counts(plan),
        "balance": balance(plan),
        "decisions": decisions(plan),
        "inputs": inputs(store, plan, policy),
        "outputs": outputs,
    }


def tool_version() -> str:
    """The installed version, or "unknown" where outvoted runs from a folder."""
    try:
        return version("outvoted")
    except PackageNotFoundError:
        return "unknown"


def sha256_of(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def needs_card_library() -> None:
    """InputError, before anything is written, where huggingface_hub is not installed."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as problem:
        raise InputError(
            "The dataset card needs huggingface_hub, which is not installed; type "
            "`pip install 'outvoted[analyze]'`."
        ) from problem


def card_text(record: dict[str, Any], schema: pa.Schema) -> str:
    """README.md with its YAML header, from what curation.json holds and the columns' meanings."""
    from huggingface_hub import DatasetCard, DatasetCardData

    outputs = record["outputs"]
    tables = sorted(name for name in outputs if "-of-" in name)
    splits = sorted({name.split("/")[1].split("-")[0] for name in tables})
    paths = {split: f"data/{split}-*" for split in splits}
    if not splits:
        paths = {"train": next(name for name in outputs if not name.endswith(("/", ".npy")))}
    # `datasets` caches a folder by its card and not by its files, so the card names their content.
    content = hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()
    rows = record["counts"]["after"]["pairs"]
    data = DatasetCardData(
        pretty_name="Curated preference pairs",
        task_categories=["text-to-image"],
        size_categories=[next((name for size, name in _SIZES if rows < size), "n>1M")],
        tags=["preference", "outvoted"],
        configs=[
            {
                "config_name": "default",
                "description": f"sha256 of the outputs in curation.json: {content}",
                "data_files": [{"split": split, "path": path} for split, path in paths.items()],
            }
        ],
    )
    columns = [(field.name, str(field.type), meaning_of(field)) for field in schema]
    template = (files("data_cards") / "template.md").read_text(encoding="utf-8")
    card = DatasetCard.from_template(
        data, template_str=template, record=record, columns=columns, splits=splits
    )
    return str(card)
