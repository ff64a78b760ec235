"""Content assembly, returns, confirms, transactions, and what a publish is refused for."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from pamqp import body, commands, header

from amqp_broker.protocols.amqp091 import remembered as remembered_module
from tests.support.client import Client, Cut, publish_frames, random_pieces, whole
from tests.support.memory_broker import MemoryBroker

LARGE_BYTES = 128 * 1024 * 1024


# --- content assembly


@pytest.mark.parametrize("size_bytes", [0, 1, 4087, 4088, 4089, 8176, 8177, 30_000])
def test_bodies_around_the_frame_size(broker: MemoryBroker, cut: Cut, size_bytes: int) -> None:
    client = Client(broker, cut=cut).open(frame_max=4096)
    channel = client.channel()
    channel.declare("q")
    content = (b"0123456789abcde" * (size_bytes // 15 + 1))[:size_bytes]
    channel.publish("", "q", content)
    message = channel.get("q")
    assert message is not None
    assert message.body == content
    assert client.largest_frame_bytes <= 4096


def test_a_body_in_frames_smaller_than_they_might_be(client: Client) -> None:
    channel = client.channel()
    channel.declare("q")
    parts = [b"a", b"bc", b"def", b"ghij"]
    channel.send(
        commands.Basic.Publish(routing_key="q"),
        header.ContentHeader(0, 10, commands.Basic.Properties()),
        *[body.ContentBody(part) for part in parts],
    )
    assert channel.drain("q") == [b"abcdefghij"]


def test_it_is_told_how_much_of_a_body_is_still_to_come(client: Client) -> None:
    channel, connection = client.channel(), client.connection
    channel.declare("q")
    properties = commands.Basic.Properties()
    channel.send(commands.Basic.Publish(routing_key="q"), header.ContentHeader(0, 10, properties))
    assert connection.missing_body_bytes == 10
    channel.send(body.ContentBody(b"abcd"))
    assert connection.missing_body_bytes == 6
    channel.send(body.ContentBody(b"efghij"))
    assert connection.missing_body_bytes == 0
    channel.send(commands.Basic.Publish(routing_key="q"), header.ContentHeader(0, 10, properties))
    channel.send(commands.Basic.Cancel("none"))  # in the middle of a message: the connection is over
    assert connection.missing_body_bytes == 0


def test_a_large_frame_goes_out_in_the_readers_frame_size(broker: MemoryBroker) -> None:
    writer, reader = Client(broker).open(frame_max=131_072), Client(broker).open(frame_max=4096)
    publishing, getting = writer.channel(), reader.channel()
    publishing.declare("q")
    publishing.publish("", "q", b"x" * 131_064)
    assert getting.drain("q") == [b"x" * 131_064]
    assert reader.largest_frame_bytes == 4096


def test_empty_body_frames_are_nothing(client: Client) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.send(commands.Basic.Publish(routing_key="q"), header.ContentHeader(0, 2, commands.Basic.Properties()))
    empty = b"\x03\x00\x01\x00\x00\x00\x00\xce"
    client.send_bytes(empty * 100)
    channel.send(body.ContentBody(b"a"))
    client.send_bytes(empty)
    channel.send(body.ContentBody(b"b"))
    assert channel.drain("q") == [b"ab"]


def test_a_body_in_many_small_frames_needs_no_more_memory_than_its_bytes(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    channel = client.channel()
    channel.declare("q")
    size_bytes = 100_000
    properties = header.ContentHeader(0, size_bytes, commands.Basic.Properties())
    channel.send(commands.Basic.Publish(routing_key="q"), properties)
    pieces = b"\x03\x00\x01\x00\x00\x00\x02ab\xce\x03\x00\x01\x00\x00\x00\x00\xce"
    tracemalloc.start()
    try:
        for _ in range(size_bytes // 2 - 1):
            client.connection.receive(pieces)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 2 * size_bytes
    channel.send(body.ContentBody(b"cd"))
    assert channel.drain("q") == [b"ab" * (size_bytes // 2 - 1) + b"cd"]


def test_many_channels_and_connections_remember_no_more_routes_than_one(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered_module, "ROUTES_REMEMBERED_MAX", 120)
    monkeypatch.setattr(remembered_module, "ROUTES_REMEMBERED_MIN", 30)

    def remembered(client: Client) -> int:
        for number in range(1, 11):
            channel = client.channel(number)
            for key in range(11):
                channel.publish("amq.direct", f"{number}.{key}", b"")
        return len(client.connection.remembered.targets)

    assert remembered(Client(broker).open()) == 110
    assert 0 < remembered(Client(broker).open()) <= 120 // 2
    for _ in range(7):
        Client(broker).open()
    assert 0 < remembered(Client(broker).open()) <= 30


def test_two_channels_send_their_contents_in_turns(client: Client) -> None:
    first, second = client.channel(1), client.channel(2)
    first.declare("q")
    frames = publish_frames("", "q", b"abc", 9), publish_frames("", "q", b"ABC", 9)
    for one, other in zip(*frames, strict=True):
        first.send(one)
        second.send(other)
    assert first.drain("q") == [b"abc", b"ABC"]


def test_a_body_larger_than_its_header_says(client: Client) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.send(
        commands.Basic.Publish(routing_key="q"),
        header.ContentHeader(0, 2, commands.Basic.Properties()),
        body.ContentBody(b"abc"),
        commands.Basic.Qos(),
    )
    assert client.closed_with().reply_code == 505


def test_properties_travel_unchanged(client: Client) -> None:
    channel = client.channel()
    channel.declare("q")
    properties: dict[str, Any] = {
        "content_type": "text/plain",
        "content_encoding": "utf-8",
        "headers": {"a": 1, "b": [True, None, {"c": "d"}]},
        "delivery_mode": 2,
        "priority": 9,
        "correlation_id": "c",
        "reply_to": "r",
        "message_id": "m",
        "message_type": "t",
        "user_id": "guest",
        "app_id": "a",
    }
    channel.publish("", "q", b"x", **properties)
    message = channel.get("q")
    assert message is not None
    assert message.properties is not None
    received = dict(message.properties)
    assert {name: received[name] for name in properties} == properties


def test_a_message_that_is_too_large(cut: Cut) -> None:
    broker = MemoryBroker(message_size_bytes_max=1000)
    channel = Client(broker, cut=cut).open().channel()
    channel.declare("q")
    channel.publish("", "q", b"x" * 1000)
    channel.publish("", "q", b"x" * 1001)
    close = channel.closed_with()
    assert close.reply_code == 406
    assert close.reply_text == "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000"
    assert (close.class_id, close.method_id) == (60, 40)
    assert broker.queue("q").ready_count == 1


@pytest.mark.parametrize("cut", [whole, random_pieces(3, 500_000)], ids=["whole", "in pieces"])
def test_a_body_of_128_mib(broker: MemoryBroker, cut: Cut) -> None:
    client = Client(broker, cut=cut).open()
    channel = client.channel()
    channel.declare("q")
    step_bytes = 131_064
    channel.send(commands.Basic.Publish(routing_key="q"))
    channel.send(header.ContentHeader(0, LARGE_BYTES, commands.Basic.Properties()))
    sent_bytes = 0
    while sent_bytes < LARGE_BYTES:
        size_bytes = min(step_bytes, LARGE_BYTES - sent_bytes)
        channel.send(body.ContentBody(bytes(size_bytes)))
        sent_bytes += size_bytes
    assert broker.queue("q").ready_bytes == LARGE_BYTES
    message = channel.get("q", no_ack=True)
    assert message is not None
    assert len(message.body) == LARGE_BYTES


# --- refusals


@pytest.mark.parametrize(
    ("exchange", "properties", "code", "text"),
    [
        ("missing", {}, 404, "NOT_FOUND - no exchange 'missing' in vhost '/'"),
        ("internal", {}, 403, "ACCESS_REFUSED - cannot publish to internal exchange 'internal' in vhost '/'"),
        ("", {"expiration": "abc"}, 406, "PRECONDITION_FAILED - invalid expiration 'abc': no_integer"),
        ("", {"expiration": "1.5"}, 406, "PRECONDITION_FAILED - invalid expiration '1.5': {leftover_string,\".5\"}"),
        ("", {"expiration": "-1"}, 406, "PRECONDITION_FAILED - invalid expiration '-1': {value_negative,-1}"),
        (
            "",
            {"user_id": "bob"},
            406,
            "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'",
        ),
        (
            "",
            {"headers": {"CC": "key"}},
            406,
            'PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",longstr}',
        ),
        (
            "",
            {"reply_to": "amq.rabbitmq.reply-to"},
            406,
            "PRECONDITION_FAILED - fast reply consumer does not exist",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, str | dict) else "",
)
def test_refused_publishes(client: Client, exchange: str, properties: dict[str, Any], code: int, text: str) -> None:
    channel = client.channel()
    channel.exchange("internal", internal=True)
    channel.declare("q")
    channel.publish(exchange, "q", b"x", **properties)
    close = channel.closed_with()
    assert (close.reply_code, close.reply_text) == (code, text)
    assert (close.class_id, close.method_id) == (60, 40)
    assert client.broker.queue("q").ready_count == 0


def test_the_same_mistake_is_refused_again_and_again(client: Client) -> None:
    client.channel(1).declare("q")
    for number in range(2, 6):
        channel = client.channel(number)
        channel.publish("", "q", b"x", expiration="abc")
        assert channel.closed_with().reply_code == 406


def test_immediate(client: Client) -> None:
    channel = client.channel()
    publish = commands.Basic.Publish(routing_key="q", immediate=True)
    channel.send(publish, header.ContentHeader(0, 0, commands.Basic.Properties()))
    close = client.closed_with()
    assert (close.reply_code, close.reply_text) == (540, "NOT_IMPLEMENTED - immediate=true")


def test_an_impersonator_may_be_somebody_else(broker: MemoryBroker, cut: Cut) -> None:
    broker.users.add("ada", "secret", tags=("impersonator",))
    broker.users.permit_all("ada", "/")
    channel = Client(broker, cut=cut).open(user="ada", password="secret").channel()
    channel.declare("q")
    channel.publish("", "q", b"x", user_id="bob")
    assert channel.drain("q") == [b"x"]


# --- routing as the publisher sees it


def test_a_route_is_found_anew_when_the_topology_changes(client: Client) -> None:
    channel = client.channel()
    channel.exchange("x")
    channel.publish("x", "k", b"nowhere")
    channel.declare("q")
    channel.bind("q", "x", "k")
    channel.publish("x", "k", b"here")
    channel.call(commands.Queue.Unbind(queue="q", exchange="x", routing_key="k"))
    channel.publish("x", "k", b"nowhere again")
    assert channel.drain("q") == [b"here"]
    channel.call(commands.Exchange.Delete(exchange="x"))
    channel.publish("x", "k", b"gone")
    assert channel.closed_with().reply_code == 404


def test_mandatory_comes_back_when_it_goes_nowhere(client: Client) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.publish("", "q", b"arrives", mandatory=True)
    channel.publish("", "nobody", b"returns" * 1000, mandatory=True, headers={"a": 1})
    channel.publish("", "nobody", b"is lost")
    (returned,) = channel.received()
    method = returned.expect(commands.Basic.Return)
    assert (method.reply_code, method.reply_text) == (312, "NO_ROUTE")
    assert (method.exchange, method.routing_key) == ("", "nobody")
    assert returned.body == b"returns" * 1000
    assert returned.headers == {"a": 1}


def test_carbon_copies(client: Client) -> None:
    channel = client.channel()
    for name in ("to", "cc", "bcc"):
        channel.declare(name)
    channel.publish("", "to", b"x", headers={"CC": ["cc", "to"], "BCC": ["bcc"]}, mandatory=True)
    for name in ("to", "cc", "bcc"):
        message = channel.get(name)
        assert message is not None
        assert message.expect(commands.Basic.GetOk).routing_key == "to"
        assert message.headers == {"CC": ["cc", "to"]}
        assert channel.get(name) is None


def test_a_carbon_copy_is_enough_for_mandatory(client: Client) -> None:
    channel = client.channel()
    channel.declare("cc")
    channel.publish("", "nobody", b"x", headers={"CC": ["cc"]}, mandatory=True)
    assert channel.received() == []
    assert channel.drain("cc") == [b"x"]


# --- confirms


def confirming(client: Client, number: int = 1, *queues: str) -> None:
    """Open a channel that confirms, with these queues."""
    channel = client.channel(number)
    for queue in queues:
        channel.declare(queue)
    channel.call(commands.Confirm.Select())


def confirmed(client: Client, number: int = 1) -> list[tuple[str, int]]:
    """The confirms that have come, one for each publish: name and number."""
    answers: list[tuple[str, int]] = []
    last = 0
    for one in client.received(number):
        method = one.method
        if isinstance(method, commands.Basic.Return):
            answers.append(("return", 0))
            continue
        assert isinstance(method, commands.Basic.Ack | commands.Basic.Nack)
        kind = "ack" if isinstance(method, commands.Basic.Ack) else "nack"
        tag = method.delivery_tag
        assert tag is not None
        answers.extend((kind, covered) for covered in range(last + 1 if method.multiple else tag, tag + 1))
        last = tag
    return answers


def test_confirms_are_numbered_from_one_in_each_channel(client: Client) -> None:
    confirming(client, 1, "q")
    confirming(client, 2)
    for number in (1, 2, 1, 2):
        client.send(*publish_frames("", "q", b"x", 131_072), channel=number)
    assert confirmed(client, 1) == [("ack", 1), ("ack", 2)]
    assert confirmed(client, 2) == [("ack", 1), ("ack", 2)]


def test_what_was_published_before_is_not_confirmed(client: Client) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.publish("", "q", b"before")
    channel.call(commands.Confirm.Select())
    channel.call(commands.Confirm.Select())
    channel.publish("", "q", b"after")
    assert confirmed(client) == [("ack", 1)]


def test_one_chunk_of_many_publishes_is_confirmed_together(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    confirming(client, 1, "q")
    frames = [frame for _ in range(50) for frame in publish_frames("", "q", b"x", 131_072)]
    client.send(*frames, channel=1)
    (answer,) = client.received(1)
    ack = answer.expect(commands.Basic.Ack)
    assert (ack.delivery_tag, ack.multiple) == (50, True)


def test_refusals_among_confirms_come_in_order(broker: MemoryBroker, cut: Cut) -> None:
    client = Client(broker, cut=cut).open()
    confirming(client, 1, "q")
    client.send(
        commands.Queue.Declare(queue="full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"}), channel=1
    )
    client.received(1)
    keys = ["full", "q", "full", "q", "q", "full"]
    client.send(*[frame for key in keys for frame in publish_frames("", key, b"x", 131_072)], channel=1)
    kinds = ["ack", "ack", "nack", "ack", "ack", "nack"]
    assert confirmed(client) == list(zip(kinds, range(1, 7), strict=True))


def test_unroutable_is_confirmed_after_its_return(client: Client) -> None:
    confirming(client)
    frames = [
        *publish_frames("", "nobody", b"x", 131_072, mandatory=True),
        *publish_frames("", "nobody", b"x", 131_072, mandatory=True),
    ]
    client.send(*frames, channel=1)
    answers = confirmed(client)
    assert sorted(answers) == [("ack", 1), ("ack", 2), ("return", 0), ("return", 0)]
    assert answers[0] == ("return", 0)
    assert answers[-1] == ("ack", 2)


def test_one_queue_that_refuses_is_enough_for_a_nack(client: Client) -> None:
    confirming(client, 1, "open")
    channel_frames = [
        commands.Queue.Declare(queue="full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"}),
        commands.Queue.Bind(queue="full", exchange="amq.fanout"),
        commands.Queue.Bind(queue="open", exchange="amq.fanout"),
    ]
    client.send(*channel_frames, channel=1)
    client.received(1)
    client.send(*publish_frames("amq.fanout", "", b"x", 131_072), channel=1)
    assert confirmed(client) == [("nack", 1)]
    assert client.broker.queue("open").ready_count == 1


def test_confirms_come_before_channel_close_ok(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    confirming(client, 1, "q")
    close = commands.Channel.Close(200, "bye", 0, 0)
    client.send(*publish_frames("", "q", b"x", 131_072), close, channel=1)
    assert [one.method.name for one in client.received(1)] == ["Basic.Ack", "Channel.CloseOk"]


def test_a_channel_that_failed_confirms_nothing_more(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    confirming(client, 1, "q")
    client.send(
        *publish_frames("", "q", b"x", 131_072), commands.Queue.Declare(queue="missing", passive=True), channel=1
    )
    names = [one.method.name for one in client.received(1)]
    assert names[-1] == "Channel.Close"
    assert "Basic.Ack" not in names[names.index("Channel.Close") :]


def test_the_number_of_a_publish_that_failed_is_not_the_next_channels(client: Client) -> None:
    confirming(client, 1, "q")
    client.send(*publish_frames("missing", "q", b"x", 131_072), channel=1)
    assert client.received(1)[-1].expect(commands.Channel.Close).reply_code == 404
    client.send(commands.Channel.CloseOk(), channel=1)
    confirming(client, 1)
    client.send(*publish_frames("", "q", b"x", 131_072), channel=1)
    assert confirmed(client) == [("ack", 1)]


# --- transactions


def test_publishes_wait_for_the_commit(client: Client) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.call(commands.Tx.Select())
    channel.publish("", "q", b"one")
    channel.publish("", "q", b"two")
    assert client.broker.queue("q").ready_count == 0
    channel.call(commands.Tx.Commit())
    assert channel.drain("q") == [b"one", b"two"]


def test_rolled_back_publishes_are_nothing(client: Client) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.call(commands.Tx.Select())
    channel.publish("", "q", b"one")
    channel.call(commands.Tx.Rollback())
    channel.publish("", "q", b"two")
    channel.call(commands.Tx.Commit())
    assert channel.drain("q") == [b"two"]


def test_acknowledgements_wait_for_the_commit(client: Client) -> None:
    channel = client.channel()
    queue = client.broker.virtual_host.queues
    channel.declare("q")
    for content in (b"one", b"two", b"three"):
        channel.publish("", "q", content)
    channel.call(commands.Tx.Select())
    for _ in range(3):
        channel.get("q")
    channel.ack(1)
    channel.nack(2, requeue=True)
    channel.reject(3, requeue=False)
    assert (queue["q"].ready_count, queue["q"].unacknowledged_count) == (0, 3)
    channel.call(commands.Tx.Commit())
    assert (queue["q"].ready_count, queue["q"].unacknowledged_count) == (1, 0)
    assert channel.drain("q") == [b"two"]


def test_rolled_back_acknowledgements_may_be_given_again(client: Client) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.publish("", "q", b"one")
    channel.publish("", "q", b"two")
    channel.call(commands.Tx.Select())
    channel.get("q")
    channel.get("q")
    channel.ack(2, multiple=True)
    channel.call(commands.Tx.Rollback())
    channel.ack(0, multiple=True)
    channel.call(commands.Tx.Commit())
    assert client.broker.queue("q").unacknowledged_count == 0
    assert channel.received() == []


def test_an_acknowledgement_cannot_be_given_twice_in_one_transaction(client: Client) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.publish("", "q", b"one")
    channel.call(commands.Tx.Select())
    channel.get("q")
    channel.ack(1)
    channel.ack(1)
    close = channel.closed_with()
    assert (close.reply_code, close.reply_text) == (406, "PRECONDITION_FAILED - unknown delivery tag 1")
    assert client.broker.queue("q").ready_count == 1


def test_an_empty_acknowledgement_rolled_back(client: Client) -> None:
    channel = client.channel()
    channel.call(commands.Tx.Select())
    channel.ack(0, multiple=True)
    channel.call(commands.Tx.Rollback())
    channel.ack(0, multiple=True)
    channel.call(commands.Tx.Commit())


def test_a_lost_connection_rolls_back(client: Client, broker: MemoryBroker) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.publish("", "q", b"one")
    channel.call(commands.Tx.Select())
    channel.get("q")
    channel.ack(1)
    channel.publish("", "q", b"never")
    client.connection.lost("reset by peer")
    assert [message.body for message in broker.queue("q").messages()] == [b"one"]
    assert broker.queue("q").unacknowledged_count == 0


def test_a_refused_publish_is_a_partial_completion(client: Client) -> None:
    channel = client.channel()
    channel.declare("full", {"x-max-length": 0, "x-overflow": "reject-publish"})
    channel.call(commands.Tx.Select())
    channel.publish("", "full", b"x")
    channel.send(commands.Tx.Commit())
    close = channel.closed_with()
    assert (close.reply_code, close.reply_text) == (406, "PRECONDITION_FAILED - partial tx completion")


def test_a_missing_exchange_is_told_at_once(client: Client) -> None:
    channel = client.channel()
    channel.call(commands.Tx.Select())
    channel.publish("missing", "k", b"x")
    assert channel.closed_with().reply_code == 404


@pytest.mark.parametrize("mandatory", [False, True])
def test_a_queue_that_is_gone_at_the_commit(client: Client, mandatory: bool) -> None:
    channel, other = client.channel(1), client.channel(2)
    channel.declare("q", {"x-message-ttl": 100})
    channel.call(commands.Tx.Select())
    channel.publish("", "q", b"x", mandatory=mandatory)
    other.call(commands.Queue.Delete(queue="q"))
    channel.send(commands.Tx.Commit())
    names = [method.name for method in channel.methods()]
    assert names == [*(["Basic.Return"] if mandatory else []), "Tx.CommitOk"]
    assert client.broker.paging.used_bytes == 0
    assert client.broker.timers.next_deadline_ms() is None


def test_returns_come_before_commit_ok(client: Client) -> None:
    channel = client.channel()
    channel.call(commands.Tx.Select())
    channel.publish("", "nobody", b"x", mandatory=True)
    assert channel.received() == []
    channel.send(commands.Tx.Commit())
    assert [method.name for method in channel.methods()] == ["Basic.Return", "Tx.CommitOk"]


def test_transactions_and_confirms_do_not_mix(client: Client) -> None:
    first, second = client.channel(1), client.channel(2)
    first.call(commands.Tx.Select())
    first.send(commands.Confirm.Select())
    assert first.closed_with().reply_text == "PRECONDITION_FAILED - cannot switch from tx to confirm mode"
    second.call(commands.Confirm.Select())
    second.send(commands.Tx.Select())
    assert second.closed_with().reply_text == "PRECONDITION_FAILED - cannot switch from confirm to tx mode"


@pytest.mark.parametrize("method", [commands.Tx.Commit(), commands.Tx.Rollback()], ids=lambda method: str(method.name))
def test_not_transactional(client: Client, method: commands.Tx.Commit) -> None:
    channel = client.channel()
    channel.send(method)
    assert channel.closed_with().reply_text == "PRECONDITION_FAILED - channel is not transactional"
