"""One of n equal shares of a piece of work: `--shard i/n`."""

import re
from dataclasses import dataclass

from toolkit.errors import InputError


@dataclass(frozen=True)
class Shard:
    """Share `index` of `count`, counted from 0."""

    index: int
    count: int

    def has(self, unit: int) -> bool:
        """Whether unit number `unit` belongs to this share."""
        return unit % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def read_shard(text: str | None) -> Shard | None:
    """The share that `--shard` names; None without the option. InputError on anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if not match or int(match[1]) >= int(match[2]):
        raise InputError(
            f"--shard is {text!r}; write i/n with i from 0 to n - 1: 0/4, 1/4, 2/4 and 3/4 "
            "together are the whole."
        )
    return Shard(int(match[1]), int(match[2]))
