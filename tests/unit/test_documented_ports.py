"""What docs/architecture.md shows of the driver is all that there is to it."""

from __future__ import annotations

import re
from pathlib import Path

from amqp_broker.broker.ports import Driver

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_driver_is_shown_whole() -> None:
    _, _, shown = ARCHITECTURE.read_text(encoding="utf-8").partition("class Driver(Protocol):")
    names = re.findall(r"def (\w+)\(", shown.partition("```")[0])
    assert names == [name for name in vars(Driver) if not name.startswith("_")]
