"""Metrics for Prometheus: sums at ``/metrics``, each queue, channel and connection at ``/metrics/per-object``, and some
groups of these at ``/metrics/detailed``. Looked at in slices, so that a scrape makes nobody wait.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import trio

from amqp_broker import __version__
from amqp_broker.broker.counters import AMQP091, AMQP10, STREAM, ChannelCounts, Counts, Death, QueueSums
from amqp_broker.broker.descriptions import ChannelInfo
from amqp_broker.broker.inspection import counts_by_protocol
from amqp_broker.broker.message_sizes import BOUNDS_BYTES
from amqp_broker.broker.names import node_of
from amqp_broker.broker.queues.base import Queue
from amqp_broker.management.api.overview import ERLANG_VERSION, version_of
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.prometheus.exposition import (
    CONTENT_TYPE,
    Family,
    Sample,
    labels_of,
    written,
    written_histogram,
)
from amqp_broker.management.prometheus.families import (
    ALWAYS_ZERO,
    OF_CHANNEL,
    OF_CONNECTION,
    OF_OTHERS,
    OF_PROTOCOL,
    OF_PROTOCOL_AND_TYPE,
    OF_QUEUE,
)
from amqp_broker.management.slices import Slices, open_in_slices
from amqp_broker.management.things import NO_LIMIT
from amqp_broker.network.listeners import STREAMS
from amqp_broker.server.status import ServerStatus, server_status

Looked = TypeVar("Looked")

SLICE_LINES = 500


class Users:
    """The numbers of those who publish and consume now, by the protocol that they speak."""

    def __init__(self) -> None:
        self.consumers: dict[str, int] = {}
        self.publishers: dict[str, int] = {}

    def add(self, protocol: str, channels: list[ChannelInfo]) -> None:
        """Add the channels of a connection."""
        for numbers, count in (
            (self.consumers, sum(one["consumer_count"] for one in channels)),
            (self.publishers, sum(one["message_stats"].get("publish", 0) > 0 for one in channels)),
        ):
            numbers[protocol] = numbers.get(protocol, 0) + count


class Scrape:
    """One answer to Prometheus.

    Args:
        call: who asks.
        prefix: of the names: ``rabbitmq_``, or ``rabbitmq_detailed_``.
        groups: the families that are wanted; None for all.
        virtual_hosts: whose queues are wanted; None for all.
        endpoint: as ``identity_info`` says it.
    """

    def __init__(
        self,
        call: Call,
        prefix: str,
        groups: frozenset[str] | None,
        virtual_hosts: frozenset[str] | None,
        endpoint: str,
    ) -> None:
        self._call = call
        self._prefix = prefix
        self._groups = groups
        self._hosts = virtual_hosts
        self._endpoint = endpoint
        self._slices = Slices()

    def _wants(self, group: str) -> bool:
        return self._groups is None or group in self._groups

    def _family(self, name: str, kind: str, text: str) -> Family:
        return Family(self._prefix + name, kind, text)

    # --- everything, as one number or one for each

    async def pieces(self, *, has_objects: bool) -> AsyncIterator[bytes]:
        """The text."""
        self._lag_s = await _loop_lag_s()
        status = await trio.to_thread.run_sync(server_status, self._call.management.server)
        lines: list[str] = [*self._information(), *self._of_node(status), *self.logins(), *self._zeros()]
        # A queue that was deleted before counts in the sums, one that is deleted from now on among the others.
        sums, queues = self._call.broker.counts_of_deleted_queues.copy(), list(self._queues())
        connections = list(self._call.broker.open_connections)
        every = self._call.broker.open_connections
        infos = [one.inspect() async for one in open_in_slices(every, connections)]
        channels: list[ChannelInfo] = []
        users = Users()
        async for connection in open_in_slices(every, connections):
            of_this = list(connection.inspect_channels())
            channels += of_this
            users.add(connection.counted_as, of_this)
        for each in (
            self._of_each(OF_QUEUE, queues, _labels_of_queue, has_objects),
            self._of_each(OF_CONNECTION, infos, lambda info: labels_of(channel=info["name"]), has_objects),
            self._of_each(OF_CHANNEL, channels, lambda info: labels_of(channel=info["name"]), has_objects),
        ):
            async with aclosing(each):
                async for piece in each:
                    yield piece
        lines += await self._of_streams(queues, has_objects)
        if self._groups is None:
            paged_bytes = 0
            for queue in queues:
                sums.add(queue.declared.queue_type, queue.counts)
                paged_bytes += queue.on_disk()[1]
                await self._slices.take_turn()
            consumers = sum(len(queue.consumers) for queue in queues)
            lines += self._totals(len(queues), consumers, len(connections), len(channels))
            lines += self._of_memory_and_disk(paged_bytes)
            lines += self._of_protocols(users)
            lines += self._of_types(sums)
            lines += self._of_deaths(sums)
        yield "".join(lines).encode("utf-8", "replace")

    def _queues(self) -> Iterator[Queue]:
        for name, host in sorted(self._call.broker.virtual_hosts.items()):
            if self._hosts is None or name in self._hosts:
                yield from list(host.queues.values())

    async def _of_each(
        self, families: Sequence[Any], things: list[Looked], labels: Callable[[Looked], str], has_objects: bool
    ) -> AsyncGenerator[bytes, None]:
        """Those of one kind of thing: first all numbers, then family by family, as the format wants them."""
        wanted = [one for one in families if self._wants(one.group)]
        if not wanted:
            return
        rows: list[tuple[str, list[float]]] = []
        sums = [0.0] * len(wanted)
        for thing in things:
            numbers = [family.number(thing) for family in wanted]
            if has_objects:
                rows.append((labels(thing), numbers))
            else:
                sums = [one + other for one, other in zip(sums, numbers, strict=True)]
            await self._slices.take_turn()
        if not has_objects:
            rows = [("", [int(number) if number.is_integer() else number for number in sums])]
        for place, one in enumerate(wanted):
            lines: list[str] = []
            samples: Iterable[Sample] = ((name, numbers[place]) for name, numbers in rows)
            for line in written(self._family(one.name, one.kind, one.help), samples):
                lines.append(line)
                if len(lines) == SLICE_LINES:
                    yield "".join(lines).encode("utf-8", "replace")
                    lines.clear()
                    await self._slices.take_turn()
            yield "".join(lines).encode("utf-8", "replace")

    async def _of_streams(self, queues: list[Queue], has_objects: bool) -> Iterable[str]:
        """How far behind the consumers of the stream protocol are: the last one's entries, of all or of each stream."""
        if not self._wants("stream_consumer_metrics"):
            return ()
        lags: list[Sample] = []
        for queue in queues:
            lag = queue.offset_lag_max
            if lag is not None:
                lags.append((_labels_of_queue(queue), lag))
            await self._slices.take_turn()
        if not has_objects:
            lags = [("", max([lag for _, lag in lags], default=0))]
        family = self._family("stream_consumer_max_offset_lag", "gauge", "Entries that the last consumer is behind")
        return list(written(family, lags))

    # --- the broker

    def _information(self) -> Iterator[str]:
        call, version = self._call, version_of(self._call)
        build = labels_of(
            rabbitmq_version=version,
            prometheus_plugin_version=version,
            prometheus_client_version="4.11.0",
            erlang_version=ERLANG_VERSION,
        )
        cluster = call.management.cluster_name
        identity = labels_of(
            rabbitmq_node=call.management.node,
            rabbitmq_cluster=cluster,
            rabbitmq_cluster_permanent_id=f"rabbitmq-cluster-id-{cluster}",
            rabbitmq_endpoint=self._endpoint,
        )
        yield from written(Family("rabbitmq_build_info", "untyped", "Versions"), [(build, 1)])
        yield from written(Family("rabbitmq_identity_info", "untyped", "Names of node and cluster"), [(identity, 1)])
        own = labels_of(version=__version__)
        yield from written(Family("amqp_broker_build_info", "untyped", "Version of amqp-broker"), [(own, 1)])
        # In a family of its own, at an owner: dashboards join with identity_info, which must be there once.
        others = call.management.server.other_nodes() if call.management.shards is None else ()
        nodes = [(labels_of(node=call.management.node, version=__version__, owner="true"), 1)]
        nodes += [(labels_of(node=node_of(one.name), version=one.version, owner="false"), 1) for one in others]
        if others:
            yield from written(Family("amqp_broker_node_info", "untyped", "The nodes of the cluster"), nodes)

    def _of_node(self, status: ServerStatus) -> Iterator[str]:
        memory, disk, descriptors = status["memory"], status["disk"], status["descriptors"]
        server = self._call.management.server
        limit, ended = descriptors["limit"] or NO_LIMIT, server.connections_ended
        free = disk["free_bytes"] if disk is not None else NO_LIMIT
        churn = self._call.broker.churn
        for group, name, kind, text, value in (
            ("", "alarms_file_descriptor_limit", "untyped", "1 while descriptors run out", 0),
            ("", "alarms_free_disk_space_watermark", "untyped", "1 while the disk is full", "disk" in status["alarms"]),
            ("", "alarms_memory_used_watermark", "untyped", "1 while memory is short", "memory" in status["alarms"]),
            ("connection_churn_metrics", "connections_opened_total", "counter", "Ever", ended + server.client_count),
            ("connection_churn_metrics", "connections_closed_total", "counter", "Ended", ended),
            ("connection_churn_metrics", "channels_opened_total", "counter", "Ever", churn.channels_opened),
            ("connection_churn_metrics", "channels_closed_total", "counter", "Ended", churn.channels_closed),
            ("connection_churn_metrics", "queues_declared_total", "counter", "Asked for", churn.queues_declared),
            ("connection_churn_metrics", "queues_created_total", "counter", "That were new", churn.queues_created),
            ("connection_churn_metrics", "queues_deleted_total", "counter", "Gone", churn.queues_deleted),
            ("node_coarse_metrics", "process_open_fds", "gauge", "Open descriptors", descriptors["used"]),
            ("node_coarse_metrics", "process_open_tcp_sockets", "gauge", "Connections", server.client_count),
            ("node_coarse_metrics", "process_resident_memory_bytes", "gauge", "Memory in use", memory["used_bytes"]),
            ("node_coarse_metrics", "disk_space_available_bytes", "gauge", "Free space", free),
            ("node_metrics", "process_max_fds", "gauge", "Most descriptors", limit),
            ("node_metrics", "process_max_tcp_sockets", "gauge", "Most connections", limit),
            (
                "node_metrics",
                "resident_memory_limit_bytes",
                "gauge",
                "Memory above which publishers wait",
                memory["high_water_bytes"],
            ),
            (
                "node_metrics",
                "disk_space_available_limit_bytes",
                "gauge",
                "Free space below which publishers wait",
                disk["limit_bytes"] if disk is not None else 0,
            ),
            ("node_metrics", "erlang_net_ticktime_seconds", "gauge", "Of Erlang clusters", 60),
            ("node_metrics", "erlang_uptime_seconds", "gauge", "Since the start", status["uptime_s"]),
        ):
            if self._wants(group):
                yield from written(self._family(name, kind, text), [("", float(value) if value else 0)])

    def logins(self) -> Iterator[str]:
        """The logins over HTTP, which are made at the node that is asked, whoever owns what it is asked for."""
        if not self._wants("auth_attempt_metrics"):
            return
        logins = self._call.management.http_logins
        for name, text, value in (
            ("auth_attempts_total", "HTTP logins", sum(logins.values())),
            ("auth_attempts_succeeded_total", "That worked", logins["succeeded"]),
            ("auth_attempts_failed_total", "That did not", logins["failed"]),
        ):
            yield from written(self._family(name, "counter", text), [("", value)])

    def _zeros(self) -> Iterator[str]:
        for group, kind, names in ALWAYS_ZERO:
            if self._wants(group):
                for name in names:
                    yield from written(self._family(name, kind, "Always 0 here"), [("", 0)])

    def _totals(self, queues: int, consumers: int, connections: int, channels: int) -> Iterator[str]:
        for name, text, value in (
            ("connections", "Connections open", connections),
            ("channels", "Channels open", channels),
            ("consumers", "Consumers", consumers),
            ("queues", "Queues", queues),
        ):
            yield from written(self._family(name, "gauge", text), [("", value)])
        yield from self._of_drops()
        yield from self._of_the_loop_and_the_disk()

    def _of_memory_and_disk(self, paged_bytes: int) -> Iterator[str]:
        """Where the ready messages are."""
        ready = Family("amqp_broker_ready_bytes", "gauge", "Memory that ready messages take, of the budget for them")
        yield from written(ready, [("", self._call.broker.paging.used_bytes)])
        paged = Family("amqp_broker_paged_bytes", "gauge", "Bodies of ready messages that are on disk only")
        yield from written(paged, [("", paged_bytes)])

    def _protocols(self) -> list[str]:
        """Those that have their numbers from the start: who may come."""
        settings = self._call.management.server.settings
        found = [AMQP091, AMQP10]
        for protocol, names in OF_OTHERS.items():
            if any(settings.port_of(protocol, is_tls=is_tls) is not None for is_tls in (False, True)):
                found += names
        return found

    def _of_protocols(self, users: Users) -> Iterator[str]:
        """What was counted over all, by the protocol that clients speak."""
        found = counts_by_protocol(self._call.broker)
        protocols = list(dict.fromkeys((*self._protocols(), *found, *users.consumers)))
        labels = {protocol: labels_of(protocol=protocol) for protocol in protocols}
        for name, text, numbers in (
            ("global_consumers", "Consumers", users.consumers),
            ("global_publishers", "Channels that have published", users.publishers),
        ):
            samples = [(labels[protocol], numbers.get(protocol, 0)) for protocol in protocols]
            yield from written(self._family(name, "gauge", text), samples)
        yield from self._of_sizes([protocol for protocol in protocols if protocol != STREAM])
        every = {protocol: found.get(protocol, ChannelCounts()) for protocol in protocols}
        for name, number in OF_PROTOCOL:
            family = self._family(f"global_messages_{name}_total", "counter", "Messages")
            yield from written(family, [(labels[protocol], number(every[protocol])) for protocol in protocols])

    def _of_sizes(self, protocols: list[str]) -> Iterator[str]:
        """How large messages are, of all that came since the first scrape."""
        family = self._family("message_size_bytes", "histogram", "Sizes of messages received since the first scrape")
        for place, protocol in enumerate(protocols):
            sizes = self._call.broker.message_sizes.of(protocol)
            labels, buckets = labels_of(protocol=protocol), zip((*BOUNDS_BYTES, math.inf), sizes.totals(), strict=True)
            yield from written_histogram(family, buckets, sizes.sum_bytes, labels, has_head=not place)

    def _of_types(self, sums: QueueSums) -> Iterator[str]:
        """What went out of queues, by the protocol of those who got it and the queues' type."""
        pairs = [(protocol, kind) for protocol in self._protocols() for kind in self._types_for(protocol)]
        pairs += [pair for pair in sums.deliveries if pair not in pairs]
        labels = [labels_of(protocol=protocol, queue_type=f"rabbit_{kind}_queue") for protocol, kind in pairs]
        every = [sums.deliveries.get(pair, Counts()) for pair in pairs]
        for name, number in OF_PROTOCOL_AND_TYPE:
            family = self._family(f"global_messages_{name}_total", "counter", "Messages, or questions for one")
            yield from written(family, [(label, number(one)) for label, one in zip(labels, every, strict=True)])
        yield from self._of_refused_stream_commands()

    def _of_refused_stream_commands(self) -> Iterator[str]:
        """Where the stream protocol is spoken: how many commands were answered with which code."""
        counts, server = self._call.broker.refused_commands, self._call.management.server
        if not counts and all(endpoint.protocol != STREAMS for endpoint in server.endpoints):
            return
        from amqp_broker.protocols.stream.codes import COUNTED, PROTOCOL

        labels = labels_of(protocol=PROTOCOL)
        for code, name in COUNTED.items():
            family = self._family(f"global_stream_error_{name}_total", "counter", "Commands that were refused for it")
            yield from written(family, [(labels, counts.get((PROTOCOL, code), 0))])

    def _types_for(self, protocol: str) -> list[str]:
        """The types of queues that clients of a protocol may get something out of."""
        return [STREAM] if protocol == STREAM else list(self._call.broker.queue_types.names)

    def _of_deaths(self, sums: QueueSums) -> Iterator[str]:
        for reason in ("expired", "maxlen", "rejected", "delivery_limit"):
            family = self._family(f"global_messages_dead_lettered_{reason}_total", "counter", "Died in queues")
            samples = []
            for kind in self._types_that_dead_letter():
                for strategy in ("at_most_once", "at_least_once", "disabled"):
                    labels = labels_of(queue_type=f"rabbit_{kind}_queue", dead_letter_strategy=strategy)
                    death = Death(reason, kind, has_exchange=strategy == "at_most_once")
                    samples.append((labels, 0 if strategy == "at_least_once" else sums.deaths.get(death, 0)))
            yield from written(family, samples)
        confirmed = self._family("global_messages_dead_lettered_confirmed_total", "counter", "Never, here")
        labels = labels_of(queue_type="rabbit_quorum_queue", dead_letter_strategy="at_least_once")
        yield from written(confirmed, [(labels, 0)])

    def _types_that_dead_letter(self) -> list[str]:
        types = self._call.broker.queue_types
        return [name for name in types.names if "x-dead-letter-exchange" in types[name].traits().arguments]

    def _of_drops(self) -> Iterator[str]:
        """Messages that went nowhere, each reason from the start."""
        family = Family("amqp_broker_dropped_total", "counter", "Messages that went nowhere")
        totals = self._call.broker.drops.totals()
        yield from written(family, [(labels_of(reason=reason), count) for reason, count in totals.items()])

    def _of_the_loop_and_the_disk(self) -> Iterator[str]:
        """How late everything is, and how long what is confirmed waits for the disk."""
        lag = Family("amqp_broker_loop_lag_seconds", "gauge", "How long a turn of the event loop took at this scrape")
        yield from written(lag, [("", self._lag_s)])
        times = self._call.management.server.sync_times
        name = "amqp_broker_journal_sync_seconds"
        text = "How long batches took to be written and synced"
        yield from written_histogram(Family(name, "histogram", text), times.buckets(), times.sum_s)


