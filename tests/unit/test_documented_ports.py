"""What docs/architecture.md shows of the driver is all that there is to it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_driver_is_shown_whole() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    _, _, shown = text.partition("class Driver(Protocol):")
    module = ast.parse((ROOT / "amqp_broker" / "broker" / "ports.py").read_text(encoding="utf-8"))
    (driver,) = [node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "Driver"]
    methods = [node.name for node in driver.body if isinstance(node, ast.FunctionDef)]
    assert re.findall(r"def (\w+)\(", shown.partition("```")[0]) == methods
