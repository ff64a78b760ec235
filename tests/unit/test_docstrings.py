"""The docstring of a class or a module begins with what it is: a noun, not a word that stands for one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "amqp_broker"
MODULES = sorted(SOURCES.rglob("*.py"))
NO_NOUN = re.compile(
    r"(what|which|who|whose|how|whether|where|when|why|so|there|it|everything|everybody|something|somebody|anything"
    r"|anybody|nothing|nobody|one (of (them|these|those)|such|after))\b",
    re.IGNORECASE,
)


def docstrings(module: Path) -> dict[str, str]:
    """The first words of a module's docstring and of its classes', by their names."""
    tree = ast.parse(module.read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef)]
    return {getattr(node, "name", "the module"): ast.get_docstring(node) or "" for node in found}


def test_there_are_modules() -> None:
    assert len(MODULES) > 300


def test_docstrings_name_their_subject() -> None:
    found = {
        f"{module.relative_to(SOURCES)}: {name}": said
        for module in MODULES
        for name, said in docstrings(module).items()
        if NO_NOUN.match(said)
    }
    assert found == {}
