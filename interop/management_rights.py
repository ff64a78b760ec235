"""Requests that tell who may do what over the HTTP API, and what a broker answers to each user, as a table of letters.

Each user has a tag, or none, and may do everything in one virtual host and nothing in another. What is asked for
exists, and changes little when it is done, so a refusal is the user's and nobody else's. Not here: which broker is
asked, and what it should say (``tests/support/management_rights.txt``).
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

TABLE = Path(__file__).parents[1] / "tests" / "support" / "management_rights.txt"
USERS = ("none", "management", "policymaker", "monitoring", "administrator")
HERE, THERE, NOWHERE = "here", "there", "nowhere"  # where users may do everything, where nothing, and no such place
PLACES = (HERE, THERE, NOWHERE)
PASSWORD = "secret"
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
# What a refusal says, as a letter; all of them are answered with 401.
LETTERS = {
    "Login failed": "L",
    "Not management user": "M",
    "Not administrator user": "A",
    "Not monitor user": "O",
    "User not authorised to access virtual host": "V",
    "User not authorised to access object": "B",
    "Access refused.": "R",
}
MISSPELT = "z"  # behind the letter: the error is not_authorized, with a z, as for who is not logged in
PROPERTIES = '{"properties":{},"routing_key":"q","payload":"","payload_encoding":"string"}'
GETTING = '{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}'
POLICY = '{"pattern":"^none$","definition":{"max-length":1}}'
REQUESTS = f"""\
GET /api/overview
GET /api/cluster-name
PUT /api/cluster-name []
GET /api/nodes
GET /api/nodes/NODE
GET /api/nodes/NODE/memory
GET /api/nodes/NODE/memory/relative
GET /api/nodes/NODE/memory/ets
GET /api/extensions
GET /api/definitions
GET /api/all-configuration
GET /api/definitions/VHOST
POST /api/definitions {{}}
POST /api/definitions/VHOST {{}}
GET /api/parameters
GET /api/parameters/vhost-limits
GET /api/parameters/vhost-limits/VHOST
GET /api/parameters/vhost-limits/VHOST/none
PUT /api/parameters/vhost-limits/VHOST/none []
DELETE /api/parameters/vhost-limits/VHOST/none
GET /api/global-parameters
GET /api/global-parameters/none
PUT /api/global-parameters/of-ME {{"value":1}}
DELETE /api/global-parameters/none
GET /api/policies
GET /api/policies/VHOST
GET /api/policies/VHOST/p
PUT /api/policies/VHOST/of-ME {POLICY}
DELETE /api/policies/VHOST/none
GET /api/operator-policies
GET /api/operator-policies/VHOST
GET /api/operator-policies/VHOST/p
PUT /api/operator-policies/VHOST/of-ME {POLICY}
DELETE /api/operator-policies/VHOST/none
GET /api/vhost-limits
GET /api/vhost-limits/VHOST
PUT /api/vhost-limits/VHOST/max-queues {{"value":1000}}
DELETE /api/vhost-limits/VHOST/max-connections
GET /api/user-limits
GET /api/user-limits/ME
GET /api/user-limits/OTHER
PUT /api/user-limits/OTHER/max-channels {{"value":1000}}
DELETE /api/user-limits/OTHER/max-connections
GET /api/connections
GET /api/connections/MINE
GET /api/connections/THEIRS
GET /api/connections/MINE/channels
GET /api/connections/THEIRS/channels
GET /api/connections/username/ME
GET /api/connections/username/OTHER
DELETE /api/connections/username/nobody
GET /api/channels
GET /api/channels/MINE%20%281%29
GET /api/channels/THEIRS%20%281%29
GET /api/vhosts/VHOST/connections
GET /api/vhosts/VHOST/channels
GET /api/consumers
GET /api/consumers/VHOST
GET /api/exchanges
GET /api/exchanges/VHOST
GET /api/exchanges/VHOST/x
PUT /api/exchanges/VHOST/x {{"type":"direct","durable":true}}
POST /api/exchanges/VHOST/x/publish {PROPERTIES}
GET /api/exchanges/VHOST/x/bindings/source
GET /api/exchanges/VHOST/x/bindings/destination
DELETE /api/exchanges/VHOST/of-ME
GET /api/queues
GET /api/queues/detailed
GET /api/queues/VHOST
GET /api/queues/VHOST/q
PUT /api/queues/VHOST/q {{"durable":true}}
POST /api/queues/VHOST/q/get {GETTING}
DELETE /api/queues/VHOST/q/contents
POST /api/queues/VHOST/q/actions {{"action":"sync"}}
GET /api/queues/VHOST/q/bindings
DELETE /api/queues/VHOST/of-ME
GET /api/queues/quorum/VHOST/q/status
POST /api/queues/quorum/VHOST/q/replicas/add {{"node":"none@nowhere"}}
DELETE /api/queues/quorum/VHOST/q/replicas/delete {{"node":"none@nowhere"}}
POST /api/queues/quorum/replicas/on/none/grow []
GET /api/bindings
GET /api/bindings/VHOST
GET /api/bindings/VHOST/e/x/q/q
POST /api/bindings/VHOST/e/x/q/q {{"routing_key":"of-ME"}}
GET /api/bindings/VHOST/e/x/q/q/q
DELETE /api/bindings/VHOST/e/x/q/q/of-ME
GET /api/vhosts
GET /api/vhosts/VHOST
PUT /api/vhosts/VHOST []
DELETE /api/vhosts/nowhere
POST /api/vhosts/VHOST/start/NODE
GET /api/vhosts/VHOST/permissions
GET /api/vhosts/VHOST/topic-permissions
GET /api/users
GET /api/users/without-permissions
GET /api/users/ME
GET /api/users/OTHER
PUT /api/users/of-ME {{"tags":"","password":"secret"}}
DELETE /api/users/nobody
POST /api/users/bulk-delete {{"users":[]}}
GET /api/users/ME/permissions
GET /api/users/OTHER/permissions
GET /api/users/ME/topic-permissions
GET /api/users/OTHER/topic-permissions
GET /api/users/ME/queues
GET /api/permissions
GET /api/permissions/VHOST/ME
PUT /api/permissions/VHOST/spare {json.dumps(EVERYTHING)}
DELETE /api/permissions/VHOST/nobody
GET /api/topic-permissions
GET /api/topic-permissions/VHOST/ME
PUT /api/topic-permissions/VHOST/spare {{"exchange":"x","write":".*","read":".*"}}
DELETE /api/topic-permissions/VHOST/nobody
GET /api/feature-flags
PUT /api/feature-flags/none/enable
GET /api/deprecated-features
GET /api/deprecated-features/used
GET /api/whoami
GET /api/auth
GET /api/auth/attempts/NODE
GET /api/auth/attempts/NODE/source
DELETE /api/auth/attempts/NODE
GET /api/auth/hash_password/secret
GET /api/aliveness-test/VHOST
GET /api/healthchecks/node
GET /api/healthchecks/node/NODE
GET /api/health/checks/alarms
GET /api/health/checks/local-alarms
GET /api/health/checks/certificate-expiration/1/days
GET /api/health/checks/port-listener/1
GET /api/health/checks/protocol-listener/none
GET /api/health/checks/virtual-hosts
GET /api/health/checks/node-is-mirror-sync-critical
GET /api/health/checks/node-is-quorum-critical
DELETE /api/connections/THEIRS
DELETE /api/connections/MINE
DELETE /api/reset
DELETE /api/reset/NODE
POST /api/rebalance/queues
GET /api/shovels
GET /api/shovels/VHOST
DELETE /api/shovels/vhost/VHOST/none/restart
GET /api/federation-links
GET /api/federation-links/VHOST
GET /api/federation-links/state/down
GET /api/stream/connections
GET /api/stream/connections/VHOST
GET /api/stream/publishers
GET /api/stream/publishers/VHOST
GET /api/stream/consumers
GET /api/stream/consumers/VHOST
GET /api/traces
GET /api/traces/VHOST
GET /api/traces/VHOST/none
PUT /api/traces/VHOST/none []
DELETE /api/traces/VHOST/none
GET /api/trace-files
GET /api/trace-files/none
DELETE /api/trace-files/none
"""


@dataclass(frozen=True)
class Asked:
    """One line of the requests."""

    method: str
    path: str
    body: str

    @property
    def places(self) -> tuple[str, ...]:
        """Where it is asked: in each virtual host, if it names one."""
        return PLACES if "VHOST" in self.path else ("",)


def requests() -> list[Asked]:
    """All of them, in the order in which they are asked."""
    found = []
    for line in REQUESTS.splitlines():
        method, path, *body = line.split(" ", 2)
        found.append(Asked(method, path, "".join(body)))
    return found


class HttpApi:
    """A client of the HTTP API.

    Args:
        port: of 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, user: str, password: str, method: str, path: str, body: str = "") -> tuple[int, Any]:
        """The status, and what the answer's JSON means; None where it is none."""
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = {"authorization": f"Basic {login}", "content-type": "application/json"}
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            data = answer.read()
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, None

    def set_up(self) -> None:
        """Make users and what they ask for, as guest."""
        for request in _things():
            status, answer = self.ask("guest", "guest", *request)
            assert status in (201, 204), (request, status, answer)


