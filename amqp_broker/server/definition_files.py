"""Files of definitions that a broker takes in when it starts (setting ``load_definitions``).

What is in them, and how it is checked, is ``broker/definitions/``.
"""

from __future__ import annotations

from pathlib import Path

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.json_values import read_json
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.explanations import json_mistake, system_reason

WHO = "the setting load_definitions"


class CannotLoadDefinitions(Exception):
    """The definitions cannot be had, and nothing of them was; the text names the file, the reason and the way out."""


def load_definitions(broker: Broker, name: str) -> None:
    """Have what a file says, or all files of a folder; all of it, or nothing.

    Raises:
        CannotLoadDefinitions: there are none, or they cannot be read or done.
    """
    from amqp_broker.broker.definitions.applying import import_definitions

    document = read_definitions(name)
    try:
        broker.handle(lambda: import_definitions(broker, document, who=WHO))
    except AdministrationError as error:
        raise CannotLoadDefinitions(f"load_definitions: {name}: {error}; nothing of it was loaded") from error


def read_definitions(name: str) -> dict[str, object]:
    """The definitions in a file, or in all files ``*.json`` of a folder, in the order of their names, taken as one.

    Raises:
        CannotLoadDefinitions: there are none, or they cannot be read.
    """
    try:
        path = Path(name).expanduser()
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not files:
            raise CannotLoadDefinitions(f"load_definitions: there is no file *.json in {path}")
        return together([_read(file) for file in files], [str(file) for file in files])
    except OSError as error:
        raise CannotLoadDefinitions(
            f"load_definitions: {error.filename} cannot be read: {system_reason(error)}"
        ) from error


def _read(file: Path) -> object:
    try:
        return read_json(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CannotLoadDefinitions(f"load_definitions: {file} is not JSON: {json_mistake(error)}") from error


def together(documents: list[object], names: list[str]) -> dict[str, object]:
    """Several definitions as one: their lists, one after the other.

    Raises:
        CannotLoadDefinitions: one of them is none.
    """
    found: dict[str, object] = {}
    for document, name in zip(documents, names, strict=True):
        if not isinstance(document, dict):
            raise CannotLoadDefinitions(f"load_definitions: {name} holds no definitions: they are an object of JSON")
        for section, value in document.items():
            before = found.get(section)
            found[section] = [*before, *value] if isinstance(before, list) and isinstance(value, list) else value
    return found
