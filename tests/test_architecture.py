"""The house: which package imports which, read from the sources."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tfplaces"


def room(module: str) -> str:
    """The package, or the module at the root, that a module belongs to: `layers` of `tfplaces.layers.netvlad`."""
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    """The modules of this library that a file imports, inside functions as well; not for type checkers alone."""
    found, only_types = set(), set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            only_types |= {id(inner) for inner in ast.walk(node)}
        elif id(node) in only_types:
            continue
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return {name for name in found if name.split(".")[0] == "tfplaces"}


@pytest.fixture(scope="module")
def rooms() -> dict[str, set[str]]:
    """What each package or module at the root imports of the others."""
    graph: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        own = room(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
        if own != "__init__":  # the public face, which imports lazily
            graph.setdefault(own, set()).update({room(name) for name in imported(path)} - {own, "version"})
    return graph


def test_nothing_imports_in_a_circle(rooms: dict[str, set[str]]) -> None:
    list(graphlib.TopologicalSorter(rooms).static_order())  # raises CycleError, which names the circle


def test_the_house_is_as_build_md_shows_it(rooms: dict[str, set[str]]) -> None:
    """Every package stands in the table, and imports only what stands in its own row or below."""
    page = (PACKAGE.parent / "BUILD.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1] for row in page.split("| package |")[1].split("\n\n")[0].splitlines()[2:]]
    floor = {
        name.removeprefix("tfplaces/").removesuffix(".py"): len(rows) - k
        for k, row in enumerate(rows)
        for name in row.replace("`", "").replace(" ", "").split(",")
    }
    assert rooms.keys() - {"version"} <= floor.keys()
    assert not [f"{own} imports {other}" for own in floor for other in rooms.get(own, ()) if floor[other] > floor[own]]


def test_nothing_imports_the_tools(rooms: dict[str, set[str]]) -> None:
    assert not [name for name, others in rooms.items() if "tools" in others]


def test_only_what_stands_above_imports_what_opens_any_file(rooms: dict[str, set[str]]) -> None:
    assert {name for name, others in rooms.items() if "opening" in others} <= {"benchmarks", "workflows"}


def test_the_coder_imports_nothing_but_numpy() -> None:
    names = {
        name.split(".")[0] if isinstance(node, ast.Import) else name
        for path in (PACKAGE / "coding").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module])
    }
    own = ("tfplaces.coding", "tfplaces.common", "tfplaces.version")
    foreign = {name.split(".")[0] for name in names if not name.startswith(own)}
    import sys

    assert foreign - set(sys.stdlib_module_names) == {"numpy"}


def test_no_function_shadows_its_module() -> None:
    shadowed = []
    for path in PACKAGE.rglob("__init__.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                shadowed += [f"{node.module}.{n.name}" for n in node.names if node.module.split(".")[-1] == n.name]
    assert shadowed == []


def test_no_two_test_files_have_one_name() -> None:
    """Without packages of tests pytest takes one for the other."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