def _things() -> Iterator[tuple[str, str, str]]:
    everything = json.dumps(EVERYTHING)
    for place in (HERE, THERE):
        yield "PUT", f"/api/vhosts/{place}", ""
        yield "PUT", f"/api/permissions/{place}/guest", everything
    for user in (*USERS, "other", "spare"):
        tags = "management" if user == "other" else user if user in USERS[1:] else ""
        yield "PUT", f"/api/users/{user}", json.dumps({"password": PASSWORD, "tags": tags})
        yield "PUT", f"/api/permissions/{HERE}/{user}", everything
    yield "PUT", f"/api/permissions/{THERE}/other", everything
    for place in (HERE, THERE):
        for kind, more in (("exchanges", '{"type":"direct","durable":true}'), ("queues", '{"durable":true}')):
            for name in (*(f"of-{user}" for user in USERS), kind[0].replace("e", "x")):
                yield "PUT", f"/api/{kind}/{place}/{name}", more
        yield "PUT", f"/api/policies/{place}/p", POLICY
        yield "PUT", f"/api/operator-policies/{place}/p", POLICY
        yield "PUT", f"/api/vhost-limits/{place}/max-connections", '{"value":1000}'
        yield "POST", f"/api/bindings/{place}/e/x/q/q", '{"routing_key":"q"}'
    yield "PUT", "/api/user-limits/other/max-connections", '{"value":1000}'


