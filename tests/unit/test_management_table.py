"""302 requests that a RabbitMQ 3.10.8 was asked in this order, with its answers: ours are the same, but for a list.

What differs stands in ``management_differences.py``, each with its reason; an answer that agrees must not be listed.
docs/management.md shows that list with both statuses: ``python -m tests.unit.test_management_table`` writes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.descriptions import ChannelInfo
from amqp_broker.broker.message import Address, Message
from amqp_broker.broker.queues.consumers import Consumer, Deliveries
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.table import Table
from tests.support.managed import Managed, managing
from tests.support.served import on_a_jumping_clock
from tests.unit.management_differences import DIFFERENCES, REASONS

TABLE = Path(__file__).parents[1] / "support" / "rabbitmq_http_answers.json"
PAGE = Path(__file__).parents[2] / "docs" / "management.md"
HEAD = "| no. | request | RabbitMQ | amqp-broker |\n|---|---|---|---|\n"
LIST_BEGINS, LIST_ENDS = "<!-- the list begins -->\n", "<!-- the list ends -->\n"
VOLATILE = {"password_hash"}
CONSUMER_GOES_AT = 119  # RabbitMQ was asked in two goes


def set_up(broker: Broker) -> None:
    """What was there when RabbitMQ was asked, as far as an answer shows it."""
    administration, host = broker.administration, broker.virtual_hosts["/"]
    administration.add_virtual_host("shop")
    administration.set_permission("guest", "shop", ".*", ".*", ".*")
    administration.set_virtual_host_limits("shop", connections_max=20)
    administration.add_user("app", "secret", ("monitoring",), algorithm="rabbit_password_hashing_sha256")
    administration.set_user_limits("app", channels_max=100)
    administration.set_permission("app", "/", "^app", ".*", ".*")
    administration.set_topic_permission("app", "/", "orders", "^eu", ".*")
    for name, kind, table in EXCHANGES:
        host.add_exchange(name, kind, durable=True, auto_delete=False, internal=False, table=table)
    for name, durable, table in QUEUES:
        owner = object() if name.startswith("amq.gen") else None
        host.add_queue(name, durable=durable, auto_delete=False, owner=owner, table=table)
    host.add_binding(host.exchanges["orders"], host.queues["orders.eu"], "eu.#", {})
    policy = {"pattern": "^orders\\.", "definition": {"max-length": 1000, "message-ttl": 600000}, "priority": 5}
    administration.parameters.set_policy("/", "ttl", {**policy, "apply-to": "queues"})
    message = Message(Address("", "backlog", b""), encode_content_header(0, Properties()), b"", False, 0)
    host.queues["backlog"].publish(message)
    host.queues["orders.eu"].consumers.add(Consumer(host.queues["orders.eu"], "eu-worker", NoDeliveries()))


EXCHANGES: list[tuple[str, str, Table]] = [
    ("unrouted", "fanout", {}),
    ("dlx", "direct", {}),
    ("orders", "topic", {"alternate-exchange": "unrouted"}),
]
QUEUES: list[tuple[str, bool, Table]] = [
    ("aliveness-test", False, {}),
    ("amq.gen-N9dalIxFaaVGd6yo_cHb4A", False, {}),
    ("backlog", False, {}),
    ("orders.dead", True, {}),
    (
        "orders.eu",
        True,
        {"x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "dead", "x-max-priority": 5},
    ),
    ("orders.lazy", True, {"x-queue-mode": "lazy"}),
    ("orders.qq", True, {"x-delivery-limit": 3, "x-queue-type": "quorum"}),
    ("orders.stream", True, {"x-queue-type": "stream"}),
    ("sac", True, {"x-single-active-consumer": True}),
]


class NoDeliveries(Deliveries):
    """A channel that takes nothing."""

    def __init__(self) -> None:
        self.has_room = False

    def inspect(self) -> ChannelInfo:
        names = ("name", "number", "connection_name", "user", "peer_host", "peer_port")
        return cast("ChannelInfo", dict.fromkeys(names, ""))

    def deliver(self, consumer: Consumer, message: Message, header: bytes) -> None:
        raise AssertionError

    def consumer_cancelled(self, consumer: Consumer) -> None:
        """Nobody minds."""


def agrees(ours: Any, theirs: Any) -> bool:
    """Whether all that RabbitMQ says is said; what is said beyond that, and salts, do not matter."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return all(name in ours and (name in VOLATILE or agrees(ours[name], value)) for name, value in theirs.items())
    if isinstance(theirs, list) and isinstance(ours, list):
        is_as_long = len(ours) == len(theirs) or (isinstance(theirs, Beginning) and len(ours) > len(theirs))
        return is_as_long and all(map(agrees, ours, theirs))
    return bool(ours == theirs)


