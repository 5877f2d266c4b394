"""Writes the reference pages of the documentation from the code that they describe.

    python -m app.docs.reference

Command line, recipes, registries and columns are read from where they are defined, so that no page
can lag behind. `tests/test_docs.py` compares the pages with what this writes.
"""

import ast
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import typer
from pydantic import BaseModel

from toolkit.schema import meaning_of

FOLDER = Path(__file__).parent / "reference"


def command_line() -> str:
    """Every verb with its arguments and options."""
    from app.cli.main import VERBS, registered

    root: Any = typer.main.get_command(registered())
    lines = ["# Command line", "", "`outvoted VERB --help` says the same in a terminal.", ""]
    for step, verbs in VERBS.items():
        lines += [f"## {step}", ""]
        for name in verbs:
            context = typer.Context(root, info_name="outvoted")
            lines += _verb(root.get_command(context, name), context, name)
    return "\n".join(lines)


def _verb(command: Any, parent: Any, name: str) -> Iterator[str]:
    context = command.context_class(command, info_name=name, parent=parent)
    inner = command.list_commands(context) if hasattr(command, "list_commands") else []
    if not inner or command.invoke_without_command:
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        yield from [f"### {context.command_path}", "", f"    {usage}", ""]
        yield from [textwrap.dedent(command.help or "").strip(), ""]
        rows = [record for p in command.get_params(context) for record in _records(p, context)]
        if rows:
            yield from [*_table(("", ""), rows), ""]
    for below in inner:
        yield from _verb(command.get_command(context, below), context, below)


def _records(param: Any, context: Any) -> Iterator[tuple[str, str]]:
    if param.name == "help":
        return
    record = param.get_help_record(context)
    if record is None:  # arguments of click have no record of their own
        record = (param.make_metavar(context), getattr(param, "help", None) or "")
    yield f"`{record[0]}`", record[1]


def recipe() -> str:
    """Every key of a recipe, section by section."""
    from training.objectives import OBJECTIVES
    from training.recipe import Recipe

    lines = [
        "# Recipes",
        "",
        "The keys of a recipe, which `outvoted train`, `cache`, `plan` and `probe` read. Sections "
        "are nested: `backbone: {lora: {rank: 16}}`.",
        "",
    ]
    seen: set[type[BaseModel]] = set()
    lines += _section(Recipe, "", seen)
    for name, kind in OBJECTIVES.items():
        lines += _section(kind, f"objective: {name}", seen)
    return "\n".join(lines)


def _section(kind: type[BaseModel], path: str, seen: set[type[BaseModel]]) -> Iterator[str]:
    if kind in seen:
        return
    seen.add(kind)
    about = inspect.cleandoc(kind.__doc__ or "")
    yield from [f"## {path or 'Top level'}", "", about, ""]
    rows, below = [], []
    for name, field in kind.model_fields.items():
        sections = list(_sections(field.annotation))
        rows.append((f"`{name}`", _kind(field), _default(field), _about_key(kind, name, sections)))
        if name != "objective":
            below += [(section, f"{path}.{name}".lstrip(".")) for section in sections]
    yield from [*_table(("key", "kind", "default", "meaning"), rows), ""]
    for section, inner in below:
        yield from _section(section, inner, seen)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _sections(inner)


def _kind(field: Any) -> str:
    bounds = [
        f"{sign} {getattr(bound, attribute):,}"
        for bound in field.metadata
        for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
        if getattr(bound, attribute, None) is not None
    ]
    return ", ".join([_named(field.annotation), *bounds])


def _named(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is typing.Annotated:
        return _named(inner[0])
    if origin in (typing.Union, types.UnionType):
        names = [_named(kind) for kind in inner if kind is not type(None)]
        return " or ".join(dict.fromkeys(names)) + (" or null" if type(None) in inner else "")
    if origin in (tuple, list):
        return f"list of {_named(inner[0])}"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {"str": "text", "bool": "true or false", "float": "number", "int": "whole number"}.get(
        getattr(annotation, "__name__", ""), str(getattr(annotation, "__name__", annotation))
    )


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_none=True)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_yaml, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _about_key(kind: type[BaseModel], name: str, sections: list[type[BaseModel]]) -> str:
    """The string below a key, or the first sentence about the section that it opens."""
    for owner in kind.__mro__:
        if not issubclass(owner, BaseModel) or owner is BaseModel:
            break
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body  # type: ignore[attr-defined]
        for statement, after in zip(body, [*body[1:], None], strict=True):
            if not isinstance(statement, ast.AnnAssign) or ast.unparse(statement.target) != name:
                continue
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return " ".join(str(after.value.value).split())
    text = kind.model_fields[name].description or ""
    if not text and sections:
        text = inspect.cleandoc(sections[0].__doc__ or "").split("\n\n")[0]
    return " ".join(text.split())