def letters_of(user: str, status: int, answer: Any) -> str:
    """What was answered, in brief: the status, or why it was refused; of a list, whose and where what is in it is."""
    if status == 401 and isinstance(answer, dict):
        letter = LETTERS.get(str(answer.get("reason")), f"401({answer.get('reason')})")
        return letter + (MISSPELT if answer.get("error") == "not_authorized" else "")
    rows = [row for row in answer if isinstance(row, dict)] if status == 200 and isinstance(answer, list) else []
    users = {row.get("user", dict(row.get("channel_details") or {}).get("user")) for row in rows}
    if users and None not in users:
        return f"{status}:{'own' if users == {user} else 'all'}"
    told = {row.get("vhost", row.get("name")) for row in rows}
    seen = "".join(place[0] for place in PLACES if place in told) + ("/" if "/" in told else "")
    return f"{status}:{seen}" if seen else str(status)


def answers(api: HttpApi, node: str, connections: dict[str, str]) -> Iterator[tuple[Asked, list[str]]]:
    """What each user is answered to each request, by user; those of several places are joined with commas.

    Args:
        node: the node's name.
        connections: the names of open ones, by user, ``other`` among them.
    """
    for asked in requests():
        row = []
        for user in USERS:
            named = {
                "NODE": node,
                "OTHER": "other",
                "MINE": quote(connections[user], safe=""),
                "THEIRS": quote(connections["other"], safe=""),
                "ME": user,
            }
            cells = []
            for place in asked.places:
                path, body = asked.path.replace("VHOST", place), asked.body
                for name, value in named.items():
                    path, body = path.replace(name, value), body.replace(name, value)
                cells.append(letters_of(user, *api.ask(user, PASSWORD, asked.method, path, body)))
            row.append(cells[0] if len(set(cells)) == 1 else ",".join(cells))
        yield asked, row


def line_of(asked: Asked, row: list[str]) -> str:
    """A line of the table, without the RabbitMQ that it is of."""
    return f"{asked.method} {asked.path} | {' | '.join(row)}"


def table(series: str) -> list[str]:
    """What a RabbitMQ answered when it was asked."""
    lines = (line.split(" ", 1) for line in TABLE.read_text(encoding="utf-8").splitlines())
    return [line.strip() for which, line in lines if which in ("all", series)]


def is_of_no_endpoint(line: str) -> bool:
    """Whether a RabbitMQ has no such endpoint: it says so to everybody, those who may use nothing as well."""
    return set(line.split(" | ")[1:]) in ({"404"}, {"405"})


def refusals(line: str) -> tuple[str, list[list[str]]]:
    """The request of a line, and for each user who is refused where, and sees what: letters, nothing for a status."""
    request, *row = line.split(" | ")
    wanted = len(PLACES) if "VHOST" in request else 1
    found = []
    for answer in row:
        cells = answer.split(",")
        told = [cell.partition(":")[2] if cell[0].isdecimal() else cell for cell in cells]
        found.append(told * wanted if len(told) == 1 else told)
    return request, found
