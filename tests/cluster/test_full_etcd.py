"""An etcd that takes no writes any more, below three nodes: publishers wait, lose nothing, and go on by themselves."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from math import inf
from pathlib import Path

import pika
import pytest
from pika.exceptions import AMQPError

from amqp_broker.cluster.members import EtcdRefused, Member
from amqp_broker.etcd import messages
from tests.cluster.test_commands import ask, until
from tests.support.cluster_processes import ClusterOfThree, NodeProcess
from tests.support.etcd_process import ETCD

QUOTA_BYTES = 32 * 2**20
BODY_BYTES = 65_536
OTHER_BYTES = 250_000
SOME = 20  # messages

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)"),
    pytest.mark.skipif("CLUSTER_FULL_ETCD" not in os.environ, reason="takes minutes: CLUSTER_FULL_ETCD=1, by hand"),
]


class Publisher(threading.Thread):
    """Publishes as many messages as are wanted, one after the other, each when the one before is confirmed.

    Args:
        port: of the node.
    """

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
        self._change = threading.Condition()
        self._is_ending = False
        self.wanted = inf
        self.confirmed = 0

    def run(self) -> None:
        with suppress(AMQPError):  # it ends with the nodes where the test fails
            self._publish()
            self._connection.close()

    def _publish(self) -> None:
        channel = self._connection.channel()
        channel.queue_declare("q", durable=True)
        channel.confirm_delivery()
        for number in count():
            with self._change:
                self._change.wait_for(lambda: self.confirmed < self.wanted or self._is_ending)
            if self._is_ending:
                break
            channel.basic_publish("", "q", b"%d ".ljust(BODY_BYTES) % number, pika.BasicProperties(delivery_mode=2))
            self.confirmed = number + 1

    def want_some_more(self) -> None:
        """Than are confirmed."""
        with self._change:
            self.wanted = self.confirmed + SOME
            self._change.notify()

    def wait(self) -> None:
        """Until all that are wanted are confirmed."""
        until(lambda: self.confirmed == self.wanted)

    def end(self) -> None:
        """When all that are wanted are confirmed."""
        with self._change:
            self._is_ending = True
            self._change.notify()
        self.join(60)


class Consumer:
    """Takes what there is, and acknowledges it.

    Args:
        port: of the node.
    """

    def __init__(self, port: int) -> None:
        self._connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
        self._channel = self._connection.channel()
        self.numbers: list[int] = []

    def take_all(self) -> None:
        while (message := self._channel.basic_get("q"))[0] is not None:
            self.numbers.append(int(message[2].split()[0]))
            self._channel.basic_ack(message[0].delivery_tag)

    def declare(self) -> None:
        """Something that is to be kept, by a client that publishes nothing."""
        self._channel.queue_declare("another", durable=True)

    def close(self) -> None:
        self._connection.close()


def test_publishers_wait_while_etcd_is_full_and_nothing_is_lost(tmp_path: Path) -> None:
    quota = str(QUOTA_BYTES)
    environment = {
        "AMQP_BROKER_ETCD_QUOTA_BYTES": quota,
        "AMQP_BROKER_SEGMENT_SIZE_BYTES": str(2**20),
        "AMQP_BROKER_LEASE_TTL_MS": "60000",  # a machine that has much to do may not keep one of 3 s alive
    }
    cluster = ClusterOfThree(tmp_path, 3, None, ["--quota-backend-bytes", quota], environment)
    members = [Member(member.host, member.client_port, timeout_s=20.0) for member in cluster.members]
    try:
        owner = cluster.wait_for_owner()
        publisher, consumer = Publisher(owner.port), Consumer(owner.port)
        publisher.start()

        # The broker's own messages: publishers wait before etcd is full, and acknowledgements make space.
        until(lambda: _has_alarm(owner) and _is_blocked(owner))
        assert 'event="etcd fills up"' in owner.log
        assert "quota" in _reason_of_alarm(owner)
        publisher.want_some_more()
        consumer.take_all()
        publisher.wait()

        # What others write again and again: the nodes have etcd forget it.
        _fill(members[0], lambda number: b"other/")
        publisher.want_some_more()
        until(lambda: 'event="etcd was full and has space again"' in owner.log)
        publisher.wait()

        # What others have there to stay, and only they can remove.
        until(lambda: not _has_alarm(owner))
        said = owner.log.count('event="etcd is full"')
        _fill(members[0], lambda number: b"other/%d" % number)
        until(lambda: all(_has_alarm(node) for node in cluster.nodes))
        publisher.want_some_more()
        declaring = threading.Thread(target=consumer.declare, daemon=True)
        declaring.start()
        until(lambda: _is_blocked(owner) and owner.log.count('event="etcd is full"') > said)
        assert publisher.confirmed < publisher.wanted
        assert declaring.is_alive()
        _make_space(members)
        publisher.wait()
        declaring.join(60)
        until(lambda: not _has_alarm(owner))
        consumer.take_all()
        assert consumer.numbers == list(range(publisher.confirmed))
        publisher.end()
        consumer.close()
        assert [len(node.epochs()) for node in cluster.nodes] == [node is owner for node in cluster.nodes]
    finally:
        for member in members:
            member.close()
        cluster.end()


def _has_alarm(node: NodeProcess) -> bool:
    """Whether a node says over HTTP that publishers are to wait."""
    has_alarm = [one["disk_free_alarm"] for one in json.loads(ask(node, "/api/nodes")[1])]
    return any(has_alarm) and ask(node, "/api/health/checks/alarms")[0] == 503


def _reason_of_alarm(node: NodeProcess) -> str:
    """Why they are to wait, as the owner says."""
    nodes = json.loads(ask(node, "/api/nodes")[1])
    return "; ".join(one.get("disk_free_alarm_reason", "") for one in nodes)


def _is_blocked(node: NodeProcess) -> bool:
    """Whether it says so of a client, which is still connected."""
    return "blocked" in [one["state"] for one in json.loads(ask(node, "/api/connections")[1])]


def _fill(member: Member, key: Callable[[int], bytes]) -> None:
    """Write what is nobody's, until etcd takes no more."""
    refused: EtcdRefused | None = None
    for number in count():
        put = messages.put(key(number), bytes(OTHER_BYTES))
        try:
            member.call(messages.TRANSACTION, messages.transaction_request([], [put]))
        except EtcdRefused as error:
            refused = error
            break
    assert refused is not None
    assert refused.is_out_of_space


def _make_space(members: list[Member]) -> None:
    """What an administrator does: ``etcdctl del``, ``compaction``, ``defrag`` and ``alarm disarm``."""
    delete = messages.transaction_request([], [messages.delete(b"other/", b"other0")])
    members[0].call(messages.TRANSACTION, delete)
    revision = messages.StatusAnswer.read(members[0].call(messages.STATUS, b"")).revision
    members[0].call(messages.COMPACT, messages.compaction_request(revision, is_waited_for=True))
    for member in members:
        member.call(messages.DEFRAGMENT, b"")
    for member_id, alarm in messages.alarms_in(
        members[0].call(messages.ALARM, messages.alarm_request(messages.AlarmAction.LIST))
    ):
        members[0].call(messages.ALARM, messages.alarm_request(messages.AlarmAction.CLEAR, member_id, alarm))
