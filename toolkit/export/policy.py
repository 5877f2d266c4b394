"""What an export does to the pairs: one frozen record, checked before anything is read.

Its fields are the options of `outvoted export` and the keywords of `export_set`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated

from toolkit.errors import InputError
from toolkit.options import check_options

_WEIGHT = re.compile(r"\s*(1\s*-\s*)?([A-Za-z_][\w.]*)\s*")

ANNOTATOR = "user_id"
"""The exported column of the annotator: a keyed pseudonym unless `keep` names it."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Labels, then scores, then verdicts: a verdict always wins over a score.

    Where several texts are allowed (`drop`, `flip`, `keep`, `pseudonymize`), a single text is
    allowed too.
    """

    labels: Annotated[
        str | None, "Label set; by default the one the finding was computed under, else original."
    ] = None
    run: Annotated[str | None, "The run whose findings are used."] = None
    finding: Annotated[str, "The finding that ranks the pairs."] = "minority"
    where: Annotated[
        str | None, 'Export only pairs that pass, whatever their verdict: "not nsfw and votes > 1".'
    ] = None
    drop: Annotated[tuple[str, ...], 'Drop pairs that pass, such as "minority > 0.5".'] = ()
    flip: Annotated[tuple[str, ...], "Reverse the label of pairs that pass."] = ()
    drop_top: Annotated[
        float, "Drop this share of the pairs with a score, highest score first.", (0, 1)
    ] = 0.0
    flip_top: Annotated[float, "Reverse the label of this share, highest score first.", (0, 1)] = (
        0.0
    )
    reweight: Annotated[bool, "sample_weight = 1 / (1 + k1 * minority), Eq. 15."] = False
    k1: Annotated[float, "k1 of --reweight.", (0, 1e6)] = 10.0
    weight: Annotated[
        str | None, 'sample_weight from a column of numbers: "COLUMN" or "1 - COLUMN".'
    ] = None
    resample: Annotated[
        bool,
        "Draw the pairs by their weight, for readers that know no weights: each is kept with "
        "probability weight / largest weight, and its sample_weight is 1.",
    ] = False
    seed: Annotated[int, "Seed of --resample.", (0, 2**63 - 1)] = 0
    verdicts: Annotated[bool, "Apply the published verdicts."] = True
    keep_ties: Annotated[bool, 'Keep ties as 0.5; public trainers read them as "image 0 wins".'] = (
        False
    )
    keep_unlabelled: Annotated[bool, "Keep pairs without a label."] = False
    keep: Annotated[
        tuple[str, ...],
        "A column of the source that leaves as it is, although it is not known to name nobody; "
        "user_id for the annotators' own names.",
    ] = ()
    pseudonymize: Annotated[
        tuple[str, ...], "A column of the source that leaves as keyed pseudonyms."
    ] = ()
    images: Annotated[bool, "Include the images' bytes."] = True
    allow_outside: Annotated[
        bool, "Also export what files of the source lead to by links made after the ingest."
    ] = False

    def __post_init__(self) -> None:
        for name in ("drop", "flip", "keep", "pseudonymize"):
            value = getattr(self, name)
            several = (value,) if isinstance(value, str) else tuple(value or ())
            object.__setattr__(self, name, several)

    @property
    def uses_scores(self) -> bool:
        """Whether the policy needs a finding whatever its conditions are."""
        return bool(self.drop_top or self.flip_top or self.reweight)

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """(option, text) of every condition: drops, then flips, then where."""
        drops = [("--drop", text) for text in self.drop]
        flips = [("--flip", text) for text in self.flip]
        return drops + flips + ([("--where", self.where)] if self.where is not None else [])

    def words(self) -> Iterator[str]:
        """The options of `outvoted export` that state this policy; defaults are left out."""
        for field in fields(self):
            value, option = getattr(self, field.name), field.name.replace("_", "-")
            if value == field.default:
                continue
            if isinstance(value, bool):
                yield f"--{option}" if value else f"--no-{option}"
                continue
            for word in value if isinstance(value, tuple) else (value,):
                yield f"--{option}"
                yield f"{word:g}" if isinstance(word, float) else str(word)


def weight_column(policy: Policy) -> tuple[str, bool] | None:
    """(column, whether it is subtracted from 1) of `weight`. InputError where it is neither."""
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
    """InputError where the policy contradicts itself, or a number is outside its range."""
    check_options(Policy, policy.__dict__)
    if weight_column(policy) and policy.reweight:
        raise InputError("--weight cannot be combined with --reweight; choose one.")
    if policy.flip_top and (policy.drop or policy.drop_top):
        raise InputError(
            "--flip-top cannot be combined with --drop or --drop-top, since both are about the "
            "same pairs; choose one."
        )
    if both := sorted(set(policy.keep) & set(policy.pseudonymize)):
        raise InputError(f"--keep and --pseudonymize both name {', '.join(both)}; choose one.")
    if policy.uses_scores and policy.run is None:
        raise InputError(
            "--drop-top, --flip-top and --reweight need the scores of a run; name it with --run."
        )
