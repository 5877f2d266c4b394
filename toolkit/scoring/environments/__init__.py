"""Environments that a scorer's own package lives in, made with uv on request.

environments/NAME.txt            here: what an environment is made of, and that there is one
HOME/environments/NAME/          a virtual environment
HOME/environments/NAME/made.json written last: the pins it was made from, the packages it held then

What has no made.json, or one of other pins, was never finished or is out of date, and is not used.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from toolkit.errors import InputError
from toolkit.files.atomic import write_text_whole
from toolkit.scoring.checkpoints import home

PINS: Traversable = files("toolkit.scoring.environments")
"""Folder of NAME.txt, every package of an environment with its version; each is one."""
_MADE = "made.json"


def environments() -> list[str]:
    """Names of all environments that can be made."""
    named = (file.name for file in PINS.iterdir())
    return sorted(name.removesuffix(".txt") for name in named if name.endswith(".txt"))


@dataclass(frozen=True)
class Environment:
    """One environment: its folder and whether it can be used."""

    name: str
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        windows = os.name == "nt"
        return self.folder / ("Scripts/python.exe" if windows else "bin/python")

    def fault(self) -> str | None:
        """Why it cannot be used, as a clause; None where it can."""
        if not self.folder.exists():
            return "was not made yet"
        try:
            made = json.loads((self.folder / _MADE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return "was never finished"
        if made.get("pins") != pins_hash(self.name):
            return "was made from other pins than this version of outvoted has"
        if not self.python.exists():
            return "has lost its interpreter"
        if absent := sorted(set(made.get("packages", [])) - set(self.packages())):
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            return f"has lost the package {absent[0]}{more}"
        return None

    def packages(self) -> list[str]:
        """The installed packages, by the names they are imported by."""
        named = (
            file.parent.name
            for pattern in ("lib/python*/site-packages", "Lib/site-packages")
            for file in self.folder.glob(f"{pattern}/*/__init__.py")
        )
        return sorted(named)


def environment(name: str) -> Environment:
    """The environment of that name. InputError naming those there are."""
    if name not in environments():
        raise InputError(f"There is no environment {name!r}; choose {', '.join(environments())}.")
    return Environment(name, home() / "environments" / name)


def ready(name: str) -> Environment:
    """The environment, usable. InputError saying how to make it where it is not."""
    place = environment(name)
    if fault := place.fault():
        raise InputError(
            f"The environment of {name} at {place.folder} {fault}; type "
            f"`outvoted scorers install {name}`."
        )
    return place


def pins(name: str) -> str:
    """Every package of the environment with its version, as uv reads it."""
    return PINS.joinpath(f"{name}.txt").read_text("utf-8")


def pins_hash(name: str) -> str:
    """sha256 of the pins."""
    return hashlib.sha256(pins(name).encode()).hexdigest()


def install(name: str) -> Environment:
    """Make the environment (again, where the one there cannot be used).

    made.json is written last, so a killed install leaves nothing that looks finished. InputError
    where uv is missing or cannot fetch a package.
    """
    wanted = environment(name)
    if wanted.fault() is None:
        return wanted
    wanted.folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(wanted.folder.parent / f".{name}.lock"):
        if wanted.fault() is None:
            return wanted
        shutil.rmtree(wanted.folder, ignore_errors=True)
        _make(wanted)
    return wanted


def _make(wanted: Environment) -> None:
    uv = _uv()
    asked = wanted.folder.parent / f".{wanted.name}.txt"
    asked.write_text(pins(wanted.name), encoding="utf-8")
    _run([uv, "venv", "--python", sys.executable, str(wanted.folder)], wanted)
    _run(
        [uv, "pip", "install", "--python", str(wanted.python), "--requirements", str(asked)], wanted
    )
    asked.unlink()
    _complete_hpsv2(wanted)
    made = {"pins": pins_hash(wanted.name), "packages": wanted.packages()}
    write_text_whole(wanted.folder / _MADE, json.dumps(made) + "\n")


def _complete_hpsv2(wanted: Environment) -> None:
    """hpsv2 1.2.0's wheel lacks its tokenizer's vocabulary; open_clip carries the same file."""
    there = list(wanted.folder.glob("[Ll]ib/**/hpsv2/src/open_clip"))
    if not there:
        return
    try:
        source = files("open_clip").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as problem:
        raise InputError(
            "hpsv2's wheel lacks its vocabulary, which open_clip carries; type `pip install "
            "'outvoted[score]'` and install again."
        ) from problem
    for package in there:
        (package / "bpe_simple_vocab_16e6.txt.gz").write_bytes(source)


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    path = str(beside) if beside.exists() else shutil.which("uv")
    if path is None:
        raise InputError(
            "Environments are made with uv, which is not here; type `pip install uv` and try again."
        )
    return path


def _run(command: list[str], wanted: Environment) -> None:
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        summary = next((line for line in lines if line.startswith(("error", "×"))), "")
        rest = " ".join(line.lstrip("├─▶╰ ") for line in lines if line != summary)[-300:]
        raise InputError(
            f"The environment of {wanted.name} could not be made (uv: {summary} {rest}); it needs "
            "the package index once, and about 6 GB; type the same command when both are there."
        )


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Two installs of one environment wait for each other."""
    with lock.open("w") as stream:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
