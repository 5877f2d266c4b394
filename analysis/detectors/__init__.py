"""The detectors: a file each family, pure functions from a run's digest (and votes, scores,
pictures where they need them) to a table keyed by pair_id. DETECTORS says what each one is."""

from analysis.detectors import (
    agreement,
    annotators,
    cartography,
    consistency,
    minority,
    mixture,
)
from analysis.detectors import (
    image_defects as pictures,
)
from analysis.detectors import (
    noise_type as kinds,
)
from analysis.detectors import (
    trajectory_ell as ell,
)
from analysis.detectors.detector import Detector, Need

__all__ = ["DETECTORS", "Detector", "Need"]

DETECTORS: dict[str, Detector] = {
    **minority.DETECTORS,
    **ell.DETECTORS,
    **cartography.DETECTORS,
    **mixture.DETECTORS,
    **kinds.DETECTORS,
    **agreement.DETECTORS,
    **consistency.DETECTORS,
    **pictures.DETECTORS,
    **annotators.DETECTORS,
}
"""Detector's name -> what it is. A name with a window at its end is the same score over another
part of the run than the one asked for (`late` unless said otherwise)."""
