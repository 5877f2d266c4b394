"""Environments for the session, made for real."""

import re
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.scoring.environments import Environment, install

_NO_NETWORK = re.compile(r"[Ff]ailed to fetch|dns|connect|[Nn]etwork|offline")


def _made(home: Path, name: str) -> Environment:
    """An environment below `home`; skips where the package index cannot be reached."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTVOTED_SCORERS", str(home))
        try:
            return install(name)
        except InputError as problem:
            if _NO_NETWORK.search(str(problem)):
                pytest.skip(f"{name} is not in uv's cache and cannot be fetched here: {problem}")
            raise


@pytest.fixture(scope="session")
def made_hps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Environment]:
    """HOME and its environment hps."""
    home = tmp_path_factory.mktemp("scorers")
    return home, _made(home, "hps")


@pytest.fixture(scope="session")
def made_both(made_hps: tuple[Path, Environment]) -> Path:
    """HOME with the environments hps and image_reward."""
    _made(made_hps[0], "image_reward")
    return made_hps[0]
