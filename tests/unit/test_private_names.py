"""A type of queues or exchanges overrides, and uses, nothing of the classes it derives from that begins with an
underscore.

Read from the sources, because a compiled class does not show its attributes as others do.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import amqp_broker

ROOT = Path(amqp_broker.__file__).parent
CONTRACTS = ("QueueContract", "Matcher")


@cache
def classes() -> dict[str, ast.ClassDef]:
    """Those of the folders in which there are types, by name."""
    return {
        node.name: node
        for folder in ("broker", "plugins")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }


def bases(name: str) -> Iterator[str]:
    """The classes that one derives from, in however many steps."""
    for base in classes()[name].bases:
        base_name = ast.unparse(base).partition("[")[0].rpartition(".")[2]
        if base_name in classes():
            yield base_name
            yield from bases(base_name)


def types_of(contract: str) -> list[str]:
    return [name for name in classes() if contract in bases(name)]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_own(node: ast.Attribute) -> bool:
    """Whether it is an attribute of the object itself, or of its base class."""
    return ast.unparse(node.value) in {"self", "cls", "super()"}


def defined(owner: ast.ClassDef) -> set[str]:
    """The private names of a class: its methods, and what it or one of its methods assigns."""
    found: set[str] = set()
    for node in owner.body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(target.id for target in targets if isinstance(target, ast.Name))
    for inner in ast.walk(owner):
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store) and is_own(inner):
            found.add(inner.attr)
    return {name for name in found if is_private(name)}


def used(owner: ast.ClassDef) -> set[str]:
    """The private names of itself that a class uses, its own and others."""
    attributes = (node for node in ast.walk(owner) if isinstance(node, ast.Attribute) and is_own(node))
    return {node.attr for node in attributes if is_private(node.attr)}


def taken_from_bases(name: str) -> list[str]:
    """The private names of base classes that a class overrides or uses."""
    names = defined(classes()[name]) | used(classes()[name])
    return sorted({f"{base}.{taken}" for base in bases(name) for taken in names & defined(classes()[base])})


def test_types_are_found() -> None:
    assert {"Queue", "ReplayableQueue", "ClassicQueue", "QuorumQueue", "StreamQueue"} <= set(types_of("QueueContract"))
    assert {"DirectMatcher", "GuardedMatcher", "ConsistentHashMatcher"} <= set(types_of("Matcher"))
    assert {"_unused_timer", "_tell_of_consumer"} <= defined(classes()["Queue"])


@pytest.mark.parametrize("name", [name for contract in CONTRACTS for name in types_of(contract)])
def test_a_type_leaves_the_private_names_of_its_bases_alone(name: str) -> None:
    assert not taken_from_bases(name)
