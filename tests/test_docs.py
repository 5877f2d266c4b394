"""What the project's texts show is what there is: commands, options, code, recipes, columns.

Checked are README.md, CONTRIBUTING.md, the data cards, and the commands and code that docstrings
and messages show. A fenced block of shell is parsed against the command `outvoted`, Makefile and
modules; one of Python is compiled, and its imports and the names taken from them must exist; one
of YAML must load, and must be a recipe where it has an objective.
"""

import ast
import builtins
import importlib
import importlib.util
import re
import shlex
import textwrap
import tomllib
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pytest
import typer
import yaml
from pydantic import BaseModel

from app.cli.main import registered
from app.docs.reference import FOLDER, PAGES, page
from tests.house.sources import ROOT, docstrings, sentences, sources
from toolkit.schema import meaning_of

TEXTS = [
    path
    for pattern in ("README.md", "CONTRIBUTING.md", "data_cards/*.md", "app/docs/*.md")
    for path in sorted(ROOT.glob(pattern))
]
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
YOURS = "mine"
"""What a text calls a thing that its reader adds: `outvoted labels mine STORE`."""
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*|\{\.\.\.\}|\.\.\.")


class Block(NamedTuple):
    """A fenced block of a text."""

    where: str
    language: str
    body: str


@cache
def blocks() -> tuple[Block, ...]:
    return tuple(
        Block(f"{path.name}, block {k}", match[1], match[2])
        for path in TEXTS
        for k, match in enumerate(_FENCE.finditer(path.read_text(encoding="utf-8")), 1)
    )


@cache
def command() -> Any:
    return typer.main.get_command(registered())


def subcommands(at: Any) -> dict[str, Any]:
    """The verbs of a group, also those that it makes when it is asked; none where it is a verb."""
    if not hasattr(at, "list_commands"):
        return {}
    context = at.context_class(at)
    return {name: at.get_command(context, name) for name in at.list_commands(context)}


