"""queue.declare, bind, unbind, purge and delete; names, exclusiveness, equivalence. Special arguments are elsewhere."""

from __future__ import annotations

import re
from typing import Any

import pytest

from interop.codec import MethodType
from interop.raw_client import Basic, Channel, ChannelUnderTest, Client, Connection, Queue, T
from interop.under_test import BrokerUnderTest
from interop.waiting import until


def locked(queue: str) -> str:
    return (
        f"cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be originally declared on "
        "another connection or the exclusive property value does not match that of the original declaration."
    )


# queue.declare


def test_declare(ch: ChannelUnderTest, q: str) -> None:
    reply = ch.declare(q)
    assert (reply.queue, reply.message_count, reply.consumer_count) == (q, 0, 0)


def test_declare_counts_ready_messages_and_consumers(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    ch.get_one(q, no_ack=False)
    reply = ch.declare(q)
    assert (reply.message_count, reply.consumer_count) == (2, 0)
    ch.qos(1)
    ch.consume(q)
    reply = ch.call(Queue.Declare, queue=q)
    assert (reply.message_count, reply.consumer_count) == (1, 1)


def test_declare_without_waiting(ch: ChannelUnderTest, q: str) -> None:
    ch.send(Queue.Declare, queue=q, nowait=True)
    assert ch.depth(q) == (0, 0)


def test_server_named(ch: ChannelUnderTest) -> None:
    names = [ch.declare(exclusive=True).queue for _ in range(3)]
    assert len(set(names)) == 3
    for name in names:
        assert re.fullmatch(r"amq\.gen-[A-Za-z0-9_-]{22}", name)


def test_server_named_is_last_declared(ch: ChannelUnderTest) -> None:
    name = ch.declare(exclusive=True).queue
    ch.publish("", name, b"body")
    assert ch.get_one("").body == b"body"


def test_reserved_prefix(ch: ChannelUnderTest) -> None:
    ch.send(Queue.Declare, queue="amq.foo")
    ch.expect_close(403, "queue name 'amq.foo' contains reserved prefix 'amq.*'", cause=Queue.Declare)


def test_reserved_prefix_in_a_passive_declare(ch: ChannelUnderTest) -> None:
    ch.send(Queue.Declare, queue="amq.foo", passive=True)
    ch.expect_close(404, "no queue 'amq.foo' in vhost '/'", cause=Queue.Declare)


def test_redeclare_of_a_server_named_queue_by_its_name_is_refused(ch: ChannelUnderTest) -> None:
    """Not creation, and still: the prefix is looked at before the queue is."""
    name = ch.declare(exclusive=True).queue
    ch.send(Queue.Declare, queue=name, exclusive=True)
    ch.expect_close(403, f"queue name '{name}' contains reserved prefix 'amq.*'", cause=Queue.Declare)


@pytest.mark.parametrize("name", ["a\r\nb", "\na\rb\n"])
def test_line_ends_are_taken_out_of_names(ch: ChannelUnderTest, name: str) -> None:
    assert ch.declare(name, exclusive=True).queue == "ab"
    assert ch.declare(name, passive=True).queue == "ab"


@pytest.mark.parametrize("name", ["x" * 255, "käse 🧀", "with space", "a/b:c", "%2F", "\0"])
def test_names_may_be_anything(ch: ChannelUnderTest, name: str) -> None:
    assert ch.declare(name, exclusive=True).queue == name
    ch.publish("", name, b"body")
    assert ch.get_one(name).body == b"body"


def test_passive_declare_of_a_missing_queue(ch: ChannelUnderTest, q: str) -> None:
    ch.send(Queue.Declare, queue=q, passive=True)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'", cause=Queue.Declare)


def test_passive_declare_ignores_all_else(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    reply = ch.declare(q, passive=True, durable=True, auto_delete=True, exclusive=True, arguments={"x-expires": "bad"})
    assert reply.queue == q


def test_passive_declare_without_a_name(ch: ChannelUnderTest) -> None:
    ch.send(Queue.Declare, queue="", passive=True)
    ch.expect_close(404, "no queue '' in vhost '/'", cause=Queue.Declare)


def test_passive_declare_makes_it_the_last_declared(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"body")
    ch.sync()
    other = client.channel()
    other.declare(q, passive=True)
    assert other.get_one("").body == b"body"


# Equivalence


@pytest.mark.parametrize(
    ("first", "second", "argument", "rest"),
    [
        ({}, {"durable": True}, "durable", "received 'true' but current is 'false'"),
        ({"durable": True}, {}, "durable", "received 'false' but current is 'true'"),
        ({}, {"auto_delete": True}, "auto_delete", "received 'true' but current is 'false'"),
        (
            {"arguments": {"x-message-ttl": 1000}},
            {},
            "x-message-ttl",
            "received none but current is the value '1000' of type 'signedint'",
        ),
        (
            {},
            {"arguments": {"x-message-ttl": 1000}},
            "x-message-ttl",
            "received the value '1000' of type 'signedint' but current is none",
        ),
        (
            {"arguments": {"x-message-ttl": 1000}},
            {"arguments": {"x-message-ttl": 2000}},
            "x-message-ttl",
            "received '2000' but current is '1000'",
        ),
        (
            {"arguments": {"x-dead-letter-exchange": "a"}},
            {"arguments": {"x-dead-letter-exchange": "b"}},
            "x-dead-letter-exchange",
            "received 'b' but current is 'a'",
        ),
        (
            {"arguments": {"x-single-active-consumer": True}},
            {},
            "x-single-active-consumer",
            "received none but current is the value 'true' of type 'bool'",
        ),
        (
            {"arguments": {"x-max-length": 1, "x-expires": 60000}},
            {"durable": True, "arguments": {"x-max-length": 2}},
            "durable",
            "received 'true' but current is 'false'",
        ),
    ],
    ids=[
        "durable",
        "transient",
        "auto-delete",
        "was set",
        "was not set",
        "other value",
        "text",
        "bool",
        "durable first",
    ],
)
def test_redeclare_that_does_not_match(
    ch: ChannelUnderTest, q: str, first: dict[str, Any], second: dict[str, Any], argument: str, rest: str
) -> None:
    ch.declare(q, **first)
    ch.send(Queue.Declare, queue=q, **second)
    text = f"inequivalent arg '{argument}' for queue '{q}' in vhost '/': {rest}"
    ch.expect_close(406, text, cause=Queue.Declare)


def test_redeclare_with_a_name_of_another_type(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-queue-type": "classic"})
    ch.declare(q)
    ch.send(Queue.Declare, queue=q, durable=True, arguments={"x-queue-type": "quorum"})
    ch.expect_close(
        406,
        f"inequivalent arg 'durable' for queue '{q}' in vhost '/': received 'true' but current is 'false'",
        cause=Queue.Declare,
    )


@pytest.mark.parametrize("tag", ["b", "B", "s", "u", "I", "i", "l"])
def test_widths_of_integers_do_not_matter(ch: ChannelUnderTest, q: str, tag: str) -> None:
    ch.declare(q, arguments={"x-max-length": T("l", 100)})
    ch.declare(q, arguments={"x-max-length": T(tag, 100)})


def test_other_arguments_are_not_compared(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-foo": 1, "y": "z"})
    ch.declare(q, arguments={"x-foo": "other"})
    ch.declare(q)


# Exclusive queues


def test_exclusive_queue_is_used_by_all_channels_of_its_connection(
    client: Client, ch: ChannelUnderTest, q: str
) -> None:
    ch.declare(q, exclusive=True)
    other = client.channel()
    other.publish("", q, b"body")
    assert other.get_one(q).body == b"body"
    other.declare(q, exclusive=True)


EXCLUSIVE_CASES: dict[str, tuple[MethodType, dict[str, Any]]] = {
    "declare": (Queue.Declare, {}),
    "exclusive declare": (Queue.Declare, {"exclusive": True}),
    "passive declare": (Queue.Declare, {"passive": True}),
    "bind": (Queue.Bind, {"exchange": "amq.direct"}),
    "unbind": (Queue.Unbind, {"exchange": "amq.direct", "routing_key": "bound"}),
    "purge": (Queue.Purge, {}),
    "delete": (Queue.Delete, {}),
    "get": (Basic.Get, {}),
    "consume": (Basic.Consume, {}),
}


@pytest.mark.parametrize("case", EXCLUSIVE_CASES)
def test_exclusive_queue_is_locked_for_others(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, case: str) -> None:
    method, fields = EXCLUSIVE_CASES[case]
    ch.declare(q, exclusive=True)
    ch.bind(q, "amq.direct", "bound")
    other = broker.channel()
    other.send(method, queue=q, **fields)
    other.expect_close(405, locked(q), cause=method)


def test_exclusive_queue_may_be_published_to_by_others(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, exclusive=True)
    other = broker.channel()
    other.publish("", q, b"body")
    other.sync()
    assert ch.get_one(q).body == b"body"


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
def test_redeclare_with_other_exclusiveness(ch: ChannelUnderTest, q: str, first: bool, second: bool) -> None:
    ch.declare(q, exclusive=first)
    ch.send(Queue.Declare, queue=q, exclusive=second)
    ch.expect_close(405, locked(q), cause=Queue.Declare)


def test_exclusive_queue_ends_with_its_connection(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    owner = broker.connect()
    owner.channel().declare(q, exclusive=True)
    owner.call(Connection.Close, reply_code=200, reply_text="bye")
    ch.send(Queue.Declare, queue=q, passive=True)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'")


def test_exclusive_queue_outlives_its_channel(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, exclusive=True)
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    assert client.channel().depth(q) == (0, 0)


def test_exclusive_durable_queue_is_transient(ch: ChannelUnderTest, q: str) -> None:
    """Exclusive wins: both declarations count as not durable, so they are equivalent."""
    ch.declare(q, exclusive=True, durable=True)
    ch.declare(q, exclusive=True, durable=False)


# Auto-delete


def test_auto_delete_after_the_last_consumer(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, auto_delete=True)
    tags = [ch.consume(q), ch.consume(q)]
    ch.call(Basic.Cancel, consumer_tag=tags[0])
    assert ch.depth(q) == (0, 1)
    ch.call(Basic.Cancel, consumer_tag=tags[1])
    ch.send(Queue.Declare, queue=q, passive=True)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'")


def test_auto_delete_waits_for_a_first_consumer(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, auto_delete=True)
    ch.publish("", q, b"body")
    ch.get_one(q)
    assert ch.depth(q) == (0, 0)


def test_auto_delete_when_the_channel_of_the_consumer_closes(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, auto_delete=True)
    consumer = client.channel()
    consumer.consume(q)
    consumer.call(Channel.Close, reply_code=200, reply_text="done")
    ch.send(Queue.Declare, queue=q, passive=True)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'")


# The empty queue name


OPERATIONS_WITH_QUEUE: dict[str, tuple[MethodType, dict[str, Any]]] = {
    "bind": (Queue.Bind, {"exchange": "amq.direct"}),
    "unbind": (Queue.Unbind, {"exchange": "amq.direct"}),
    "purge": (Queue.Purge, {}),
    "delete": (Queue.Delete, {}),
    "get": (Basic.Get, {}),
    "consume": (Basic.Consume, {}),
}


@pytest.mark.parametrize("case", OPERATIONS_WITH_QUEUE)
def test_empty_name_is_the_last_declared(ch: ChannelUnderTest, q: str, case: str) -> None:
    method, fields = OPERATIONS_WITH_QUEUE[case]
    ch.declare(q)
    ch.call(method, queue="", **fields)


@pytest.mark.parametrize("case", OPERATIONS_WITH_QUEUE)
def test_empty_name_when_none_was_declared(ch: ChannelUnderTest, case: str) -> None:
    method, fields = OPERATIONS_WITH_QUEUE[case]
    ch.send(method, queue="", **fields)
    ch.expect_close(404, "no previously declared queue", cause=method)


def test_the_last_declared_is_the_channels_own(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    other = client.channel()
    other.send(Basic.Get, queue="")
    other.expect_close(404, "no previously declared queue")


def test_empty_name_and_key_bind_by_the_queues_name(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.bind("", "amq.direct", "")
    ch.publish("amq.direct", q, b"by its name")
    assert ch.get_one(q).body == b"by its name"


def test_name_and_empty_key_bind_by_the_empty_key(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.bind(q, "amq.direct", "")
    ch.publish("amq.direct", q, b"by its name")
    ch.publish("amq.direct", "", b"by the empty key")
    assert ch.drain(q) == [b"by the empty key"]


# bind and unbind


def test_bind_twice_is_one_binding(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.bind(q, "amq.direct", "key")
    ch.bind(q, "amq.direct", "key")
    ch.publish("amq.direct", "key", b"once")
    assert ch.drain(q) == [b"once"]
    ch.call(Queue.Unbind, queue=q, exchange="amq.direct", routing_key="key")
    ch.publish("amq.direct", "key", b"never")
    assert ch.drain(q) == []


def test_several_bindings_give_one_copy(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    for pattern in ("a.*", "*.b", "#"):
        ch.bind(q, "amq.topic", pattern)
    ch.publish("amq.topic", "a.b", b"once")
    assert ch.drain(q) == [b"once"]


def test_bind_of_a_missing_queue(ch: ChannelUnderTest, q: str) -> None:
    ch.send(Queue.Bind, queue=q, exchange="amq.direct", routing_key="key")
    ch.expect_close(404, f"no queue '{q}' in vhost '/'", cause=Queue.Bind)


def test_bind_to_a_missing_exchange(ch: ChannelUnderTest, q: str, x: str) -> None:
    ch.declare(q)
    ch.send(Queue.Bind, queue=q, exchange=x, routing_key="key")
    ch.expect_close(404, f"no exchange '{x}' in vhost '/'", cause=Queue.Bind)


def test_bind_of_two_that_are_missing_names_the_exchange(ch: ChannelUnderTest, q: str, x: str) -> None:
    ch.send(Queue.Bind, queue=q, exchange=x, routing_key="key")
    ch.expect_close(404, f"no exchange '{x}' in vhost '/'", cause=Queue.Bind)


def test_unbind_of_what_is_missing_succeeds(ch: ChannelUnderTest, q: str, x: str) -> None:
    ch.call(Queue.Unbind, queue=q, exchange="amq.direct", routing_key="key")
    ch.declare(q)
    ch.call(Queue.Unbind, queue=q, exchange=x, routing_key="key")


def test_unbind_without_a_binding_does_not_ask_who_owns_the_queue(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str
) -> None:
    ch.declare(q, exclusive=True)
    broker.channel().call(Queue.Unbind, queue=q, exchange="amq.direct", routing_key="never bound")


@pytest.mark.parametrize("method", [Queue.Bind, Queue.Unbind])
def test_bind_to_the_default_exchange(ch: ChannelUnderTest, q: str, method: type[Queue.Bind]) -> None:
    ch.declare(q)
    ch.send(method, queue=q, exchange="", routing_key="key")
    ch.expect_close(403, "operation not permitted on the default exchange", cause=method)


def test_unbind_of_a_missing_binding_succeeds(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.call(Queue.Unbind, queue=q, exchange="amq.direct", routing_key="never bound")


def test_unbind_needs_the_same_arguments(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.bind(q, "amq.direct", "key", arguments={"a": 1})
    ch.call(Queue.Unbind, queue=q, exchange="amq.direct", routing_key="key")
    ch.publish("amq.direct", "key", b"still bound")
    assert ch.drain(q) == [b"still bound"]
    ch.call(Queue.Unbind, queue=q, exchange="amq.direct", routing_key="key", arguments={"a": 1})
    ch.publish("amq.direct", "key", b"no longer")
    assert ch.drain(q) == []


def test_bind_without_waiting(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.send(Queue.Bind, queue=q, exchange="amq.direct", routing_key="key", nowait=True)
    ch.publish("amq.direct", "key", b"body")
    assert ch.drain(q) == [b"body"]


def test_deleting_a_queue_removes_its_bindings(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.bind(q, "amq.direct", "key")
    ch.call(Queue.Delete, queue=q)
    ch.declare(q)
    ch.publish("amq.direct", "key", b"body", mandatory=True)
    assert ch.expect(Basic.Return).reply_code == 312


# purge


def test_purge_counts_what_was_ready(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    held = ch.get_one(q, no_ack=False)
    assert ch.call(Queue.Purge, queue=q).message_count == 2
    ch.nack(held.delivery_tag)
    assert ch.drain(q) == [b"1"]


def test_purge_without_waiting(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.send(Queue.Purge, queue=q, nowait=True)
    assert ch.depth(q) == (0, 0)


def test_purge_of_a_missing_queue(ch: ChannelUnderTest, q: str) -> None:
    ch.send(Queue.Purge, queue=q)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'", cause=Queue.Purge)


# delete


def test_delete_counts_what_was_ready(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    ch.get_one(q, no_ack=False)
    assert ch.call(Queue.Delete, queue=q).message_count == 2


def test_delete_of_a_missing_queue_succeeds(ch: ChannelUnderTest, q: str) -> None:
    assert ch.call(Queue.Delete, queue=q).message_count == 0


def test_delete_if_unused(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(q, consumer_tag="t")
    ch.send(Queue.Delete, queue=q, if_unused=True)
    ch.expect_close(406, f"queue '{q}' in vhost '/' in use", cause=Queue.Delete)
    ch.reopen()
    assert ch.call(Queue.Delete, queue=q, if_unused=True).message_count == 0


def test_delete_if_empty(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.send(Queue.Delete, queue=q, if_empty=True)
    ch.expect_close(406, f"queue '{q}' in vhost '/' not empty", cause=Queue.Delete)
    ch.reopen()
    ch.get_one(q)
    ch.call(Queue.Delete, queue=q, if_empty=True)


def test_delete_if_empty_looks_at_unacknowledged_messages_too(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    ch.get_one(q, no_ack=False)
    ch.call(Queue.Delete, queue=q, if_empty=True)


def test_delete_if_unused_and_if_empty_names_the_messages(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.qos(1)
    ch.consume(q)
    ch.send(Queue.Delete, queue=q, if_unused=True, if_empty=True)
    ch.expect_close(406, f"queue '{q}' in vhost '/' not empty", cause=Queue.Delete)


def test_delete_without_waiting(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.send(Queue.Delete, queue=q, nowait=True)
    ch.send(Queue.Declare, queue=q, passive=True)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'")


def test_acknowledgements_after_the_queue_was_deleted(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    first = ch.get_one(q, no_ack=False)
    second = ch.get_one(q, no_ack=False)
    ch.call(Queue.Delete, queue=q)
    ch.ack(first.delivery_tag)
    ch.nack(second.delivery_tag)
    ch.sync()


def test_server_named_queue_need_not_be_exclusive(broker: BrokerUnderTest, ch: ChannelUnderTest) -> None:
    name = ch.declare("", durable=True).queue
    other = broker.channel()
    assert other.declare(name, passive=True).queue == name
    other.call(Queue.Delete, queue=name)


def test_bindings_differ_by_the_width_of_integers(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.bind(q, "amq.direct", q, arguments={"a": T("I", 1)})
    ch.call(Queue.Unbind, queue=q, exchange="amq.direct", routing_key=q, arguments={"a": T("l", 1)})
    ch.publish("amq.direct", q, b"still bound")
    assert ch.drain(q) == [b"still bound"]


def test_order_of_binding_arguments_does_not_matter(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.bind(q, "amq.direct", q, arguments={"a": 1, "b": 2})
    ch.call(Queue.Unbind, queue=q, exchange="amq.direct", routing_key=q, arguments={"b": 2, "a": 1})
    ch.publish("amq.direct", q, b"no longer", mandatory=True)
    assert ch.expect(Basic.Return).reply_code == 312


def test_exclusive_queue_ends_with_a_connection_that_is_lost(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str
) -> None:
    """That takes the broker a moment; until then it answers 405."""
    lost = broker.connect()
    lost.channel().declare(q, exclusive=True)
    lost.abort()

    def is_gone() -> bool:
        ch.send(Queue.Declare, queue=q, passive=True)
        close = ch.take(Channel.Close)
        ch.send(Channel.CloseOk)
        ch.reopen()
        assert close.reply_code in (404, 405)
        return bool(close.reply_code == 404)

    until(is_gone)


def test_delete_by_the_owner_frees_the_name(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, exclusive=True)
    ch.call(Queue.Delete, queue=q)
    broker.channel().declare(q, durable=True)


def test_unacknowledged_messages_of_a_deleted_queue_do_not_come_back(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"1")
    tag = ch.get_one(q, no_ack=False).delivery_tag
    ch.call(Queue.Delete, queue=q)
    ch.declare(q)
    ch.nack(tag)
    ch.sync()
    assert ch.depth(q) == (0, 0)
