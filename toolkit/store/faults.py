"""What a check finds: one thing that is wrong, and what mends it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and what mends it."""

    what: str
    remedy: str
    files: tuple[Path, ...] = ()
    """Files that `repair` may move aside; none where moving would not help."""

    def line(self) -> str:
        """The fault as a person reads it."""
        return f"{self.what}; {self.remedy}"
