"""Ways out of a store: one format a file, and one dict of them."""

from toolkit.export import chosen_rejected, kohya, pickapic, webdataset, weights
from toolkit.export.pickapic import export_pickapic, preview_pickapic
from toolkit.export.policy import Policy
from toolkit.export.writing import Format, Outcome, export_set, preview

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        pickapic.FORMAT,
        chosen_rejected.FORMAT,
        webdataset.FORMAT,
        weights.FORMAT,
        kohya.FORMAT,
    )
}
"""`export_set` writes a store under a Policy in any of them; `preview` is the same for all."""

__all__ = [
    "FORMATS",
    "Format",
    "Outcome",
    "Policy",
    "export_pickapic",
    "export_set",
    "preview",
    "preview_pickapic",
]
