"""The floors of docs/architecture.md, read from every import: downward only, no siblings, no cycles.

Siblings are the parts of one floor, and the protocols. Also where trio and pamqp may be imported. Imports that only a
type checker runs count, because they tie modules together just as much: a circle of them is allowed within the families
of classes that are named here, each with its reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import amqp_broker

PACKAGE = "amqp_broker"
ROOT = Path(amqp_broker.__file__).parent

FLOORS = {
    "__init__": 0,
    "behaviour": 0,
    "compilation": 0,
    "errors": 0,
    "explanations": 0,
    "feature_flags": 0,
    "settings": 0,
    "logs": 1,
    "settings_without_effect": 1,
    "wire": 1,
    "journal": 1,
    "etcd": 1,
    "access": 2,
    "broker": 3,
    "session": 4,
    "plugins": 4,
    "protocols": 5,
    "network": 6,
    "client": 6,
    "server": 7,
    "management": 8,
    "cluster": 8,
    "processes": 8,
    "testing": 9,
    "cli": 9,
    "__main__": 10,
}
# Modules whose classes know each other by type, and why they cannot but. Whatever is new here wants a reason as good.
CLASS_FAMILIES: dict[tuple[str, ...], str] = {
    (
        "broker.connections",
        "broker.host",
        "broker.observer",
        "broker.queues.base",
        "broker.queues.consumers",
        "broker.queues.single_active",
        "broker.queues.unacknowledged",
        "broker.shared",
    ): "a queue puts itself on the lists that its broker's parts share, has consumers that know it, and those who look "
    "on are told of queues, consumers and connections with what they hold of queues",
    (
        "broker.exchanges.binding",
        "broker.exchanges.bindings",
        "broker.exchanges.exchange",
        "broker.exchanges.matcher",
    ): "an exchange has bindings and a matcher; a binding names its exchange, and a matcher is told of both",
}
TRIO_FLOOR_MIN = 6
# The load of bench is a client of any broker: it does without our codec, as other clients do.
PAMQP_MODULES = {f"{PACKAGE}.wire.methods", f"{PACKAGE}.cli.load.link"}


def module_name(path: Path) -> str:
    parts = (PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def part(module: str) -> str:
    """The file or folder directly below the package that a module lives in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def floor(module: str) -> int:
    return FLOORS[part(module)]


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def statements(node: ast.AST, *, at_run_time: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every statement below a node, and whether it is one at run time, in no block that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):  # an expression has no statements
            is_at_run_time = at_run_time and not is_for_type_checkers(child)
            yield child, is_at_run_time
            yield from statements(child, at_run_time=is_at_run_time)


@cache
def imports(module: str, *, at_run_time_only: bool = False) -> frozenset[str]:
    """The full names that a module imports, wherever in the file the statement stands."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node, is_at_run_time in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if at_run_time_only and not is_at_run_time:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join([*base, origin] if origin else base)
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                found.add(full if full in MODULES else origin)
    return frozenset(found)


def imports_within_package(module: str, *, at_run_time_only: bool = False) -> set[str]:
    names = imports(module, at_run_time_only=at_run_time_only)
    return {name for name in names if name == PACKAGE or name.startswith(f"{PACKAGE}.")}


def imports_package(module: str, package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in imports(module))


def test_every_module_has_a_floor() -> None:
    assert MODULES, "no module found"
    assert {part(module) for module in MODULES} <= FLOORS.keys()


def test_imports_only_go_down() -> None:
    upward = {
        (module, name)
        for module in MODULES
        for name in imports_within_package(module)
        if part(name) != part(module) and floor(name) >= floor(module)
    }
    assert upward == set()


def protocol(module: str) -> str | None:
    """The folder of ``protocols/`` that a module lives in; None elsewhere."""
    parts = module.split(".")
    return parts[2] if parts[1:2] == ["protocols"] and len(parts) > 2 else None


def test_protocols_are_found() -> None:
    assert {protocol(module) for module in MODULES} >= {"amqp091", "amqp10", "mqtt", "stomp", "stream"}


def test_no_protocol_imports_another() -> None:
    across = {
        (module, name)
        for module in MODULES
        if part(module) == "protocols"
        for name in imports_within_package(module)
        if protocol(name) not in {None, protocol(module)}
    }
    assert across == set()


def test_trio_is_imported_from_the_network_up_only() -> None:
    assert {module for module in MODULES if imports_package(module, "trio") and floor(module) < TRIO_FLOOR_MIN} == set()


def importers(of: str, parts: set[str]) -> set[tuple[str, str]]:
    """What modules of this part import of those parts."""
    modules = [module for module in MODULES if part(module) == of]
    assert modules
    return {(module, name) for module in modules for name in imports_within_package(module) if part(name) in parts}


def test_the_network_knows_neither_a_protocol_nor_the_broker() -> None:
    assert importers("network", {"wire", "broker", "session", "protocols"}) == set()


def test_what_every_protocol_shares_knows_none() -> None:
    assert importers("session", {"wire"}) == set()


def test_pamqp_is_imported_where_it_may_be() -> None:
    assert {module for module in MODULES if imports_package(module, "pamqp")} <= PAMQP_MODULES


def circles(*, at_run_time_only: bool = False) -> set[frozenset[str]]:
    """Modules that import each other, in however many steps: the strongly connected components of all imports."""
    graph = {
        module: imports_within_package(module, at_run_time_only=at_run_time_only) & MODULES.keys() - {module}
        for module in MODULES
    }
    numbers: dict[str, int] = {}  # in the order in which they were come to (Tarjan's algorithm)
    lowest: dict[str, int] = {}  # that can be reached from there
    open_ones: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(module: str) -> None:
        numbers[module] = lowest[module] = len(numbers)
        open_ones.append(module)
        for imported in sorted(graph[module]):
            if imported not in numbers:
                visit(imported)
                lowest[module] = min(lowest[module], lowest[imported])
            elif imported in open_ones:
                lowest[module] = min(lowest[module], numbers[imported])
        if lowest[module] == numbers[module]:
            start = open_ones.index(module)
            component = frozenset(open_ones[start:])
            del open_ones[start:]
            if len(component) > 1:
                found.add(component)

    for module in MODULES:
        if module not in numbers:
            visit(module)
    return found


def test_no_module_imports_itself_at_run_time_in_however_many_steps() -> None:
    assert circles(at_run_time_only=True) == set()


def test_modules_know_each_other_by_type_only_within_a_class_family() -> None:
    families = {frozenset(f"{PACKAGE}.{name}" for name in names) for names in CLASS_FAMILIES}
    assert circles() == families
