"""The product's source files, parsed once."""

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("toolkit", "training", "analysis", "app", "data_cards")
"""The top-level packages of the product; root files (`outvoted.py`) are modules of their own."""


@dataclass(frozen=True)
class Source:
    """A module of the product."""

    path: str
    """Relative to the project, with slashes."""
    text: str = field(repr=False)
    tree: ast.Module = field(repr=False)

    @property
    def package(self) -> str:
        """Its top-level package; for a root file, the file's own name."""
        return self.path.split("/")[0]

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())


@cache
def sources() -> tuple[Source, ...]:
    """Every Python module outside tests/, in order of path."""
    paths = [p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))]
    paths = [*sorted(ROOT.glob("*.py")), *paths]
    return tuple(
        Source(path.relative_to(ROOT).as_posix(), text, ast.parse(text))
        for path in paths
        for text in [path.read_text(encoding="utf-8")]
    )


def functions(source: Source) -> list[tuple[str, int]]:
    """Every function and method of a module with its length in lines, decorators left out."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(source.tree) if isinstance(node, kinds)]
    return [(node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in nodes]


def docstrings(source: Source) -> list[str]:
    """The docstrings of a module, its classes, functions and documented attributes."""
    strings = []
    for node in ast.walk(source.tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                strings.append(value.value)
    return strings


def sentences(source: Source) -> list[str]:
    """Every string of a module, docstrings too; `{...}` stands in for a formatted value."""
    inside = {
        id(part)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    strings = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else "{...}" for p in node.values]
            strings.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and id(node) not in inside:
            strings += [node.value] if isinstance(node.value, str) else []
    return strings
