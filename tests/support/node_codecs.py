"""The codecs of npm's ``mqtt-packet`` and ``@stomp/stompjs``, by a process of node that is asked by lines.

They are installed by ``make browser`` or ``make codecs``; ``missing`` says what is not there.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = Path(__file__).with_suffix(".mjs")
PACKAGES = Path(__file__).parent.parent.parent / "build" / "browser" / "node_modules"


class Refused(Exception):
    """The library does not read or write this; the text says why."""


def missing() -> str:
    """What is not here; nothing where all is."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not all((PACKAGES / name).is_dir() for name in ("mqtt-packet", "@stomp/stompjs")):
        return "npm's mqtt-packet and @stomp/stompjs are not installed: make codecs does it"
    return ""


class NodeCodecs:
    """The process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", str(PROGRAM), str(PACKAGES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.__exit__(kind, error, traceback)  # closes stdin, at which it ends

    def read(self, codec: str, version: int | str, data: Sequence[bytes]) -> list[Any]:
        """What the library reads of each of these; ``Refused`` stands for what it does not read.

        Args:
            codec: ``mqtt`` or ``stomp``.
            version: the protocol level of MQTT, or the version of STOMP.
        """
        return self._ask({"codec": codec, "version": version, "read": list(data)})

    def write(self, codec: str, version: int | str, packets: Sequence[Any]) -> list[Any]:
        """The bytes that the library writes of each of these; arguments as of ``read``."""
        return self._ask({"codec": codec, "version": version, "write": list(packets)})

    def _ask(self, case: dict[str, Any]) -> list[Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(case, default=_to_json)}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "node has ended: it says why on the standard error"
        answers = _from_json(json.loads(line))
        return [Refused(answer["error"]) if "error" in answer else answer["value"] for answer in answers]


def _to_json(value: object) -> str:
    assert isinstance(value, bytes), value
    return f"\0{base64.b64encode(value).decode()}"


def _from_json(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _from_json(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_from_json(value) for value in found]
    return base64.b64decode(found[1:]) if isinstance(found, str) and found.startswith("\0") else found
