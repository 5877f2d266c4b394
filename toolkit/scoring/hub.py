"""Weights from the hub: the one place that fetches, called where a user typed --download."""

from pathlib import Path

from toolkit.errors import InputError
from toolkit.scoring.base import Scorer, WeightFile
from toolkit.scoring.weights import home, known_weights, one_line

_TOKENIZER = ("vocab.txt", "tokenizer_config.json")


def fetch(scorer: Scorer) -> dict[str, Path]:
    """Role -> path of what is not there yet and is published on the hub.

    InputError where the hub cannot be reached or has none of the files.
    """
    known = known_weights(scorer)
    absent = [n for n in scorer.needs if n.role not in known or not known[n.role].exists()]
    return {need.role: _fetched(scorer, need) for need in absent if need.repository}


def _fetched(scorer: Scorer, need: WeightFile) -> Path:
    from huggingface_hub import hf_hub_download, list_repo_files

    folder = home() / "weights" / need.repository.replace("/", "--")
    try:
        there = list_repo_files(need.repository)
        wanted = _TOKENIZER if need.folder else need.names
        found = [name for name in wanted if name in there]
        if not need.folder:
            found = found[:1]
        paths = [hf_hub_download(need.repository, name, local_dir=folder) for name in found]
    except Exception as problem:  # the hub's client raises many kinds, and the network's own
        raise InputError(
            f"The {need.role} of {scorer.name} could not be fetched from {need.repository} "
            f"({one_line(problem)}); fetch it where there is a network, and type `outvoted scorers "
            f"weights {scorer.name} {need.role}=PATH`."
        ) from problem
    if not paths:
        raise InputError(
            f"{need.repository} has none of {', '.join(wanted)}; fetch the {need.role} by hand, "
            f"and type `outvoted scorers weights {scorer.name} {need.role}=PATH`."
        )
    return folder if need.folder else Path(paths[0])
