"""Random command lines of every verb that neither serves, downloads nor trains."""

import io
import os
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import typer.main

from app.cli.main import main, registered

LEFT_OUT = ("app", "demo", "scorers", "score", "evaluate", "plan", "cache", "train", "resume")
"""They serve, download or need torch; what they parse is refused or not before that."""
_NUMBERS = ("nan", "inf", "-inf", "-1", "1e400", "9" * 5000, "0x10", "", "½", "1_0", "2.5.1")
_IMPOSSIBLE = {number for number in _NUMBERS if number != "1_0"}
_TEXTS = ("", "\udcff", "\x1b[31m", "../../x", "a" * 300, "🐈", "-", "--", "%s", "{}", "*", "NUL")
_CONDITIONS = ("minority > nan", "label = 1 and", "select 1", "(" * 300, 'prompt = "\udcff"', "x")
_HOSTILE = (*_TEXTS, *_CONDITIONS, "/dev/null", "/proc/self/mem", "/root/none", "s3:/x", "a\nb")


def random_commands(seed: int, number: int) -> Iterator[tuple[list[str], bool]]:
    """`number` command lines over a store named STORE and files named FILE, and whether a number
    in it is one that no option takes."""
    rng = random.Random(seed)
    verbs = list(_verbs(typer.main.get_command(registered()), ()))
    for _ in range(number):
        path, command = rng.choice(verbs)
        words, impossible = list(path), False
        for param in command.get_params(typer.Context(command)):
            if param.param_type_name == "argument":
                words.append(_argument(rng, param.name))
            elif param.name != "help" and (param.required or rng.random() < 0.25):
                words.append(param.opts[0])
                if not param.is_flag:
                    words.append(_value(rng, param))
                    record = param.get_help_record(typer.Context(command)) or ("", "")
                    number_wanted = "<int" in record[0] or "<float" in record[0]
                    impossible |= number_wanted and words[-1] in _IMPOSSIBLE
        if rng.random() < 0.05:
            words.insert(rng.randrange(len(words) + 1), rng.choice(_HOSTILE))
        yield words, impossible


def _verbs(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    context = typer.Context(command)
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    for name in command.list_commands(context):
        if path or name not in LEFT_OUT:
            yield from _verbs(command.get_command(context, name), (*path, name))


def _argument(rng: random.Random, name: str) -> str:
    if name == "store" and rng.random() < 0.9:
        return "STORE"
    return rng.choice(("FILE", "FOLDER", "STORE", "nowhere", *_HOSTILE))


def _value(rng: random.Random, param: Any) -> str:
    name = param.opts[0].strip("-")
    if name == "store" and rng.random() < 0.9:
        return "STORE"
    usual = {
        "run": ("r", "q"),
        "labels": ("original", "flip20", "x"),
        "base": ("original", "flip20"),
        "name": ("new", "flip20"),
        "out": ("OUT", "OUT/deep/er", "STORE"),
        "format": ("pickapic", "weights", "x"),
        "window": ("late", "all"),
        "shard": ("0/2", "2/2", "-1/0", "9" * 400 + "/2"),
        "finding": ("minority", "cartography"),
        "where": ("label = 1", "minority > 0.1"),
        "drop": ("minority > 0.9",),
    }.get(name, ("1", "0", "0.5", "2", "x"))
    return rng.choice(usual if rng.random() < 0.6 else (*_NUMBERS, *_HOSTILE))


def attack_command(base: Path, words: list[str], impossible: bool) -> str:
    """ "done", or "refused" with a sentence and status 1 or 2; runs in a folder of its own."""
    folder = base.with_name("attacked")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base.parent / "files", folder)
    shutil.copytree(base, folder / "store")
    os.chdir(folder)
    names = {"STORE": "store", "FILE": "votes.csv", "FOLDER": ".", "OUT": "out"}
    for word, name in names.items():
        words = [each.replace(word, name) for each in words]
    sys.argv = ["outvoted", *words]
    out, err = io.StringIO(), io.StringIO()
    status: Any = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            status = ended.code
    said = err.getvalue()
    if status in (0, None):
        return "SILENT" if impossible else "done"
    if status == 2 and "Usage:" in said:
        return "refused"
    if status == 1 and (said.startswith("outvoted: ") or words[0] == "check"):
        return "refused"
    raise AssertionError(f"status {status}: {said[-600:]} {out.getvalue()[-300:]}")
