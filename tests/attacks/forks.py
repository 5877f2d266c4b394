"""Cases in forked children: thousands cost minutes, and a hang or a crash is an outcome."""

import io
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field

HANG = 120
"""Seconds of real time after which a child counts as hanging; no case takes a tenth of it."""


@dataclass
class Tally:
    """Outcomes of an attack, and the cases that must not be."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, case: object, outcome: str, why: str = "") -> None:
        """Count a case; an outcome in capitals is a failure."""
        self.counts[outcome] += 1
        if outcome.isupper():
            self.failures.append(f"{outcome}: {case!r:.400} {why}")

    def line(self) -> str:
        """The figures."""
        return ", ".join(f"{name} {n:,}" for name, n in sorted(self.counts.items()))


def in_fork(attack: Callable[[], str]) -> tuple[str, str]:
    """What `attack` returns in a child of its own, and what it printed; TRACEBACK or HANG."""
    with tempfile.TemporaryFile("w+") as out:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            signal.alarm(HANG)
            code = 1
            try:
                with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                    outcome = attack()
                out.write(outcome)
                code = 0
            except BaseException:
                out.write(traceback.format_exc()[-1500:])
            finally:
                out.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        text = out.read()
    if os.WIFSIGNALED(status):
        killed = os.WTERMSIG(status)
        return ("HANG" if killed == signal.SIGALRM else "CRASH"), f"signal {killed}"
    return (text, "") if not os.waitstatus_to_exitcode(status) else ("TRACEBACK", text)


def run_all(cases: Iterable[object], attack: Callable[[object], str], *, fork: bool) -> Tally:
    """Attack with every case, in forked children or in this process."""
    tally, began = Tally(), time.monotonic()
    for case in cases:
        if fork:
            tally.add(case, *in_fork(lambda case=case: attack(case)))
            continue
        try:
            tally.add(case, attack(case))
        except Exception:
            tally.add(case, "TRACEBACK", traceback.format_exc()[-600:])
    tally.seconds = time.monotonic() - began
    return tally
