"""What an operator does to either broker: with rabbitmqctl there, with our command line here.

Not here: what is asked of the broker then.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from interop.brokers import OurBroker, RabbitMQ


def user_with(name: str, password: str) -> dict[str, Any]:
    """What definitions say of a user without tags."""
    salt = b"salt"
    hashed = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    return {"name": name, "tags": "", "password_hash": hashed, "hashing_algorithm": "rabbit_password_hashing_sha256"}


class Operator:
    """Sets policies and parameters of one virtual host.

    Args:
        process: the broker; one that was started by the tests.
    """

    def __init__(self, process: RabbitMQ | OurBroker, vhost: str = "/") -> None:
        self._process = process
        self._vhost = vhost

    def _run(self, theirs: list[str], ours: list[str]) -> str:
        if isinstance(self._process, RabbitMQ):
            return self._process.ctl(*theirs, "-p", self._vhost)
        return self._process.ctl(*ours, "--vhost", self._vhost)

    def _set(self, is_operators: bool, name: str, pattern: str, definition: Any, more: dict[str, Any]) -> None:
        options = [word for key, value in more.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        text = definition if isinstance(definition, str) else json.dumps(definition)
        words = [name, pattern, text, *options]
        theirs, ours = "set_operator_policy" if is_operators else "set_policy", _noun(is_operators)
        self._run([theirs, *words], [ours, "set", *words])

    def set_policy(self, name: str, pattern: str, definition: Any, **more: Any) -> None:
        """`more`: apply_to, priority."""
        self._set(False, name, pattern, definition, more)

    def set_operator_policy(self, name: str, pattern: str, definition: Any, **more: Any) -> None:
        self._set(True, name, pattern, definition, more)

    def clear_policy(self, name: str) -> None:
        self._run(["clear_policy", name], ["policies", "clear", name])

    def clear_operator_policy(self, name: str) -> None:
        self._run(["clear_operator_policy", name], ["operator-policies", "clear", name])

    def clear_all(self) -> None:
        """Clear whatever policies there are."""
        for is_operators in (False, True):
            listing = "list_operator_policies" if is_operators else "list_policies"
            text = self._run([listing, "--formatter", "json"], [_noun(is_operators), "list", "--json"])
            for policy in json.loads(text):
                (self.clear_operator_policy if is_operators else self.clear_policy)(policy["name"])

    def queue(self, name: str) -> dict[str, Any]:
        """What is in force for a queue: policy, operator_policy, effective_policy_definition."""
        if isinstance(self._process, RabbitMQ):  # rabbitmqctl shows no more than the first of them
            text = self._process.ctl("eval", IN_FORCE.format(vhost=self._vhost, name=name))
            found = json.loads(json.loads(text))
        else:
            rows = json.loads(self._run([], ["queues", "list", "--json"]))
            found = next(row for row in rows if row["name"] == name)
        columns = ("policy", "operator_policy", "effective_policy_definition")
        return {column: found[column] or None for column in columns}

    def export(self) -> dict[str, Any]:
        """The definitions of the whole broker."""
        ours = isinstance(self._process, OurBroker)
        found = self._process.ctl("definitions", "export") if ours else self._process.ctl("export_definitions", "-")
        document: dict[str, Any] = json.loads(found)
        return document

    def import_definitions(self, document: dict[str, Any]) -> None:
        """Import definitions."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "definitions.json"
            path.write_text(json.dumps(document))
            self.import_file(path)

    def import_file(self, path: Path) -> None:
        """Import definitions from a file."""
        if isinstance(self._process, RabbitMQ):
            self._process.ctl("import_definitions", str(self._process.copied(path)))
        else:
            self._process.ctl("definitions", "import", str(path))

    def trace(self, is_on: bool) -> None:
        """Turn the firehose on or off."""
        if isinstance(self._process, RabbitMQ):
            self._process.ctl("trace_on" if is_on else "trace_off", "-p", self._vhost)
        else:
            self._process.ctl("vhosts", "trace", self._vhost, "on" if is_on else "off")

    def set_parameter(self, component: str, name: str, value: Any) -> None:
        """Set a parameter of the virtual host."""
        text = json.dumps(value)
        self._run(["set_parameter", component, name, text], ["parameters", "set", name, text, "--component", component])

    def clear_parameter(self, component: str, name: str) -> None:
        self._run(["clear_parameter", component, name], ["parameters", "clear", name, "--component", component])

    def federation_links(self) -> list[dict[str, Any]]:
        """How the links of all virtual hosts are."""
        words = ["federation_status", "--formatter", "json"]
        ours = isinstance(self._process, OurBroker)
        found: list[dict[str, Any]] = json.loads(self._process.ctl(*(["ctl", "-q"] if ours else []), *words))
        return found

    def set_vhost_limits(self, value: dict[str, int]) -> None:
        text = json.dumps(value)
        self._run(["set_vhost_limits", text], ["parameters", "set", "limits", text, "--component", "vhost-limits"])


IN_FORCE = """\
{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{name}">>)),
Name = fun(none) -> null; (Other) -> Other end,
Definition = fun(undefined) -> []; (Other) -> Other end,
binary_to_list(rabbit_json:encode(#{{
  policy => Name(rabbit_policy:name(Q)),
  operator_policy => Name(rabbit_policy:name_op(Q)),
  effective_policy_definition => maps:from_list(Definition(rabbit_policy:effective_definition(Q)))
}}))."""


def _noun(is_operators: bool) -> str:
    return "operator-policies" if is_operators else "policies"
