"""What the HTTP API tells of clients of the stream protocol, and of streams, asked of each broker, which is started
anew with it; RabbitMQ with its plugin rabbitmq_stream_management.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from interop import brokers
from interop.brokers import Choice
from interop.management_rights import HttpApi
from interop.started_brokers import StartedBrokers
from interop.stream_client import StreamClient, data_section
from interop.under_test import BrokerUnderTest
from interop.waiting import until

FEATURE = "streams in the HTTP API"
OK = 1
CONFIG = """\
stream.listeners.tcp.1 = 127.0.0.1:{stream}
management.tcp.ip = 127.0.0.1
management.tcp.port = {http}
collect_statistics_interval = 500
"""


class WithHttp(StartedBrokers):
    """The brokers of this module, each started when it is first asked."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[Choice, tuple[int, int]] = {}  # of the stream protocol, and of HTTP

    def start(self, choice: Choice) -> brokers.RabbitMQ | brokers.OurBroker:
        stream, http = brokers.free_ports(2)
        self.ports[choice] = stream, http
        return choice.start(
            config=CONFIG.format(stream=stream, http=http),
            plugins=["rabbitmq_stream", "rabbitmq_stream_management"],
            environment={"AMQP_BROKER_STREAM_PORT": str(stream), "AMQP_BROKER_MANAGEMENT_PORT": str(http)},
        )


@pytest.fixture(scope="module")
def broker_processes() -> Iterator[WithHttp]:
    with WithHttp() as started:
        yield started


@pytest.fixture
def api(broker: BrokerUnderTest, broker_processes: WithHttp) -> HttpApi:
    return HttpApi(broker_processes.ports[broker.choice][1])


@pytest.fixture
def streams(broker: BrokerUnderTest, broker_processes: WithHttp) -> Iterator[StreamClient]:
    with StreamClient(broker_processes.ports[broker.choice][0]) as one:
        yield one


def asked(api: HttpApi, path: str) -> Any:
    status, answer = api.ask("guest", "guest", "GET", f"/api/{path}")
    return answer if status == 200 else status


def test_clients_of_a_stream(broker: BrokerUnderTest, api: HttpApi, streams: StreamClient) -> None:
    name = broker.queue_name("stream")
    assert streams.create(name) == OK
    assert streams.declare_publisher(1, name, "writer") == OK
    streams.publish(1, {number: data_section(b"m") for number in range(3)})
    streams.confirmed(3)
    assert streams.subscribe(7, name, credit=9, properties={"name": "app"}) == OK
    streams.entries(3, 7)
    until(lambda: [one["consumed"] for one in asked(api, "stream/consumers/%2F")] == [3])
    until(lambda: [one["confirmed"] for one in asked(api, "stream/publishers/%2F")] == [3])
    until(lambda: len(asked(api, "stream/connections/%2F")) == 1)  # RabbitMQ tells of it seconds later
    (connection,) = asked(api, "stream/connections/%2F")
    (publisher,) = asked(api, f"stream/publishers/%2F/{name}")
    (consumer,) = asked(api, "stream/consumers")
    details = {key: connection[key] for key in ("name", "node", "peer_host", "peer_port", "user")}
    assert publisher == {
        "connection_details": details,
        "queue": {"name": name, "vhost": "/"},
        "publisher_id": 1,
        "reference": "writer",
        "published": 3,
        "confirmed": 3,
        "errored": 0,
    }
    of_later_ones = {} if broker.version < (3, 11) and broker.kind == "rabbitmq" else {"active": True}
    # Ours tells of the last entry; RabbitMQ where the last chunk begins, and of the three it may have made some.
    assert consumer["offset"] in (range(3) if broker.kind == "rabbitmq" else (2,))
    assert {key: value for key, value in consumer.items() if key not in ("credits", "activity_status")} == {
        "connection_details": details,
        "queue": {"name": name, "vhost": "/"},
        "subscription_id": 7,
        "properties": {"name": "app"},
        "consumed": 3,
        "offset": consumer["offset"],
        "offset_lag": consumer["offset_lag"],
        **of_later_ones,
    }
    assert (connection["protocol"], connection["user"], connection["vhost"]) == ("stream", "guest", "/")
    path = f"stream/connections/%2F/{connection['name'].replace(' ', '%20').replace('>', '%3E')}"
    assert asked(api, path)["name"] == connection["name"]
    assert asked(api, f"{path}/publishers") == [publisher]
    assert [one["subscription_id"] for one in asked(api, f"{path}/consumers")] == [7]
    assert asked(api, "stream/connections/%2F/nobody") == 404
    streams.delete(name)


def test_what_a_stream_remembers(broker: BrokerUnderTest, api: HttpApi, streams: StreamClient) -> None:
    if broker.kind == "rabbitmq" and broker.version < (3, 13):
        pytest.skip("RabbitMQ 3.10 does not tell it")
    name, plain = broker.queue_name("stream"), broker.queue_name("plain")
    assert streams.create(name) == OK
    assert streams.declare_publisher(1, name, "writer") == OK
    streams.store_offset("reader", name, 5)
    streams.publish(1, {7: data_section(b"m")})
    streams.confirmed(1)
    path = f"stream/%2F/{name}/tracking"
    until(lambda: asked(api, path) == {"offsets": {"reader": 5}, "writers": {"writer": 7}})
    assert asked(api, f"{path}?type=offset") == {"offsets": {"reader": 5}}
    assert asked(api, f"{path}?type=writer") == {"writers": {"writer": 7}}
    assert asked(api, f"{path}?type=other") == {"offsets": {"reader": 5}, "writers": {"writer": 7}}
    assert asked(api, "stream/%2F/nowhere/tracking") == 404
    assert api.ask("guest", "guest", "PUT", f"/api/queues/%2F/{plain}", '{"durable":true}')[0] in (201, 204)
    assert asked(api, f"stream/%2F/{plain}/tracking") == 503
    streams.delete(name)


def test_a_stream_as_a_queue(broker: BrokerUnderTest, api: HttpApi, streams: StreamClient) -> None:
    name = broker.queue_name("stream")
    assert streams.create(name, max_age="1h", max_length_bytes="5000000") == OK
    assert streams.declare_publisher(1, name) == OK
    streams.publish(1, {number: data_section(b"m") for number in range(3)})
    streams.confirmed(3)
    until(lambda: asked(api, f"queues/%2F/{name}").get("messages") == 3)  # in RabbitMQ seconds later
    shown = asked(api, f"queues/%2F/{name}")
    arguments = {"x-max-age": "1h", "x-max-length-bytes": 5_000_000, "x-queue-type": "stream"}
    assert (shown["arguments"], shown["type"], shown["state"]) == (arguments, "stream", "running")
    assert (shown["messages_ready"], shown["messages_unacknowledged"]) == (3, 0)
    if broker.version >= (4, 0):  # 3.10 tells it of quorum queues alone
        assert [shown["leader"]] == shown["members"] == shown["online"]
    exported = next(one for one in asked(api, "definitions")["queues"] if one["name"] == name)
    assert exported == {
        "name": name, "vhost": "/", "durable": True, "auto_delete": False, "arguments": arguments,
    } | ({"type": "stream"} if "type" in exported else {})  # fmt: skip
    streams.delete(name)
