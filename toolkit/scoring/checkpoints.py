"""Model weights: the registered paths, their hashes, and whether they belong to the model.

HOME/weights.json   scorer -> role -> path, as registered with `outvoted scorers weights`
HOME/hashes.json    path -> [size, time, sha256], so that gigabytes are hashed once

HOME is $OUTVOTED_SCORERS, or ~/.cache/outvoted/scorers.

Weights from the hub: the one place that fetches, called where a user typed --download.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.files.atomic import write_text_whole
from toolkit.scoring.scorer import Scorer, WeightFile
from toolkit.scoring.workers import tensors
from toolkit.scoring.workers.tensors import one_line as one_line

_BLOCK = 1 << 24


def home() -> Path:
    """Where environments and notes about weights are kept."""
    given = os.environ.get("OUTVOTED_SCORERS")
    return Path(given).expanduser() if given else Path.home() / ".cache/outvoted/scorers"


def known_weights(scorer: Scorer) -> dict[str, Path]:
    """Role -> path as registered; the files are not read."""
    known = _notes("weights.json").get(scorer.name, {})
    return {need.role: Path(known[need.role]) for need in scorer.needs if need.role in known}


def note_weights(scorer: Scorer, given: Iterable[str]) -> dict[str, Path]:
    """Register the paths of a scorer's weights; returns all its roles that are known.

    `given`: ROLE=PATH, a file or folder that carries a published name, or, for the one role that
    is still open, any path. InputError where a path fits no role or does not exist.
    """
    known = known_weights(scorer) | matched(scorer, given)
    notes = _notes("weights.json")
    notes[scorer.name] = {role: str(path.resolve()) for role, path in known.items()}
    write_text_whole(home() / "weights.json", json.dumps(notes, indent=2, sort_keys=True) + "\n")
    return known


def matched(scorer: Scorer, given: Iterable[str]) -> dict[str, Path]:
    """Role -> path of what was given on a command line. InputError says what fits none."""
    known: dict[str, Path] = {}
    for text in given:
        role, sign, rest = text.partition("=")
        if sign and role in {need.role for need in scorer.needs}:
            known[role] = _there(Path(rest).expanduser(), scorer)
            continue
        path = _there(Path(text).expanduser(), scorer)
        fitting = _fitting(scorer, path)
        open_roles = [need for need in scorer.needs if need.role not in known]
        if not fitting and len(open_roles) == 1 and open_roles[0].folder == path.is_dir():
            fitting = {open_roles[0].role: path}
        if not fitting:
            raise InputError(
                f"{path} is none of the files that {scorer.name} needs "
                f"({'; '.join(_said(need) for need in scorer.needs) or 'it needs none'}); "
                "name them as ROLE=PATH."
            )
        known |= fitting
    return known


def _fitting(scorer: Scorer, path: Path) -> dict[str, Path]:
    """The roles that a file fills by its name, or a folder by its contents."""
    known = {}
    for need in scorer.needs:
        for name in need.names:
            if path.name == name and path.is_dir() == need.folder:
                known[need.role] = path
            elif path.is_dir() and (path / name).exists():
                known.setdefault(need.role, path / name)
    return known


def _there(path: Path, scorer: Scorer) -> Path:
    if not path.exists():
        raise InputError(
            f"There is nothing at {path}; name the file or folder of {scorer.name}'s weights."
        )
    return path


def needed(scorer: Scorer, given: Iterable[str] = ()) -> dict[str, Path]:
    """Role -> path of everything the scorer needs. InputError names what is missing and how to
    bring it."""
    known = known_weights(scorer) | matched(scorer, given)
    for need in scorer.needs:
        path = known.get(need.role)
        if path is None:
            raise InputError(
                f"{scorer.name} has no {need.role} yet ({need.about}); {remedy(scorer, need)}."
            )
        if not path.exists():
            raise InputError(
                f"The {need.role} of {scorer.name} is not at {path} any more; "
                f"{remedy(scorer, need)}."
            )
    return known


def remedy(scorer: Scorer, need: WeightFile) -> str:
    """What to type so that a missing file is known."""
    command = f"type `outvoted scorers weights {scorer.name} {need.role}=PATH`"
    if need.repository:
        return (
            f"{command}, or, to fetch it from the hub ({need.repository}), `outvoted "
            f"scorers weights {scorer.name} --download`"
        )
    return f"{command} (published at {need.published})" if need.published else command


def _said(need: WeightFile) -> str:
    return f"{need.role}: {need.about}" + (f", {need.names[0]}" if need.names else "")


def sha256_of(weights: Mapping[str, Path]) -> str:
    """One hash of all files: of the single file, or of the sorted roles' own hashes."""
    each = {
        f"{role}/{file.relative_to(path)}" if path.is_dir() else role: _file_hash(file)
        for role, path in weights.items()
        for file in ([path] if path.is_file() else sorted(path.rglob("*")))
        if file.is_file()
    }
    if len(each) == 1:
        return next(iter(each.values()))
    lines = "".join(f"{name} {each[name]}\n" for name in sorted(each))
    return hashlib.sha256(lines.encode()).hexdigest()


def _file_hash(path: Path) -> str:
    stat = path.stat()
    key, stamp = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
    notes = _notes("hashes.json")
    if notes.get(key, [])[:2] == stamp:
        return str(notes[key][2])
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    notes = _notes("hashes.json") | {key: [*stamp, digest.hexdigest()]}
    write_text_whole(home() / "hashes.json", json.dumps(notes) + "\n")
    return digest.hexdigest()


def _notes(name: str) -> dict[str, Any]:
    try:
        return dict(json.loads((home() / name).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def read_state(path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint by key. InputError where it is cut off or holds none."""
    try:
        return tensors.read_state(path)
    except ValueError as problem:
        raise InputError(str(problem)) from problem


def load_into(model: Any, state: Mapping[str, Any], path: Path, what: str) -> None:
    """Give `model` its weights. InputError naming the keys where they are another model's."""
    try:
        tensors.load_into(model, state, path, what)
    except ValueError as problem:
        raise InputError(str(problem)) from problem


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
        published = [name for name in wanted if name in there]
        if not need.folder:
            published = published[:1]
        paths = [hf_hub_download(need.repository, name, local_dir=folder) for name in published]
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
