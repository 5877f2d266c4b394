"""How long each step of a run takes, by the clock and in CPU seconds."""

import gc
import os
import time
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Taken:
    """Seconds a pair between two steps, and GPU memory."""

    clock: float
    cpu: float
    """Of this process and the children that it has waited for."""
    gigabytes: float | None
    """At most allocated beyond what was there before; None without a GPU."""

    @property
    def seconds(self) -> float:
        """What ratios are made of: the clock on a GPU, CPU seconds elsewhere (others may run)."""
        return self.cpu if self.gigabytes is None else self.clock


@dataclass
class Clock:
    """A `Progress` that notes the time after the steps `first` and `last`, counted from 1."""

    first: int
    last: int
    _marks: dict[int, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        gc.collect()
        self._before = 0
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()

    def line(self, text: str) -> None:
        """Not shown."""

    def update(self, task: str, done: int, *_: object, **__: object) -> None:
        """Note the time where the step is one of the two."""
        if task == "training" and done in (self.first, self.last):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            used = os.times()
            cpu = used.user + used.system + used.children_user + used.children_system
            self._marks[done] = (time.perf_counter(), cpu)

    def taken(self, batch: int) -> Taken:
        """Seconds a pair between the two steps, of `batch` pairs each."""
        began, ended = self._marks[self.first], self._marks[self.last]
        pairs = batch * (self.last - self.first)
        clock, cpu = ((after - before) / pairs for before, after in zip(began, ended, strict=True))
        memory = None
        if torch.cuda.is_available():
            memory = (torch.cuda.max_memory_allocated() - self._before) / 1e9
        return Taken(clock, cpu, memory)
