"""The dataset card of an exported set, from the template in data_cards."""

from importlib.resources import files
from typing import Any

import pyarrow as pa

from toolkit.errors import InputError
from toolkit.schema import meaning_of

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

    data_files = sorted(name for name in record["outputs"] if name.startswith("data/"))
    splits = sorted({name.split("/")[1].split("-")[0] for name in data_files})
    rows = record["counts"]["after"]["pairs"]
    data = DatasetCardData(
        pretty_name="Curated preference pairs",
        task_categories=["text-to-image"],
        size_categories=[next((name for size, name in _SIZES if rows < size), "n>1M")],
        tags=["preference", "outvoted"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": s, "path": f"data/{s}-*"} for s in splits],
            }
        ]
        if splits
        else None,
    )
    columns = [(field.name, str(field.type), meaning_of(field)) for field in schema]
    template = (files("data_cards") / "template.md").read_text(encoding="utf-8")
    card = DatasetCard.from_template(
        data, template_str=template, record=record, columns=columns, splits=splits
    )
    return str(card)