def verbs(at: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb: ("flip",), ("labels", "vote") ..."""
    inner = subcommands(at)
    if not inner or (words and at.invoke_without_command):
        yield words
    for name, verb in inner.items():
        yield from verbs(verb, (*words, name))


def parameters(verb: Any) -> list[Any]:
    return list(verb.get_params(verb.context_class(verb)))


def options(at: Any) -> set[str]:
    """The options of a verb; those of all its verbs for a group, as in `outvoted ingest KIND`."""
    own = {name for p in parameters(at) for name in (*p.opts, *p.secondary_opts)}
    return own.union({"--help"}, *(options(verb) for verb in subcommands(at).values()))


def problems(line: str) -> list[str]:
    """What is wrong with a line that calls `outvoted`: an unknown verb or option."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a lone apostrophe of a text that goes beyond the command
        words = line.split()
    at = command()
    calls = [k for k, word in enumerate(words) if re.fullmatch(r"(.*/)?outvoted\)?", word)]
    words = words[calls[0] + 1 :] if calls else words
    for word in list(words):
        inner = subcommands(at)
        if not inner or word.startswith("-") or _PLACEHOLDER.match(word) or word == YOURS:
            break
        if word not in inner:
            if at.invoke_without_command:
                break
            return [f"no verb {word!r} in {line!r}"]
        at = inner[word]
        words.pop(0)
    if words and words[0] == YOURS:
        return []
    every = options(at)
    asked = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [f"{at.name} has no option {name} in {line!r}" for name in asked if name not in every]


def shell_problems(line: str) -> list[str]:
    """What is wrong with a line of shell: verb, option, make target, module or extra."""
    if re.search(r"(^|[/ ])outvoted(\)| |$)", line):
        return problems(line)
    if target := re.match(r"make ([a-z-]+)", line):
        made = (ROOT / "Makefile").read_text(encoding="utf-8")
        exists = re.search(rf"^{target[1]}:", made, re.MULTILINE)
        return [] if exists else [f"no make target {target[1]!r}"]
    if module := re.match(r"python -m (\S+)", line):
        return [] if is_module(module[1]) else [f"no module {module[1]}"]
    if extra := re.match(r"pip install '?\.\[(\w+)\]", line):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        extras = project["project"]["optional-dependencies"]
        return [] if extra[1] in extras else [f"no extra {extra[1]}"]
    return []


def looks_like_shell(body: str) -> bool:
    return bool(re.search(r"^(outvoted|make|python -m|pip install|accelerate launch) ", body, re.M))


def python_problems(body: str, known: frozenset[str] = frozenset()) -> list[str]:
    """What is wrong with Python code: its syntax, an import, a name of a module, a lost name.

    A name that is called and that nothing in the code, in `known` or in builtins gives is lost.
    """
    try:
        tree = ast.parse(body)
    except SyntaxError as problem:
        return [f"{problem.msg}: {(problem.text or '').strip()!r}"]
    modules: dict[str, Any] = {}
    names = set(known) | set(dir(builtins))
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                names.add(name)
                try:
                    module = importlib.import_module(alias.name)
                except ImportError as problem:
                    wrong.append(str(problem))
                    continue
                modules[name] = module if alias.asname else importlib.import_module(name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name for alias in node.names}
            try:
                module = importlib.import_module(node.module)
            except ImportError as problem:
                wrong.append(str(problem))
                continue
            wrong += [
                f"{node.module} has no {alias.name}"
                for alias in node.names
                if not hasattr(module, alias.name) and not is_module(f"{node.module}.{alias.name}")
            ]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module is not None and not hasattr(module, node.attr):
                wrong.append(f"{node.value.id} has no {node.attr}")
        function = node.func if isinstance(node, ast.Call) else None
        if isinstance(function, ast.Name) and function.id not in names:
            wrong.append(f"nothing gives {function.id}()")
    return wrong


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def yaml_problems(body: str) -> list[str]:
    try:
        raw = yaml.safe_load(body)
    except yaml.YAMLError as problem:
        return [str(problem)]
    if isinstance(raw, dict) and "objective" in raw:
        from toolkit.errors import RecipeError
        from training.recipe import parse_recipe

        try:
            parse_recipe(raw)
        except RecipeError as problem:
            return [str(problem)]
    return []


def test_checks_find_what_is_wrong() -> None:
    assert shell_problems("outvoted flipp S") == ["no verb 'flipp' in 'outvoted flipp S'"]
    assert shell_problems("outvoted flip S --rat 0.2") == [
        "flip has no option --rat in 'outvoted flip S --rat 0.2'"
    ]
    assert shell_problems("make dmeo") == ["no make target 'dmeo'"]
    assert shell_problems("python -m tests.nowhere") == ["no module tests.nowhere"]
    assert python_problems("from toolkit.recorder import folder_of") == [
        "toolkit.recorder has no folder_of"
    ]
    assert python_problems("import toolkit.recorder as r\nr.folder_of()") == ["r has no folder_of"]
    assert python_problems("folder_of(store)") == ["nothing gives folder_of()"]
    assert python_problems("x = ") == ["invalid syntax: 'x ='"]
    assert yaml_problems("a: [") != []
    assert yaml_problems("{objective: {name: nine}}")[0].startswith("The recipe has")


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.where)
def test_a_fenced_block_shows_what_there_is(block: Block) -> None:
    if block.where.startswith("CONTRIBUTING.md") and block.language == "python":
        pytest.skip("tests/test_contributing.py runs it")
    if block.language == "python":
        assert python_problems(block.body) == []
    elif block.language in ("yaml", "yml"):
        assert yaml_problems(block.body) == []
    elif block.language in ("", "sh", "bash", "shell") and looks_like_shell(block.body):
        lines = block.body.replace("\\\n", " ").splitlines()
        assert [wrong for line in lines for wrong in shell_problems(line.strip())] == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_commands_within_sentences_exist(path: Path) -> None:
    prose = _FENCE.sub("", path.read_text(encoding="utf-8"))
    spans = _CODE.findall(prose)
    everywhere = {o for words in verbs(command()) for o in options(verb_of(words))}
    wrong = [wrong for span in spans for wrong in shell_problems(span)]
    wrong += [
        f"no verb has an option {span.split()[0]}"
        for span in spans
        if span.startswith("--") and re.split(r"[ =]", span)[0] not in everywhere | FOREIGN
    ]
    assert wrong == []


FOREIGN = {"--multi_gpu", "--num_processes"}
"""Options of `accelerate launch`, which README names too."""


def verb_of(words: tuple[str, ...]) -> Any:
    at = command()
    for word in words:
        at = subcommands(at)[word]
    return at


def test_every_verb_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    sources_table = re.findall(r"^\| `([a-z-]+)`", readme, re.MULTILINE)
    missing = {
        " ".join(words)
        for words in verbs(command())
        if not re.search(rf"(outvoted|`){' '.join(('', *words)).strip('`')}\b", readme)
        and not re.search(rf"`{' '.join(words)}[ `]", readme)
        and not (words[0] == "ingest" and words[-1] in sources_table)
    }
    assert missing == set()


def test_every_verb_and_option_says_what_it_does() -> None:
    silent = []
    for words in verbs(command()):
        verb = verb_of(words)
        if not verb.help:
            silent.append(" ".join(words))
        for parameter in parameters(verb):
            if parameter.param_type_name == "option" and not parameter.help:
                silent.append(f"{' '.join(words)} {parameter.opts[0]}")
    assert silent == []


def test_commands_that_messages_and_docstrings_show_exist() -> None:
    """The next thing to type, as errors say it: `outvoted check STORE --repair`."""
    shown = [
        (source.path, " ".join(span.split()))
        for source in sources()
        for text in sentences(source)
        for span in re.findall(r"`(outvoted [^`]+)`", text)
    ]
    assert len(shown) > 50
    assert [(path, wrong) for path, span in shown for wrong in problems(span)] == []


def examples(text: str) -> list[str]:
    """The indented blocks of a docstring that are Python with a call, and more than one line."""
    code = []
    for block in re.findall(r":\n\n((?:(?: {4,}[^\n]*)?\n)+)", textwrap.dedent(f"    {text}\n")):
        body = textwrap.dedent(block).strip("\n").replace(">>> ", "")
        try:
            tree = ast.parse(body)
        except SyntaxError:
            continue
        if any(isinstance(node, ast.Call) for node in ast.walk(tree)):
            code.append(body)
    return code


