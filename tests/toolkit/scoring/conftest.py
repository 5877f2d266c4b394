"""One environment for the session, made for real."""

import re
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.scoring.making import Environment, install

_NO_NETWORK = re.compile(r"[Ff]ailed to fetch|dns|connect|[Nn]etwork|offline")


@pytest.fixture(scope="session")
def made_hps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Environment]:
    """HOME and its environment hps; skips where the package index cannot be reached."""
    home = tmp_path_factory.mktemp("scorers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTVOTED_SCORERS", str(home))
        try:
            return home, install("hps")
        except InputError as problem:
            if _NO_NETWORK.search(str(problem)):
                pytest.skip(f"hpsv2 is not in uv's cache and cannot be fetched here: {problem}")
            raise
