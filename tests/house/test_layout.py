"""The size and the cut of the code: names, lengths, printing, imports."""

import ast
from collections import Counter
from pathlib import PurePosixPath

import grimp

from tests.house import exceptions
from tests.house.sources import Source, functions, sources

MODULES = 200
LINES = 30_000
MODULE_LINES = 450
FUNCTION_LINES = 60

PLUGINS = {
    "app/cli": "a group of verbs a file, named after the verbs",
    "app/desk/views": "a page a file, named after the page",
    "app/desk/queries": "the reads of a page, named after the page",
    "toolkit/scoring/workers": "a worker a file, named after its environment",
}
"""Folders whose files are named after what a user types or sees, which other folders name too."""


def plugin(source: Source) -> bool:
    return str(PurePosixPath(source.path).parent) in PLUGINS


def imported(source: Source) -> set[str]:
    """The top-level names of all that a module imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_a_basename_occurs_once_in_a_package() -> None:
    named = Counter(
        (source.package, PurePosixPath(source.path).name)
        for source in sources()
        if not plugin(source) and not source.path.endswith("__init__.py")
    )
    assert {name for name, times in named.items() if times > 1} <= exceptions.BASENAMES


def test_the_project_stays_small() -> None:
    modules, lines = len(sources()), sum(source.lines for source in sources())
    assert modules <= max(MODULES, exceptions.MODULES)
    assert lines <= max(LINES, exceptions.LINES)


def test_a_module_is_one_concept() -> None:
    assert {s.path: s.lines for s in sources() if s.lines > MODULE_LINES} == {}


def test_a_function_fits_a_screen() -> None:
    long = {
        f"{source.path}:{name}": length
        for source in sources()
        for name, length in functions(source)
        if length > FUNCTION_LINES
    }
    assert set(long) <= exceptions.LONG_FUNCTIONS


def test_only_app_draws_on_the_terminal() -> None:
    """Library code takes a `progress`; it imports no rich and prints nothing."""
    library = [s for s in sources() if s.package in ("toolkit", "training", "analysis")]
    assert len(library) > 100
    drawing = {s.path for s in library if imported(s) & {"rich"}}
    assert drawing == set()
    prints = {
        source.path
        for source in library
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "print")
            or (isinstance(node.func, ast.Attribute) and node.func.attr == "print")
        )
    }
    assert prints == set()


def test_only_the_store_knows_databases() -> None:
    outside = [
        source.path
        for source in sources()
        if imported(source) & {"duckdb", "sqlite3"} and not source.path.startswith("toolkit/store/")
    ]
    assert outside == []


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            component = sorted(stack[at:])
            del stack[at:]
            if len(component) > 1:
                components.append(component)

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return components


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set()}) == [["a", "b", "c"]]


def test_no_modules_import_each_other() -> None:
    """Imports inside functions count too."""
    graph = grimp.build_graph("toolkit", "training", "analysis", "app")
    arrows = {name: set(graph.find_modules_directly_imported_by(name)) for name in graph.modules}
    assert len(arrows) > 100
    assert [circle for circle in circles(arrows) if circle not in exceptions.CIRCLES] == []
