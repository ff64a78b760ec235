"""Federation of exchanges and queues, between each two brokers of ours and RabbitMQ's: what is forwarded, and what its
headers say. The upstream is another virtual host, of the same broker or of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from interop.brokers import DEFAULT_SERIES, OURS, RABBITMQ, Address, Choice, OurBroker, RabbitMQ
from interop.operator import Operator
from interop.raw_client import ChannelUnderTest, Client, Queue
from interop.started_brokers import StartedBrokers
from interop.under_test import BrokerUnderTest
from interop.waiting import let_pass, until

FEATURE = "federation"
PLUGINS = ("rabbitmq_federation",)
UPSTREAM_HOST = "upstream"
PATIENCE_S = 60.0  # a link of RabbitMQ's begins again after five seconds, and rabbitmqctl takes one


class WithFederation(StartedBrokers):
    """The brokers of this module, each started when it is first asked, with a virtual host to be the upstream."""

    def start(self, choice: Choice) -> RabbitMQ | OurBroker:
        process = choice.start(plugins=PLUGINS)
        if isinstance(process, RabbitMQ):
            process.ctl("add_vhost", UPSTREAM_HOST)
            process.ctl("set_permissions", "-p", UPSTREAM_HOST, "guest", ".*", ".*", ".*")
        else:
            process.ctl("vhosts", "add", UPSTREAM_HOST)
            process.ctl("permissions", "set", "guest", ".*", ".*", ".*", "--vhost", UPSTREAM_HOST)
        return process


@pytest.fixture(scope="module")
def broker_processes() -> Iterator[WithFederation]:
    with WithFederation() as started:
        yield started


@dataclass
class Pair:
    """Two virtual hosts."""

    operator: Operator
    here: ChannelUnderTest
    there: ChannelUnderTest
    upstream: str  # its address, as headers tell it
    cluster_name: str  # of the upstream

    def link(self) -> dict[str, Any]:
        links = self.operator.federation_links()
        return links[0] if len(links) == 1 else {}

    def await_arrivals(self, exchange: str, routing_key: str, queue: str) -> None:
        """Returns when what is published at the upstream comes to a queue here that is empty."""

        def arrives() -> bool:
            self.there.publish(exchange, routing_key, b"")
            let_pass(20)
            return self.here.depth(queue)[0] > 0

        until(arrives)

    def arrivals_before(self, last: bytes, queue: str) -> list[bytes]:
        """All that comes here before a message that was published last, which is waited for."""
        arrivals: list[bytes] = []

        def has_arrived() -> bool:
            arrivals.extend(self.here.drain(queue))
            return last in arrivals

        until(has_arrived)
        return arrivals[: arrivals.index(last)]

    def federate(self, pattern: str, **more: Any) -> None:
        address = self.upstream.replace("//", "//guest:guest@")
        self.operator.set_parameter("federation-upstream", "up", {"uri": address, "reconnect-delay": 1, **more})
        self.operator.set_policy("federate", pattern, {"federation-upstream": "up"})
        until(lambda: self.link().get("status") == "running", PATIENCE_S)


@pytest.fixture(params=["same", "other"])
def pair(request: pytest.FixtureRequest, broker: BrokerUnderTest, broker_processes: WithFederation) -> Iterator[Pair]:
    process: Any = broker.process
    upstream = process
    if request.param == "other":
        other = Choice(OURS, DEFAULT_SERIES) if broker.kind == RABBITMQ else Choice(RABBITMQ, "3.10")
        upstream = broker_processes.get(other)
    address = Address(upstream.address.host, upstream.address.port, vhost=UPSTREAM_HOST)
    client = Client(address.host, address.port)
    client.begin()
    client.send_start_ok(user="guest", password="guest")
    client.expect_tune()
    client.send_tune_ok()
    client.open(UPSTREAM_HOST)
    operator = Operator(process)
    uri = f"amqp://{address.host}:{address.port}/{UPSTREAM_HOST}"
    yield Pair(operator, broker.channel(), client.channel(), uri, client.server_properties["cluster_name"])
    operator.clear_all()
    operator.clear_parameter("federation-upstream", "up")
    until(lambda: not operator.federation_links(), PATIENCE_S)
    client.close()


def headers_of(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = message.properties["headers"]
    return found


def test_exchange(pair: Pair, q: str, x: str) -> None:
    pair.here.declare_exchange(x, "topic", durable=True)
    pair.here.declare(q, durable=True)
    pair.here.bind(q, x, "a.#")
    pair.federate(f"^{x}$")
    for key in ("a.b", "b.a", "a.c"):
        pair.there.publish(x, key, key.encode(), headers={"own": 1}, user_id="guest", delivery_mode=2)
    until(lambda: pair.here.depth(q)[0] == 2)
    message = pair.here.get_one(q)
    place = {
        "uri": pair.upstream,
        "exchange": x,
        "redelivered": False,
        "cluster-name": pair.cluster_name,
        "vhost": UPSTREAM_HOST,
    }
    assert headers_of(message) == {"own": 1, "x-received-from": [place]}
    assert "user_id" not in message.properties
    assert (message.routing_key, message.exchange, message.body) == ("a.b", x, b"a.b")
    pair.here.call(Queue.Unbind, queue=q, exchange=x, routing_key="a.#")
    pair.here.bind(q, x, "b.#")
    assert pair.here.drain(q) == [b"a.c"]
    pair.await_arrivals(x, "b.a", q)
    # What has been here, or has come as far as it may, comes no more.
    been: list[Any] = [{"cluster-name": "elsewhere", "vhost": "/"}]
    pair.there.publish(x, "b.a", b"far", headers={"x-received-from": been})
    pair.there.publish(x, "b.a", b"last")
    assert b"far" not in pair.arrivals_before(b"last", q)


def test_queue(pair: Pair, q: str) -> None:
    pair.there.declare(q, durable=True)
    pair.there.confirm()
    for number in range(3):
        pair.there.publish("", q, b"%d" % number, headers={"CC": ["nobody"]}, delivery_mode=2)
    pair.there.await_confirms(3)
    pair.here.declare(q, durable=True)
    pair.federate(f"^{q}$", **{"consumer-tag": "link"})
    assert pair.there.depth(q) == (3, 0)  # nobody here wants any
    pair.here.consume(q)
    messages = pair.here.deliveries(3)
    assert [message.body for message in messages] == [b"0", b"1", b"2"]
    place = {"uri": pair.upstream, "queue": q, "redelivered": False, "visit-count": 1}
    assert headers_of(messages[0]) == {
        "x-original-cc": ["nobody"],
        "x-original-exchange": "",
        "x-original-routing-key": q,
        "x-received-from": [place],
    }
    # Consumers there come first.
    pair.there.consume(q)
    pair.there.publish("", q, b"there")
    (message,) = pair.there.deliveries(1)
    assert message.body == b"there"
    pair.there.call(Queue.Delete, queue=q)