async def _loop_lag_s() -> float:
    begun_s = time.perf_counter()
    await trio.lowlevel.checkpoint()
    return time.perf_counter() - begun_s


def _labels_of_queue(queue: Queue) -> str:
    return labels_of(vhost=queue.virtual_host.name, queue=queue.name)


async def scrape(has_objects: bool, call: Call) -> Answer:
    """All of it."""
    endpoint = "per-object" if has_objects else "aggregated"
    one = Scrape(call, "rabbitmq_", None, None, endpoint)
    return Answer(pieces=one.pieces(has_objects=has_objects), content_type=CONTENT_TYPE)


async def scrape_groups(call: Call) -> Answer:
    """The families that the query names, for each object."""
    return Answer(pieces=_of_groups(call).pieces(has_objects=True), content_type=CONTENT_TYPE)


def _of_groups(call: Call) -> Scrape:
    asked = parse_qsl(call.request.query_text)
    groups = frozenset(value for name, value in asked if name == "family")
    hosts = frozenset(value for name, value in asked if name == "vhost") or None
    return Scrape(call, "rabbitmq_detailed_", groups, hosts, "detailed")


def logins_here(path: str, call: Call) -> str:
    """The part of an answer that only the node that is asked knows.

    Args:
        path: of the endpoint.
    """
    is_of_groups = path.endswith("/detailed")
    return "".join((_of_groups(call) if is_of_groups else Scrape(call, "rabbitmq_", None, None, "")).logins())


def _endpoints(access: Access) -> tuple[Endpoint, ...]:
    return (
        Endpoint("/metrics", {"GET": (access, partial(scrape, False))}),
        Endpoint("/metrics/per-object", {"GET": (access, partial(scrape, True))}),
        Endpoint("/metrics/detailed", {"GET": (access, scrape_groups)}),
    )


WITH_LOGIN = _endpoints(Access.MONITORING)
WITHOUT_LOGIN = _endpoints(Access.ANYBODY)
