"""The house: rooms of a size that one can look over, no loose module, no circle, one default, no private words."""

import ast
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "worldmodel"
MOST_FILES = 12  # in one folder
LOOSE = {
    "__init__.py",
    "__main__.py",
    "api.py",
    "info.py",
    "interfaces.py",
    "state.py",
    "world.py",
}  # about the product itself
PRIVATE = {  # words that had a meaning of their own in this code; the field has others
    *("told", "untold", "eyes", "tape", "tally", "belonging", "located", "blaming", "foretell", "halvings"),
    *("keep_variance", "use_codebook", "drawn_at", "comes_along", "own_beginning", "packed_weights", "_roughen"),
}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = sorted(HOUSE.rglob("*.py"))
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def imports(path: Path, known: set[str]) -> Iterator[str]:
    """The modules of the package that a file imports, anywhere in it, but for types alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for each in node.names:
                below = f"{node.module}.{each.name}"
                yield below if below in known else node.module


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that reach each other (Tarjan 1972, by two passes)."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(name: str, edges: dict[str, set[str]], found: list[str]) -> None:
        stack = [(name, iter(sorted(edges[name])))]
        seen.add(name)
        while stack:
            top, rest = stack[-1]
            if (after := next((each for each in rest if each not in seen), None)) is None:
                found.append(top)
                stack.pop()
            else:
                seen.add(after)
                stack.append((after, iter(sorted(edges[after]))))

    for name in graph:
        if name not in seen:
            visit(name, graph, order)
    backwards = {name: {other for other in graph if name in graph[other]} for name in graph}
    seen.clear()
    groups = []
    for name in reversed(order):
        if name not in seen:
            visit(name, backwards, group := [])
            groups.append(set(group))
    return [group for group in groups if len(group) > 1]


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "e"}, "e": set()}
    assert circles(graph) == [{"a", "b", "c"}] and not circles({"a": {"b"}, "b": set()})


def test_no_module_imports_one_that_imports_it_also_not_within_a_function():
    known = modules()
    graph = {name: set(imports(path, set(known))) - {name} for name, path in known.items()}
    graph["worldmodel"] = set()  # the package itself looks up its public classes when they are asked for
    assert not circles(graph), circles(graph)


def test_no_folder_has_more_files_than_one_can_look_over():
    folders = {path.parent for path in HOUSE.rglob("*.py")}
    sizes = {str(folder.relative_to(ROOT)): len(list(folder.glob("*.py"))) - 1 for folder in folders}
    assert not {name: size for name, size in sizes.items() if size > MOST_FILES}


def test_no_loose_module_stands_at_the_top_of_the_package():
    assert {path.name for path in HOUSE.glob("*.py")} <= LOOSE


@pytest.mark.parametrize("room", ["worldmodel", "envs", "scripts"])
def test_no_name_is_of_the_private_language(room):
    found = {}
    for path in sorted((ROOT / room).rglob("*.py")):
        with path.open("rb") as file:
            names = {token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.NAME}
        if words := names & PRIVATE:
            found[str(path.relative_to(ROOT))] = sorted(words)
    assert not found