def test_code_that_docstrings_show_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names may come from the module that shows the code; workers import their neighbours."""
    monkeypatch.syspath_prepend(str(ROOT / "toolkit" / "scoring" / "workers"))
    shown = [
        (source.path, example)
        for source in sources()
        for text in docstrings(source)
        for example in examples(text)
    ]
    assert len(shown) >= 1
    wrong = [
        (path, problem)
        for path, example in shown
        for problem in python_problems(example, known=names_of(path))
    ]
    assert wrong == []


def names_of(path: str) -> frozenset[str]:
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return frozenset(dir(importlib.import_module(module)))


ONE_SENTENCE = {"toolkit.miniworld.world.TRUTH_SCHEMA"}
"""Schemas that are described as a whole, in the string below them."""


def schemas() -> list[tuple[str, pa.Schema]]:
    """Every Arrow schema that a module names in capitals; what workers are sent is not stored."""
    named = []
    for source in sources():
        module = source.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for node in source.tree.body:
            if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
                continue
            name = f"{module}.{ast.unparse(node.targets[0])}"
            inner = "._" in name or module.startswith("toolkit.scoring.workers")
            if ast.unparse(node.value.func) == "pa.schema" and not inner:
                schema = getattr(importlib.import_module(module), name.rpartition(".")[2])
                named += [] if name in ONE_SENTENCE else [(name, schema)]
    return named


def test_every_column_says_what_it_means() -> None:
    every = schemas()
    assert len(every) > 5
    assert any("TRAJECTORY" in name for name, _ in every)
    silent = [
        f"{name}: {field.name}"
        for name, schema in every
        for field in schema
        if not meaning_of(field)
    ]
    assert silent == []


def recipe_keys(section: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    """Every key of a recipe whose meaning is written nowhere: SECTION.KEY."""
    if section in seen:
        return
    seen.add(section)
    for name, field in section.model_fields.items():
        if not described(section, name):
            yield f"{section.__name__}.{name}"
        for kind in kinds_of(field.annotation):
            yield from recipe_keys(kind, seen)


def kinds_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from kinds_of(inner)


def described(section: type[BaseModel], name: str) -> bool:
    """By a string under the key, in the class's docstring, or by the section that it opens.

    `name` of an objective is the name itself.
    """
    field = section.model_fields[name]
    if field.description or f"`{name}`" in (section.__doc__ or ""):
        return True
    if any(kind.__doc__ for kind in kinds_of(field.annotation)):
        return True
    if (
        typing.get_origin(field.annotation) is Literal
        and len(typing.get_args(field.annotation)) == 1
    ):
        return True
    for kind in section.__mro__:
        source = source_of(kind)
        if source is None:
            continue
        body = source.body
        for statement, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == name:
                return (
                    isinstance(after, ast.Expr)
                    and isinstance(after.value, ast.Constant)
                    and isinstance(after.value.value, str)
                )
    return False


@cache
def source_of(kind: type) -> ast.ClassDef | None:
    for source in sources():
        module = source.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if module == kind.__module__:
            for node in ast.walk(source.tree):
                if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
                    return node
    return None


def test_every_key_of_a_recipe_says_what_it_means() -> None:
    from training.recipe import Recipe

    assert list(recipe_keys(Recipe, set())) == []


def test_every_detector_says_what_it_is() -> None:
    from analysis.detectors import scores

    assert len(scores()) > 10
    silent = [
        name
        for name, (_, score) in scores().items()
        if not (score.formula and score.assumption and score.source)
    ]
    assert silent == []


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == page(name), "type `make docs`"


def test_the_reference_names_every_option_key_detector_and_column() -> None:
    every = {name: page(name) for name in PAGES}
    for words in verbs(command()):
        assert f"### outvoted {' '.join(words)}\n" in every["command-line.md"]
    from analysis.detectors import scores

    for name, (_, score) in scores().items():
        assert f"**{name}** (column `{score.column}`" in every["detectors.md"]
    for name, schema in schemas():
        if name.startswith(("toolkit.schema.", "toolkit.recorder.", "toolkit.store.scores.")):
            for field in schema:
                assert f"| `{field.name}` | {field.type}" in every["store-format.md"]


def test_the_map_of_the_code_is_the_tree_that_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.split("## Map of the code")[1].split("```")[1]
    folders: list[Path] = []
    named = set()
    for line in block.strip().splitlines():
        names = re.match(r"( *)((?:[\w/]+(?:\.py|/) ?)+)", line)
        if names is None:
            continue  # a description that continues
        depth = len(names[1]) // 2
        for name in names[2].split():
            path = Path(*folders[:depth], name)
            assert (ROOT / path).exists(), f"the map names {path}, which is not there"
            named.add(path.parts[0])
            if name.endswith("/"):
                folders = [*folders[:depth], Path(name)]
    assert named >= {"outvoted.py", "toolkit", "training", "analysis", "app", "data_cards", "tests"}