def registries() -> str:
    """Sources, label makers, scorers, objectives and formats."""
    from toolkit.export import FORMATS
    from toolkit.ingest import SOURCES
    from toolkit.labels import LABEL_MAKERS
    from toolkit.scoring import SCORERS
    from training.objectives import OBJECTIVES

    parts: list[tuple[str, str, Iterable[tuple[str, str]]]] = [
        ("Sources", "`outvoted ingest SOURCE`", ((s.name, s.about) for s in SOURCES.values())),
        (
            "Label makers",
            "`outvoted labels MAKER`",
            ((m.name, m.summary) for m in LABEL_MAKERS.values()),
        ),
        ("Scorers", "`outvoted score --scorer`", ((s.name, s.about) for s in SCORERS.values())),
        (
            "Objectives",
            "`objective: {name: ...}` in a recipe",
            ((name, _first(kind.__doc__)) for name, kind in OBJECTIVES.items()),
        ),
        ("Formats", "`outvoted export --format`", ((f.name, f.summary) for f in FORMATS.values())),
    ]
    lines = ["# Sources, labels, scorers, objectives, formats", ""]
    for title, where, rows in parts:
        named = [(f"`{name}`", about) for name, about in rows]
        lines += [f"## {title}", "", f"{where}:", "", *_table(("name", "what"), named), ""]
    return "\n".join(lines)


def detectors() -> str:
    """Every detector: formula, direction, assumption, source, and what its table contains."""
    from analysis.detectors import DETECTORS

    lines = [
        "# Detectors",
        "",
        "`outvoted analyze` runs every detector whose needs are met and stores its table as a "
        "finding. Conditions, views and recipes name a column FINDING.COLUMN.",
        "",
    ]
    for finding, detector in DETECTORS.items():
        windows = "; computed for every window of the run" if detector.windows else ""
        lines += [f"## {finding}", "", f"Needs {', '.join(detector.needs)}{windows}.", ""]
        for score in detector.scores:
            lines += [
                f"**{score.name}** (column `{score.column}`, {score.direction} is suspicious): "
                f"{score.formula}. Assumes: {score.assumption}. Source: {score.source}.",
                "",
            ]
    return "\n".join(lines)


def store_format() -> str:
    """The tables of a store, column by column."""
    from toolkit import recorder, schema
    from toolkit.store import label_sets, scores, verdicts

    tables = {
        "pairs": schema.PAIRS,
        "axes": schema.AXES,
        "images": schema.IMAGES,
        "thumbnails": schema.THUMBNAILS,
        "votes": schema.VOTES,
        "quarantine": schema.QUARANTINE,
        "label sets": label_sets.LABELS,
        "scores": scores.SCORES,
        "verdicts": verdicts.VERDICTS,
        "trajectory": recorder.TRAJECTORY,
    }
    lines = ["# Store format", "", "A store is a folder of Parquet parts and JSON documents.", ""]
    for name, table in tables.items():
        rows = [(f"`{field.name}`", _arrow(field), meaning_of(field)) for field in table]
        lines += [f"## {name}", "", *_table(("column", "type", "meaning"), rows), ""]
    return "\n".join(lines)


def _arrow(field: pa.Field) -> str:
    return f"{field.type}{'' if field.nullable else ', never null'}"


def _first(text: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    body = [
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
        for row in rows
    ]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body]


PAGES: dict[str, Callable[[], str]] = {
    "command-line.md": command_line,
    "recipes.md": recipe,
    "registries.md": registries,
    "detectors.md": detectors,
    "store-format.md": store_format,
}
"""File -> what writes it."""


def page(name: str) -> str:
    """A reference page as it is on the disk."""
    note = "<!-- Written by `python -m app.docs.reference`; edit the code that it describes. -->"
    return f"{note}\n\n{PAGES[name]().rstrip()}\n"


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        (FOLDER / name).write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
