"""docs/openapi.json describes what lies below /api/x/: each path and method that there is, and no other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from amqp_broker.management.api.endpoints import ENDPOINTS
from amqp_broker.management.http.looking import EVENTS
from amqp_broker.management.http.sessions import COOKIE

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text(encoding="utf-8"))
METHODS = ("get", "put", "post", "delete")


def references(value: Any) -> set[str]:
    """Every ``$ref`` below a value."""
    return set(re.findall(r'"\$ref": "(#/[^"]+)"', json.dumps(value)))


def test_all_paths_and_methods_are_described() -> None:
    ours = {
        (endpoint.path, method.lower())
        for endpoint in ENDPOINTS
        if endpoint.path.startswith("/api/x/")
        for method in endpoint.methods
    }
    described = {(path, method) for path, item in DOCUMENT["paths"].items() for method in METHODS if method in item}
    assert described == ours | {(EVENTS, "get")}


def test_the_variables_of_a_path_are_described() -> None:
    for path, item in DOCUMENT["paths"].items():
        assert re.findall(r"{(\w+)}", path) == [one["name"] for one in item.get("parameters", ())]


def test_what_it_refers_to_is_there() -> None:
    for reference in references(DOCUMENT):
        found = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    assert DOCUMENT["components"]["securitySchemes"]["session"]["name"] == COOKIE
