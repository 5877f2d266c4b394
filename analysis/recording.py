"""What an analysis leaves in the store: findings, and what was computed how."""

import json
from dataclasses import asdict
from typing import Any

from analysis.judging import RESAMPLES, SEED
from analysis.outcome import Analysis
from toolkit.minority import PRESETS
from toolkit.parts import write_text_whole
from toolkit.store.runs import write_findings


def record(found: Analysis) -> None:
    """Write every table as a finding, and detection.json and dataset.json beside them."""
    shared = {"labels": found.labels, "window": found.window}
    for name, table in found.tables.items():
        about: dict[str, Any] = dict(shared)
        if name.startswith("minority"):
            own = name == "minority"
            metric = found.metric if own else PRESETS[name.removeprefix("minority_")]
            about |= {"preset": metric.preset, "metric": asdict(metric)}
        write_findings(found.store, found.run, name, table, about)
    if found.found.habits.num_rows:
        write_findings(found.store, found.run, "annotators", found.found.habits, dict(shared))
    figures = shared | {
        "planted": found.flipped is not None,
        "resamples": RESAMPLES,
        "seed": SEED,
        "intervals": "95 % bootstrap, prompts resampled",
        "detectors": [detection.as_dict() for detection in found.detections],
        "calibration": None if found.calibration is None else asdict(found.calibration),
    }
    noise = found.noise
    shape = shared | {
        "profile": found.profile.as_dict(),
        "noise": None if noise is None else asdict(noise),
        "krippendorff_alpha": None if found.found.overlap is None else found.found.overlap.alpha,
    }
    for name, values in (("detection", figures), ("dataset", shape)):
        text = json.dumps(values, indent=2, allow_nan=False) + "\n"
        write_text_whole(found.store.findings(found.run) / f"{name}.json", text)
