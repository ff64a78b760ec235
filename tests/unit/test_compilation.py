"""What is under test: the sources as they stand, or the build whose floors are compiled (``make test COMPILED=1``).

Without this, a run that picks up the other one would be green and say nothing.
"""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys

from interop.brokers import our_environment
from tests.unit.test_floors import MODULES, is_for_type_checkers, part

COMPILED_FLOORS = {"wire", "journal", "broker", "session", "protocols"}
LEFT_AS_THEY_ARE = {  # hatch_build.py says why
    "amqp_broker.wire.table",
    "amqp_broker.wire.methods",
    "amqp_broker.protocols.amqp10.typed",
}
IS_ASKED = os.environ.get("AMQP_BROKER_UNDER_TEST") == "compiled"


def test_what_is_under_test_is_what_was_asked_for() -> None:
    compiled = {name for name in MODULES if not str(importlib.import_module(name).__file__).endswith(".py")}
    if IS_ASKED:
        packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
        assert compiled == {name for name in MODULES if part(name) in COMPILED_FLOORS} - packages - LEFT_AS_THEY_ARE
    else:
        assert compiled == set()


def test_so_is_the_broker_that_tests_start() -> None:
    command = [sys.executable, "-m", "amqp_broker", "version"]
    said = subprocess.run(command, env=our_environment(), capture_output=True, text=True, check=True).stdout
    assert said.endswith(" (compiled)\n") == IS_ASKED


def fields_that_cannot_be_compiled(source: str) -> list[str]:
    """Fields of named tuples and dataclasses whose type is ``object`` or a class that is imported for types alone: what
    mypyc makes of them fails when the module is imported.
    """
    tree = ast.parse(source)
    for_types_alone = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if is_for_type_checkers(node)
        for statement in ast.walk(node)
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        makers = [ast.unparse(maker) for maker in (*node.bases, *node.decorator_list)]
        if any("NamedTuple" in maker or "dataclass" in maker for maker in makers):
            fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
            found += [
                f"{node.name}: {ast.unparse(one)}"
                for one in fields
                if isinstance(one.annotation, ast.Name) and one.annotation.id in {"object", *for_types_alone}
            ]
    return found


def test_every_field_can_be_compiled() -> None:
    found = {
        name: fields_that_cannot_be_compiled(path.read_text(encoding="utf-8"))
        for name, path in MODULES.items()
        if part(name) in COMPILED_FLOORS
    }
    assert len(found) > 100
    assert not any(found.values()), found


def test_a_field_that_cannot_be_compiled_is_found() -> None:
    source = "if TYPE_CHECKING:\n    from a import B\nclass C(NamedTuple):\n    b: B\n    c: object\n    d: int\n"
    assert fields_that_cannot_be_compiled(source) == ["C: b: B", "C: c: object"]


def classes_of_compiled_modules() -> dict[str, ast.ClassDef]:
    """By module and name."""
    return {
        f"{name}.{node.name}": node
        for name, path in MODULES.items()
        if part(name) in COMPILED_FLOORS and name not in LEFT_AS_THEY_ARE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }


def allows_interpreted_subclasses(node: ast.ClassDef) -> bool:
    return any("allow_interpreted_subclasses" in ast.unparse(maker) for maker in node.decorator_list)


def test_no_compiled_object_is_initialized_twice() -> None:
    """mypyc's ``tp_new`` initializes, unless interpreted subclasses are allowed; then the inherited ``tp_init`` does: a
    class without an ``__init__`` of its own must not have both.
    """
    classes = classes_of_compiled_modules()
    open_names = {node.name for node in classes.values() if allows_interpreted_subclasses(node)}
    assert "ClassicQueue" in open_names
    assert [
        name
        for name, node in classes.items()
        if not allows_interpreted_subclasses(node)
        and any(ast.unparse(base) in open_names for base in node.bases)
        and not any(isinstance(part, ast.FunctionDef) and part.name == "__init__" for part in node.body)
    ] == []
