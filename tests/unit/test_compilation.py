"""What is under test: the sources as they stand, or the build whose floors are compiled (``make test COMPILED=1``).

Without this, a run that picks up the other one would be green and say nothing.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

from interop.brokers import our_environment
from tests.unit.test_floors import MODULES, room

COMPILED_FLOORS = {"wire", "journal", "broker", "session", "protocols"}
LEFT_AS_THEY_ARE = {"amqp_broker.wire.table", "amqp_broker.wire.methods"}  # hatch_build.py says why
IS_ASKED = os.environ.get("AMQP_BROKER_UNDER_TEST") == "compiled"


def test_what_is_under_test_is_what_was_asked_for() -> None:
    compiled = {name for name in MODULES if not str(importlib.import_module(name).__file__).endswith(".py")}
    if IS_ASKED:
        packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
        assert compiled == {name for name in MODULES if room(name) in COMPILED_FLOORS} - packages - LEFT_AS_THEY_ARE
    else:
        assert compiled == set()


def test_so_is_the_broker_that_tests_start() -> None:
    command = [sys.executable, "-m", "amqp_broker", "version"]
    said = subprocess.run(command, env=our_environment(), capture_output=True, text=True, check=True).stdout
    assert said.endswith(" (compiled)\n") == IS_ASKED
