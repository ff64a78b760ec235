"""The floors of docs/architecture.md, read from every import: downward only, no siblings, no cycles.

Also where trio and pamqp may be imported. Imports that only a type checker runs count for the floors, because they tie
modules together just as much; they make no cycle, because two classes of one floor may know each other by type.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import amqp_broker

PACKAGE = "amqp_broker"
ROOT = Path(amqp_broker.__file__).parent

FLOORS = {
    "__init__": 0,
    "behaviour": 0,
    "compilation": 0,
    "errors": 0,
    "explanations": 0,
    "settings": 0,
    "logs": 1,
    "wire": 1,
    "journal": 1,
    "etcd": 1,
    "access": 2,
    "broker": 3,
    "session": 4,
    "plugins": 4,
    "protocols": 5,
    "network": 6,
    "server": 7,
    "management": 8,
    "cluster": 8,
    "testing": 9,
    "cli": 9,
    "__main__": 10,
}
TRIO_FLOOR_MIN = 6
PAMQP_MODULES = {f"{PACKAGE}.wire.methods"}


def module_name(path: Path) -> str:
    parts = (PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def room(module: str) -> str:
    """The file or folder directly below the package that a module lives in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def floor(module: str) -> int:
    return FLOORS[room(module)]


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def statements(node: ast.AST, *, at_run_time_only: bool) -> Iterator[ast.AST]:
    """Everything below a node; without the blocks that only a type checker reads, when asked."""
    for child in ast.iter_child_nodes(node):
        if not (at_run_time_only and is_for_type_checkers(child)):
            yield child
            yield from statements(child, at_run_time_only=at_run_time_only)


def imports(module: str, *, at_run_time_only: bool = False) -> Iterator[str]:
    """The full names that a module imports, wherever in the file the statement stands."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in statements(tree, at_run_time_only=at_run_time_only):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join([*base, origin] if origin else base)
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                yield full if full in MODULES else origin


def imports_within_package(module: str, *, at_run_time_only: bool = False) -> set[str]:
    names = imports(module, at_run_time_only=at_run_time_only)
    return {name for name in names if name == PACKAGE or name.startswith(f"{PACKAGE}.")}


def imports_package(module: str, package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in imports(module))


def test_every_module_has_a_floor() -> None:
    assert MODULES, "no module found"
    assert {room(module) for module in MODULES} <= FLOORS.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_down(module: str) -> None:
    wrong = [
        name
        for name in sorted(imports_within_package(module))
        if room(name) != room(module) and floor(name) >= floor(module)
    ]
    assert not wrong, f"{module} (floor {floor(module)}) imports {wrong}"


@pytest.mark.parametrize("module", [module for module in MODULES if floor(module) < TRIO_FLOOR_MIN])
def test_trio_is_imported_from_the_network_up_only(module: str) -> None:
    assert not imports_package(module, "trio")


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) == "network"])
def test_the_network_knows_neither_a_protocol_nor_the_broker(module: str) -> None:
    rooms = {room(name) for name in imports_within_package(module)}
    assert not rooms & {"wire", "broker", "session", "protocols"}


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) == "session"])
def test_what_every_protocol_shares_knows_none(module: str) -> None:
    assert "wire" not in {room(name) for name in imports_within_package(module)}


@pytest.mark.parametrize("module", [module for module in MODULES if module not in PAMQP_MODULES])
def test_pamqp_is_imported_by_one_module_only(module: str) -> None:
    assert not imports_package(module, "pamqp")


def test_no_import_cycles() -> None:
    graph = {
        module: imports_within_package(module, at_run_time_only=True) & MODULES.keys() - {module} for module in MODULES
    }
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for imported in sorted(graph[module]):
                walk(imported, (*way, module))
            done.add(module)

    for module in MODULES:
        walk(module, ())
