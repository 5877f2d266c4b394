"""Everything a user can fix is an `OutvotedError`; its text is the one sentence they are shown.

The sentence says what was found, what is allowed, and what to type next. Programming mistakes are
never turned into these: they keep their traceback.
"""

import re


class OutvotedError(Exception):
    """A problem that the user can fix."""


class InputError(OutvotedError):
    """A path, file, column, image or option that was given is not usable."""


class StoreError(OutvotedError):
    """The store is missing, of another version, damaged, or already there."""


class Unreachable(OutvotedError):
    """An object store did not answer, or not to the end. What was written before is whole."""


class RecipeError(OutvotedError):
    """A recipe holds unknown keys, wrong types or values that contradict each other."""


class TrainingError(OutvotedError):
    """A run cannot start or cannot continue."""


class BrokenLoss(TrainingError):
    """A run's loss became 0, infinite or NaN: the method's doing, not the machine's."""


class ScoringError(OutvotedError):
    """A scorer cannot start or cannot continue."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in work that can be continued; the text says what was kept and what to type."""


_DAMAGE = re.compile(
    r"magic bytes|footer|thrift|page header|checksum|crc|corrupt|truncated|deserializ|compressed",
    re.IGNORECASE,
)
"""What readers of Parquet say of a file that is broken."""


def is_damage(problem: Exception) -> bool:
    """Whether a reader of Parquet (pyarrow or DuckDB) met a broken file; both raise many kinds."""
    reader = type(problem).__module__.partition(".")[0] in ("pyarrow", "duckdb", "_duckdb")
    bare = isinstance(problem, OSError) and problem.errno is None
    return (reader or bare) and bool(_DAMAGE.search(str(problem)))
