"""Pictures and cards of single pairs for the report."""

import base64
from typing import Any

import numpy as np

from analysis.run_analysis import Analysis
from toolkit.errors import InputError
from toolkit.image_files import decode, thumbnail
from toolkit.store import Store
from toolkit.store.images import ImageReader

_SMALL = 160
"""Pictures of at most this side in pixels are scaled up with their edges kept."""
_MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}


class Gallery:
    """Pictures of a store as data addresses, right-sized."""

    def __init__(self, store: Store) -> None:
        self._thumbnails = ImageReader(store, "thumbnails")
        self._images = ImageReader(store)

    def picture(self, image_id: str | None) -> dict[str, Any]:
        """source (None where it cannot be shown), small, and the problem in words."""
        try:
            if image_id is None:
                raise InputError("the pair names no image")
            reader = self._thumbnails if image_id in self._thumbnails else self._images
            data = reader.read(image_id)
            decoded = decode(data)
        except InputError as problem:
            return {"source": None, "small": False, "problem": str(problem)}
        kind = _MIME.get(decoded.format)
        if (small := thumbnail(decoded.image)) is not None:
            data, kind = small, "image/jpeg"
        elif kind is None:
            return {"source": None, "small": False, "problem": f"{decoded.format} is not shown"}
        address = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        return {"source": address, "small": max(decoded.image.size) <= _SMALL, "problem": ""}


def pair_card(analysis: Analysis, row: int, gallery: Gallery) -> dict[str, Any]:
    """What the report shows of one pair: pictures as the source ordered them, label, scores."""
    pair = analysis.pairs.slice(row, 1).to_pylist()[0]
    sides = []
    for slot in (0, 1):
        chosen = pair["label"] is not None and pair["label"] == 1 - slot
        sides.append(
            {
                **gallery.picture(pair[f"image_{slot}"]),
                "chosen": chosen,
                "role": "✓ label’s choice" if chosen else "not chosen",
                "alt": f"image {slot} of pair {pair['pair_id']}"
                + (", the label's choice" if chosen else ""),
            }
        )
    return {
        "pair_id": pair["pair_id"],
        "prompt": pair["prompt"],
        "sides": sides,
        "flipped": bool(analysis.flipped is not None and analysis.flipped[row]),
        "scores": _scores(analysis, row),
    }


def _scores(analysis: Analysis, row: int) -> list[dict[str, str]]:
    shown = {
        "u": analysis.column("minority")[row],
        "c": analysis.column("minority", "confidence")[row],
        "s": analysis.column("minority", "stability")[row],
        "ell": -analysis.column("trajectory_ell")[row],
    }
    visits = analysis.tables["minority"]["visits"][row].as_py()
    cells = [
        {"name": name, "value": "–" if np.isnan(value) else f"{value:.3g}".replace("-", "−")}
        for name, value in shown.items()
    ]
    return [*cells, {"name": "visits", "value": str(visits)}]
