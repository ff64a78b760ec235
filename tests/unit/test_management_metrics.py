"""What Prometheus reads: well-formed, every family once, the same names whatever there is, and what there is."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio

from amqp_broker.management import slices
from tests.support.managed import HttpClient, Managed, managing
from tests.support.served import on_a_jumping_clock

SAMPLE = re.compile(r'^([a-z_]+)(\{(?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*\})? (-?[0-9.e+-]+)$')


async def scraped(managed: Managed, path: str) -> dict[str, list[tuple[str, float]]]:
    """The samples of each family."""
    port = next(one.port for one in managed.server.http_endpoints if one.protocol == "metrics")
    client = HttpClient(await managed.connect(port=port))
    reply = await client.ask("GET", path, user=None)
    await client.stream.aclose()
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    families: dict[str, list[tuple[str, float]]] = {}
    for line in reply.body.decode().splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in families, "a family stands in two places"
            families[name] = []
        elif not line.startswith("#"):
            sample = SAMPLE.match(line)
            assert sample is not None, line
            name = sample[1] if sample[1] in families else sample[1].rpartition("_")[0]  # of a histogram
            families[name].append((sample[2] or "", float(sample[3])))
    return families


def declare(managed: Managed, *names: str) -> None:
    for name in names:
        host = managed.broker.virtual_hosts["/"]
        host.add_queue(name, durable=True, auto_delete=False, owner=None, table={})


@on_a_jumping_clock
async def test_sums_and_the_same_families_whatever_there_is() -> None:
    async with managing() as managed:
        empty = await scraped(managed, "/metrics")
        declare(managed, "a", "b")
        async with await managed.opened():
            full = await scraped(managed, "/metrics")
        assert empty.keys() == full.keys()
        assert all(samples for samples in empty.values())
        assert full["rabbitmq_queues"] == [("", 2)]
        assert full["rabbitmq_connections"] == [("", 1)]
        assert 'rabbitmq_endpoint="aggregated"' in full["rabbitmq_identity_info"][0][0]


@on_a_jumping_clock
@pytest.mark.parametrize(
    ("protocols", "shown"),
    [
        ((), ["amqp091", "amqp10"]),
        (("mqtt", "stomp", "streams"), ["amqp091", "amqp10", "mqtt310", "mqtt311", "mqtt50", "stream", "stomp"]),
    ],
)
async def test_each_protocol_that_is_on_has_its_counters_from_the_start(
    protocols: tuple[str, ...], shown: list[str]
) -> None:
    ports = {"mqtt": "mqtt_port", "stomp": "stomp_port", "streams": "stream_port"}
    settings: dict[str, Any] = {ports[name]: 0 for name in protocols}
    async with managing(**settings) as managed:
        declare(managed, "q")
        families = await scraped(managed, "/metrics")
        labels = [f'{{protocol="{name}"}}' for name in shown]
        for name in ("global_messages_received_total", "global_publishers", "global_consumers"):
            assert families[f"rabbitmq_{name}"] == [(label, 0) for label in labels]
        delivered = families["rabbitmq_global_messages_delivered_total"]
        assert delivered[1] == ('{protocol="amqp091",queue_type="rabbit_quorum_queue"}', 0)
        assert [label for label, _ in delivered if '"stream"' in label] == [
            '{protocol="stream",queue_type="rabbit_stream_queue"}' for name in shown if name == "stream"
        ]


@on_a_jumping_clock
async def test_sizes_of_messages_are_those_since_the_first_scrape() -> None:
    async with managing() as managed:
        name = "rabbitmq_message_size_bytes"
        before = (await scraped(managed, "/metrics"))[name]
        client = await managed.administrator()
        for size_bytes in (100, 101, 20_000):
            body = {"routing_key": "q", "payload": "x" * size_bytes, "payload_encoding": "string", "properties": {}}
            await client.ask("POST", "/api/exchanges/%2F/amq.default/publish", body)
        await client.stream.aclose()
        after = (await scraped(managed, "/metrics"))[name]
        assert [labels for labels, _ in before] == [labels for labels, _ in after]
        assert [number for labels, number in after if "amqp091" in labels] == [1, 2, 2, 3, 3, 3, 3, 3, 3, 20_201, 3]
        assert after[1][0] == '{protocol="amqp091",le="1000.0"}'
        assert {number for labels, number in after if "amqp091" not in labels} == {0}


@on_a_jumping_clock
async def test_channels_and_queues_that_come_and_go_are_counted_here_and_in_the_api() -> None:
    async with managing() as managed:
        churn = managed.broker.churn
        churn.channels_opened, churn.channels_closed = 5, 4
        churn.queues_declared, churn.queues_created, churn.queues_deleted = 3, 2, 1
        families = await scraped(managed, "/metrics")
        for name, count in (
            ("channels_opened", 5), ("channels_closed", 4), ("queues_declared", 3), ("queues_created", 2),
            ("queues_deleted", 1),
        ):  # fmt: skip
            assert families[f"rabbitmq_{name}_total"] == [("", count)]
        client = await managed.administrator()
        overview = (await client.ask("GET", "/api/overview")).json
        (node,) = (await client.ask("GET", "/api/nodes")).json
        await client.stream.aclose()
        for shown in (overview["churn_rates"], node):
            names = ("channel_created", "channel_closed", "queue_declared", "queue_created", "queue_deleted")
            assert [shown[name] for name in names] == [5, 4, 3, 2, 1]


@on_a_jumping_clock
async def test_each_queue_by_its_name_whatever_that_holds() -> None:
    async with managing() as managed:
        declare(managed, 'a"b\\c\nd', "<b>")
        families = await scraped(managed, "/metrics/per-object")
        assert families["rabbitmq_queue_messages_ready"] == [
            ('{vhost="/",queue="a\\"b\\\\c\\nd"}', 0),
            ('{vhost="/",queue="<b>"}', 0),
        ]


@on_a_jumping_clock
async def test_some_groups_of_some_virtual_hosts() -> None:
    async with managing() as managed:
        declare(managed, "q")
        managed.broker.administration.add_virtual_host("empty")
        query = "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count&vhost="
        found = await scraped(managed, query + "%2F")
        assert found["rabbitmq_detailed_queue_messages"] == [('{vhost="/",queue="q"}', 0)]
        assert found["rabbitmq_detailed_queue_consumers"] == [('{vhost="/",queue="q"}', 0)]
        assert (await scraped(managed, query + "empty"))["rabbitmq_detailed_queue_messages"] == []
        unknown = await scraped(managed, "/metrics/detailed?family=nope")
        assert set(unknown) == {"rabbitmq_build_info", "rabbitmq_identity_info", "amqp_broker_build_info"}


@on_a_jumping_clock
@pytest.mark.parametrize("path", ["/metrics", "/metrics/per-object", "/metrics/detailed"])
async def test_on_the_port_of_the_api_they_need_a_login(path: str) -> None:
    async with managing() as managed:
        client = await managed.administrator()
        assert (await client.ask("GET", path, user=None)).status == 401
        assert (await client.ask("GET", path, accept="text/plain")).status == 200
        await client.stream.aclose()


@on_a_jumping_clock
async def test_the_port_for_metrics_shows_nothing_else() -> None:
    async with managing() as managed:
        port = next(one.port for one in managed.server.http_endpoints if one.protocol == "metrics")
        client = HttpClient(await managed.connect(port=port))
        assert (await client.ask("GET", "/api/overview")).status == 404
        await client.stream.aclose()


@on_a_jumping_clock
async def test_syncs_and_the_loop_are_measured() -> None:
    async with managing() as managed:
        families = await scraped(managed, "/metrics")
        ((_, lag_s),) = families["amqp_broker_loop_lag_seconds"]
        assert 0 < lag_s < 60
        assert families["amqp_broker_journal_sync_seconds"][-3:] == [('{le="+Inf"}', 0), ("", 0), ("", 0)]


@on_a_jumping_clock
async def test_what_is_on_disk_only_is_told_of_all_and_of_each_queue() -> None:
    async with managing() as managed:
        declare(managed, "q", "r")
        queue = managed.broker.virtual_hosts["/"].queues["q"]
        queue.restore_paged([1, 2, 3], size_bytes=3000, band=0)
        assert (await scraped(managed, "/metrics"))["amqp_broker_paged_bytes"] == [("", 3000)]
        of_each = await scraped(managed, "/metrics/detailed?family=queue_metrics")
        for name, number in (
            ("ready_ram", 0), ("ram", 0), ("ram_bytes", 0), ("paged_out", 3), ("paged_out_bytes", 3000),
        ):  # fmt: skip
            samples = of_each[f"rabbitmq_detailed_queue_messages_{name}"]
            assert samples == [('{vhost="/",queue="q"}', number), ('{vhost="/",queue="r"}', 0)]


class Turns(trio.abc.Instrument):
    """How often whoever serves a client had its turn."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += "Reception" in task.name


@on_a_jumping_clock
async def test_nothing_of_a_scrape_looks_at_all_queues_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_S", -1.0)  # each queue is a slice
    async with managing() as managed:
        declare(managed, *(f"q{number}" for number in range(100)))
        turns = Turns()
        trio.lowlevel.add_instrument(turns)
        await scraped(managed, "/metrics")
        trio.lowlevel.remove_instrument(turns)
        assert turns.count > 200, "one for each queue's numbers, one for each queue's dead letters"