class Beginning(list[Any]):
    """The items of a list that are whole, of an answer that was recorded as far as it fitted."""


def decoded(answer: str) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return beginning(answer) if answer.startswith(("[", "{")) else answer


def beginning(answer: str) -> Any:
    """What an answer that was cut in its last list says, without the item that was cut."""
    opening = answer.index("[{")
    whole = answer[: answer.rindex("},{") + 1]
    items = Beginning(json.loads(whole[opening:] + "]"))
    return items if opening == 0 else json.loads(answer[:opening] + "[]}") | {"items": items}


async def differing(managed: Managed) -> dict[int, tuple[str, int, str]]:
    """The numbers of the requests whose answers differ, with ours."""
    found = {}
    for number, asked in enumerate(json.loads(TABLE.read_text(encoding="utf-8"))):
        if number == CONSUMER_GOES_AT:
            queue = managed.broker.virtual_hosts["/"].queues["orders.eu"]
            queue.remove_consumer(next(iter(queue.consumers)))
        client = await managed.administrator()
        reply = await client.ask(
            asked["method"], asked["path"].replace("é", "%C3%A9"), asked["body"], user=asked["user"]
        )
        await client.stream.aclose()
        ours, theirs = decoded(reply.body.decode()), decoded(asked["answer"])
        is_page = asked["answer"] == "(an HTML page)"
        if reply.status != asked["status"] or not (is_page or agrees(ours, theirs)):
            found[number] = (f"{asked['method']} {asked['path']}", reply.status, reply.body.decode()[:300])
    return found


def shown(found: dict[int, tuple[str, int, str]]) -> str:
    """The list as docs/management.md has it: each reason, with the requests and both statuses."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    lines = []
    for reason, numbers in REASONS:
        lines.append(
            f"\n**{reason[0].upper()}{reason[1:]}.**\n\n| no. | request | RabbitMQ | amqp-broker |\n|---|---|---|---|\n"
        )
        for number in sorted(numbers):
            request = found[number][0].replace("|", "\\|")
            lines.append(f"| {number} | `{request}` | {table[number]['status']} | {found[number][1]} |\n")
    return "".join(lines) + "\n"


def split(page: str) -> tuple[str, str, str]:
    """The page: before the list, the list, and what follows."""
    before, begins, rest = page.partition(LIST_BEGINS)
    listed, ends, after = rest.partition(LIST_ENDS)
    return before + begins, listed, ends + after


async def asked() -> dict[int, tuple[str, int, str]]:
    """What differs, asked of a broker in memory."""
    async with managing(behave_like="3.10") as managed:
        managed.broker.handle(lambda: set_up(managed.broker))
        return await differing(managed)


@on_a_jumping_clock
async def test_answers_are_those_of_rabbitmq_but_for_a_list() -> None:
    found = await asked()
    not_listed = {number: ours for number, ours in found.items() if number not in DIFFERENCES}
    assert not not_listed
    assert not DIFFERENCES - found.keys(), "listed, and yet the same"
    assert sum(len(numbers) for _, numbers in REASONS) == len(DIFFERENCES), "one reason each"
    _, listed, after = split(PAGE.read_text(encoding="utf-8"))
    assert listed == shown(found), "python -m tests.unit.test_management_table writes it"
    assert f"{302 - len(found)} of the 302" in after


if __name__ == "__main__":
    before, _, after = split(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(before + shown(trio.run(asked)) + after, encoding="utf-8")
