"""Ways out of a store: one format a file, and one dict of them."""

from toolkit.export import (
    chosen_rejected_format as chosen_rejected,
)
from toolkit.export import (
    kohya_format as kohya,
)
from toolkit.export import (
    pickapic_format as pickapic,
)
from toolkit.export import (
    webdataset_format as webdataset,
)
from toolkit.export import (
    weights_sidecar as weights,
)
from toolkit.export.dataset_writer import Format, Outcome, export_set, preview
from toolkit.export.pickapic_format import export_pickapic, preview_pickapic
from toolkit.export.policy import Policy

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
