"""What an export does to the pairs: one frozen record, checked before anything is read."""

import re
from dataclasses import dataclass

from toolkit.errors import InputError

_WEIGHT = re.compile(r"\s*(1\s*-\s*)?([A-Za-z_][\w.]*)\s*")


@dataclass(frozen=True)
class Policy:
    """Labels, then verdicts, then scores: a verdict always wins over a score."""

    labels: str | None = None
    """Label set; None: the one the finding was held against, else `original`."""
    run: str | None = None
    """The run whose finding is used; needed by whatever looks at scores."""
    finding: str = "minority"
    drop: tuple[str, ...] = ()
    """Conditions such as "minority > 0.5" (`toolkit.conditions`); a pair that passes any goes."""
    flip: tuple[str, ...] = ()
    """Conditions; the label of a pair that passes any is reversed."""
    where: str | None = None
    """A condition; a pair that does not pass it is left out, whatever the verdicts say."""
    drop_top: float = 0.0
    """Share (of the pairs with a score) with the highest score that is dropped."""
    flip_top: float = 0.0
    """Share with the highest score whose label is reversed."""
    reweight: bool = False
    """sample_weight = W of Eq. 15 (linear); else 1."""
    k1: float = 10.0
    weight: str | None = None
    """A number that is the sample_weight instead: COLUMN, or 1 - COLUMN for a probability."""
    verdicts: bool = True
    keep_ties: bool = False
    """Public trainers read a tie as "image 0 wins", so ties stay behind unless asked for."""
    keep_unlabelled: bool = False
    pseudonyms: bool = True
    """user_id leaves as a keyed pseudonym."""
    images: bool = True
    """False: without jpg_0 and jpg_1, as in the *_no_images edition."""

    @property
    def uses_scores(self) -> bool:
        """Whether any part of the policy needs a finding."""
        return bool(self.drop_top or self.flip_top or self.reweight)

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """(option, text) of everything in the language, drops before flips before where."""
        drops = [("--drop", text) for text in self.drop]
        flips = [("--flip", text) for text in self.flip]
        return drops + flips + ([("--where", self.where)] if self.where is not None else [])


def weight_column(policy: Policy) -> tuple[str, bool] | None:
    """(column, whether it is taken from 1) of `weight`. InputError where it is neither form."""
    if policy.weight is None:
        return None
    match = _WEIGHT.fullmatch(policy.weight)
    if not match:
        raise InputError(
            f"--weight {policy.weight!r} is no weight; write COLUMN, or 1 - COLUMN, such as "
            "1 - noise_probability."
        )
    return match[2], match[1] is not None


def check(policy: Policy) -> None:
    """InputError where the policy contradicts itself."""
    if weight_column(policy) and policy.reweight:
        raise InputError("--weight cannot be joined with --reweight; choose one.")
    for option, share in (("--drop-top", policy.drop_top), ("--flip-top", policy.flip_top)):
        if not 0 <= share <= 1:
            raise InputError(f"{option} is {share}; it is a share, from 0 to 1.")
    if policy.flip_top and (policy.drop or policy.drop_top):
        raise InputError(
            "--flip-top cannot be joined with --drop or --drop-top: they speak about the same "
            "pairs; choose one."
        )
    if policy.uses_scores and policy.run is None:
        raise InputError(
            "--drop-top, --flip-top and --reweight need the scores of a run; name it with --run."
        )
    if policy.k1 < 0:
        raise InputError(f"--k1 is {policy.k1}; it must be 0 or more.")
