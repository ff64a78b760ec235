"""How channels and connections end: soft and hard errors, what is ignored meanwhile, crossed closes, lost sockets."""

from __future__ import annotations

import pytest
from pamqp import body, commands, frame, header

from amqp_broker.broker.message import Address
from amqp_broker.protocols.amqp091.connection import CLOSING_MS_MAX, SILENT_CLOSE_MS
from tests.support.client import Client, Cut, Received, publish_frames
from tests.support.memory_broker import MemoryBroker
from tests.unit.conftest import Connect

MISSING = commands.Queue.Declare(queue="missing", passive=True)


# --- soft errors


def test_a_soft_error_closes_the_channel_only(client: Client) -> None:
    channel, other = client.channel(1), client.channel(2)
    channel.send(MISSING)
    close = channel.closed_with()
    assert (close.reply_code, close.reply_text) == (404, "NOT_FOUND - no queue 'missing' in vhost '/'")
    assert (close.class_id, close.method_id) == (50, 10)
    other.declare("q")


def test_a_channel_may_be_opened_again_after_its_close_was_answered(client: Client) -> None:
    channel = client.channel()
    channel.send(MISSING)
    channel.closed_with()
    channel.send(commands.Channel.CloseOk())
    client.channel(1).declare("q")


def test_while_a_channel_closes_all_is_ignored(client: Client, broker: MemoryBroker) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.send(MISSING)
    channel.closed_with()
    channel.publish("", "q", b"too late")
    channel.send(commands.Queue.Declare(queue="too-late"), commands.Basic.Ack(99), MISSING, commands.Channel.Open())
    channel.send(body.ContentBody(b"stray"))
    assert channel.received() == []
    assert "too-late" not in broker.virtual_host.queues
    assert broker.queue("q").ready_count == 0


def test_a_close_that_crosses_ours_is_answered(client: Client) -> None:
    channel = client.channel()
    channel.send(MISSING, commands.Channel.Close(200, "bye", 0, 0))
    assert [method.name for method in channel.methods()] == ["Channel.Close", "Channel.CloseOk"]
    channel.send(commands.Channel.CloseOk())
    client.channel(1)


def test_a_soft_error_gives_back_what_the_channel_had(client: Client, broker: MemoryBroker) -> None:
    channel = client.channel(1)
    channel.declare("q")
    channel.publish("", "q", b"one")
    channel.publish("", "q", b"two")
    assert channel.get("q") is not None
    channel.send(MISSING)
    channel.closed_with()
    assert client.channel(2).drain("q") == [b"one", b"two"]


def test_a_text_is_cut_at_255_bytes(client: Client) -> None:
    channel = client.channel()
    channel.send(commands.Queue.Declare(queue="x" * 250, passive=True))
    text = channel.closed_with().reply_text
    assert text is not None
    assert len(text) == 255
    assert text.startswith("NOT_FOUND - no queue 'xxx")
    assert text.endswith("...")


# --- hard errors


@pytest.mark.parametrize(
    ("frames", "code", "text"),
    [
        ([commands.Channel.Open()], 504, "CHANNEL_ERROR - second 'channel.open' seen"),
        ([commands.Basic.Qos(10, 0)], 540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)"),
        ([commands.Channel.Flow(False)], 540, "NOT_IMPLEMENTED - active=false"),
        ([commands.Basic.Recover(False)], 540, "NOT_IMPLEMENTED - requeue=false"),
        (
            [body.ContentBody(b"x")],
            505,
            "UNEXPECTED_FRAME - expected method frame, got non method frame instead",
        ),
        (
            [commands.Basic.Publish(), body.ContentBody(b"x")],
            505,
            "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
        ),
        (
            [commands.Basic.Publish(), commands.Basic.Publish()],
            505,
            "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
        ),
        (
            [
                commands.Basic.Publish(),
                header.ContentHeader(0, 5, commands.Basic.Properties()),
                commands.Basic.Publish(),
            ],
            505,
            "UNEXPECTED_FRAME - expected content body, got non content body frame instead",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hard_errors(client: Client, frames: list[Client], code: int, text: str) -> None:
    channel = client.channel()
    client.send(*frames, channel=channel.number)  # type: ignore[arg-type]
    close = client.closed_with()
    assert (close.reply_code, close.reply_text) == (code, text)


def test_a_method_on_a_channel_that_was_never_opened(client: Client) -> None:
    client.send(commands.Queue.Declare(queue="q"), channel=3)
    close = client.closed_with()
    assert (close.reply_code, close.reply_text) == (504, "CHANNEL_ERROR - expected 'channel.open'")


def test_a_method_on_a_channel_that_is_closed(client: Client) -> None:
    client.channel(1).call(commands.Channel.Close(200, "bye", 0, 0))
    client.send(commands.Basic.Qos(), channel=1)
    assert client.closed_with().reply_code == 504


def test_an_unknown_method_ends_the_connection_in_silence(client: Client) -> None:
    client.send_bytes(b"\x01\x00\x00\x00\x00\x00\x04\x00\x63\x00\x63\xce")
    assert client.received() == []
    assert client.is_finished()


def test_what_only_servers_send(client: Client) -> None:
    channel = client.channel()
    channel.send(commands.Queue.DeclareOk("q", 0, 0))
    assert client.closed_with().reply_code == 503


def test_bytes_that_are_no_method(client: Client) -> None:
    client.channel()
    client.send_bytes(b"\x01\x00\x01\x00\x00\x00\x05\x00\x32\x00\x0a\x00\xce")
    close = client.closed_with()
    assert (close.reply_code, close.class_id, close.method_id) == (501, 50, 10)


def test_a_wrong_end_byte_is_told_and_then_the_connection_ends_after_three_seconds(client: Client) -> None:
    client.send_bytes(b"\x01\x00\x00\x00\x00\x00\x02ab\x00")
    close = client.closed_with()
    assert close.reply_code == 501
    assert "invalid_frame_end_marker" in (close.reply_text or "")
    client.broker.advance(SILENT_CLOSE_MS - 1)
    assert not client.is_finished()
    client.broker.advance(1)
    assert client.is_finished()


def test_a_frame_beyond_frame_max(broker: MemoryBroker, cut: Cut) -> None:
    client = Client(broker, cut=cut).open(frame_max=4096)
    client.channel()
    client.send_bytes(b"\x03\x00\x01\x00\x00\x10\x01")
    close = client.closed_with()
    assert close.reply_code == 501
    assert "frame_too_large" in (close.reply_text or "")


def test_a_frame_may_be_too_large_by_its_overhead(broker: MemoryBroker, cut: Cut) -> None:
    client = Client(broker, cut=cut).open(frame_max=4096)
    channel = client.channel()
    channel.declare("q")
    content = b"x" * 4096
    channel.send(
        commands.Basic.Publish(routing_key="q"),
        header.ContentHeader(0, 4096, commands.Basic.Properties()),
        body.ContentBody(content),
    )
    message = channel.get("q")
    assert message is not None
    assert message.body == content


def test_after_a_hard_error_only_its_answer_counts(client: Client, broker: MemoryBroker) -> None:
    channel = client.channel()
    channel.send(commands.Channel.Open())
    assert client.closed_with().reply_code == 504
    channel.send(commands.Queue.Declare(queue="too-late"))
    client.send(commands.Channel.Open(), channel=2)
    client.send(commands.Connection.UpdateSecret("s", "r"), body.ContentBody(b"stray"))
    assert client.take_bytes() == b""
    assert broker.virtual_host.queues == {}
    assert not client.is_finished()
    client.send(commands.Connection.CloseOk())
    assert client.is_finished()


def test_a_connection_close_that_crosses_ours_is_answered(client: Client) -> None:
    client.channel().send(commands.Channel.Open())
    client.send(commands.Connection.Close(200, "bye", 0, 0))
    assert [one.method.name for one in client.received()] == ["Connection.Close", "Connection.CloseOk"]
    client.send(commands.Connection.CloseOk())
    assert client.is_finished()


def test_a_close_that_nobody_answers(client: Client) -> None:
    client.channel().send(commands.Channel.Open())
    client.broker.advance(CLOSING_MS_MAX - 1)
    assert not client.is_finished()
    client.broker.advance(1)
    assert client.is_finished()


# --- closing by the client


def test_connection_close(client: Client, broker: MemoryBroker) -> None:
    channel = client.channel()
    channel.declare("mine", exclusive=True)
    client.send(commands.Connection.Close(200, "bye", 0, 0))
    client.one(commands.Connection.CloseOk)
    assert client.connection.close_reason == "closed by client"
    assert broker.virtual_host.queues == {}
    assert len(broker.open_connections) == 0
    client.connection.lost("the client closed the TCP connection")
    assert client.is_finished()
    assert client.connection.close_reason == "closed by client"
    assert broker.timers.next_deadline_ms() is None


def test_each_connection_close_is_answered_and_all_else_is_ignored(client: Client, broker: MemoryBroker) -> None:
    client.channel()
    close = commands.Connection.Close(200, "bye", 0, 0)
    client.send(close, close, commands.Connection.CloseOk(), commands.Connection.UpdateSecret("s", "r"))
    client.send(commands.Queue.Declare(queue="too-late"), body.ContentBody(b"stray"), channel=1)
    client.send(body.ContentBody(b"stray"))
    client.send(close)
    assert [one.method.name for one in client.received()] == ["Connection.CloseOk"] * 3
    assert broker.virtual_host.queues == {}
    assert not client.is_finished()


@pytest.mark.parametrize(("heartbeat_s", "after_ms"), [(0, CLOSING_MS_MAX), (20, 20_000), (60, CLOSING_MS_MAX)])
@pytest.mark.parametrize("who", ["client", "broker"])
def test_how_long_the_socket_stays_open(
    broker: MemoryBroker, cut: Cut, heartbeat_s: int, after_ms: int, who: str
) -> None:
    client = Client(broker, cut=cut).open(heartbeat_s=heartbeat_s)
    if who == "client":
        client.send(commands.Connection.Close(200, "bye", 0, 0))
    else:
        client.send(commands.Channel.Open(), commands.Channel.Open(), channel=1)
    broker.advance(after_ms - 1)
    assert not client.is_finished()
    broker.advance(1)
    assert client.is_finished()


def test_shut_down_behind_connection_close(client: Client) -> None:
    client.send(commands.Connection.Close(200, "bye", 0, 0))
    client.connection.shut_down("shutdown")
    client.one(commands.Connection.CloseOk)
    assert client.is_finished()


LATE = {
    "ack": [commands.Basic.Ack(1)],
    "publish": [
        commands.Basic.Publish(),
        header.ContentHeader(0, 4, commands.Basic.Properties()),
        body.ContentBody(b"late"),
    ],
    "declare": [commands.Queue.Declare(queue="late")],
    "cancel": [commands.Basic.Cancel("t")],
    "an error": [commands.Queue.Declare(queue="missing", passive=True)],
}


@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
def test_what_comes_with_channel_close_is_ignored(broker: MemoryBroker, late: list[Client]) -> None:
    client = Client(broker).open()
    channel, other = client.channel(1), client.channel(2)
    close = commands.Channel.Close(200, "bye", 0, 0)
    client.send(close, *late, close, channel=1)  # type: ignore[arg-type]
    assert [method.name for method in channel.methods()] == ["Channel.CloseOk", "Channel.CloseOk"]
    other.declare("q")
    assert list(broker.virtual_host.queues) == ["q"]
    client.channel(1).declare("q")


def test_what_comes_with_channel_close_is_ignored_also_when_the_answer_takes_a_while(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    channel = client.channel(1)
    channel.declare("q")
    for number in range(5):
        channel.publish("", "q", b"%d" % number)
    channel.consume("q")
    assert len(channel.deliveries()) == 5
    close = commands.Channel.Close(200, "bye", 0, 0)
    broker.works.slice_messages = 2
    with broker.holding_works():
        client.send(close, commands.Queue.Declare(queue="late"), close, channel=1)
        assert channel.methods() == []
    assert [method.name for method in channel.methods()] == ["Channel.CloseOk", "Channel.CloseOk"]
    client.channel(1)
    assert list(broker.virtual_host.queues) == ["q"]


def test_a_channel_is_opened_again_only_behind_the_answer_to_its_close(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    client.channel(1)
    client.send(commands.Channel.Close(200, "bye", 0, 0), commands.Channel.Open(), channel=1)
    assert client.closed_with().reply_text == "CHANNEL_ERROR - second 'channel.open' seen"


def test_channel_close_ok_behind_channel_close_frees_the_number(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    client.channel(1)
    client.send(commands.Channel.Close(200, "bye", 0, 0), commands.Channel.CloseOk(), channel=1)
    client.send(commands.Queue.Declare(queue="q"), channel=1)
    assert client.closed_with().reply_text == "CHANNEL_ERROR - expected 'channel.open'"


def test_nothing_is_read_behind_connection_close(client: Client, broker: MemoryBroker) -> None:
    client.channel()
    client.send(commands.Connection.Close(200, "bye", 0, 0))
    client.send(commands.Queue.Declare(queue="too-late"), channel=1)
    client.one(commands.Connection.CloseOk)
    assert broker.virtual_host.queues == {}


def test_channel_close_gives_back_in_order(client: Client) -> None:
    channel = client.channel(1)
    channel.declare("q")
    for number in range(5):
        channel.publish("", "q", b"%d" % number)
    channel.consume("q")
    assert len(channel.deliveries()) == 5
    channel.ack(2)
    channel.call(commands.Channel.Close(200, "bye", 0, 0))
    other = client.channel(2)
    again = [other.get("q") for _ in range(4)]
    assert [message.body for message in again if message] == [b"0", b"2", b"3", b"4"]
    assert all(message.expect(commands.Basic.GetOk).redelivered for message in again if message)


def test_channel_close_in_the_middle_of_a_content(client: Client) -> None:
    channel = client.channel()
    channel.send(commands.Basic.Publish(), commands.Channel.Close(200, "bye", 0, 0))
    assert client.closed_with().reply_code == 505


def test_what_is_said_when_the_connection_itself_fails(client: Client) -> None:
    data = client.connection.words_for_a_defect()
    _, channel, method = frame.unmarshal(data)
    assert channel == 0
    assert isinstance(method, commands.Connection.Close)
    assert (method.reply_code, method.reply_text) == (541, "INTERNAL_ERROR")


def test_a_defect_in_what_goes_on_later_is_that_connections_own(broker: MemoryBroker) -> None:
    """A client that waited goes on within whatever the broker does then, most often for others."""
    client, other = Client(broker).open(), Client(broker).open()
    channel = client.channel()
    channel.declare("q")
    for number in range(5):
        channel.publish("", "q", b"%d" % number)
    channel.consume("q")
    assert len(channel.deliveries()) == 5

    def fail(address: Address, header: bytes, body: bytes) -> None:
        raise RuntimeError("a defect")

    broker.reply_consumers["defective"] = fail
    broker.works.slice_messages = 2
    with broker.holding_works():
        nack = commands.Basic.Nack(0, multiple=True, requeue=False)
        client.send(nack, *publish_frames("", "defective", b"x", 131_072), channel=1)
        other.channel().declare("r")
    del broker.reply_consumers["defective"]
    with pytest.raises(RuntimeError, match="a defect"):
        client.connection.take_output()
    client.connection.lost("internal error")
    other.channel(2)


# --- lost


def test_a_lost_connection_gives_everything_back(connect: Connect, broker: MemoryBroker) -> None:
    client, other = connect(), connect()
    channel, second = client.channel(1), client.channel(2)
    channel.declare("q")
    channel.declare("mine", exclusive=True)
    channel.declare("fleeting", auto_delete=True)
    for number in range(4):
        channel.publish("", "q", b"%d" % number)
    channel.get("q")
    second.consume("q")
    second.consume("fleeting")
    second.consume("amq.rabbitmq.reply-to", no_ack=True)
    assert broker.queue("q").unacknowledged_count == 4
    client.connection.lost("reset by peer")
    assert client.is_finished()
    assert client.connection.close_reason == "reset by peer"
    assert list(broker.virtual_host.queues) == ["q"]
    assert broker.reply_consumers == {}
    assert other.channel().drain("q") == [b"0", b"1", b"2", b"3"]
    assert broker.timers.next_deadline_ms() is None


def test_lost_in_the_middle_of_a_message(connect: Connect, broker: MemoryBroker) -> None:
    client = connect()
    channel = client.channel()
    channel.declare("q")
    channel.send(commands.Basic.Publish(routing_key="q"), header.ContentHeader(0, 9, commands.Basic.Properties()))
    channel.send(body.ContentBody(b"half"))
    client.connection.lost("reset by peer")
    assert broker.queue("q").ready_count == 0


def test_what_is_given_back_goes_to_whoever_waits(connect: Connect) -> None:
    client, other = connect(), connect()
    channel, waiting = client.channel(), other.channel()
    channel.declare("q")
    channel.publish("", "q", b"one")
    channel.get("q")
    waiting.consume("q")
    assert waiting.deliveries() == []
    client.connection.lost("reset by peer")
    (delivery,) = waiting.deliveries()
    assert delivery.expect(commands.Basic.Deliver).redelivered


def test_lost_after_it_was_closed_changes_nothing(client: Client) -> None:
    client.send(commands.Connection.Close(200, "bye", 0, 0))
    client.connection.lost("end of stream")
    assert client.connection.close_reason == "closed by client"


def test_a_lost_connection_reads_nothing_more(client: Client, broker: MemoryBroker) -> None:
    channel = client.channel()
    client.connection.lost("reset by peer")
    channel.send(commands.Queue.Declare(queue="too-late"))
    assert broker.virtual_host.queues == {}


# --- the broker ends


def test_shut_down(client: Client, broker: MemoryBroker) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.publish("", "q", b"one")
    channel.get("q")
    client.connection.shut_down("shutdown")
    close = client.closed_with()
    assert close.reply_code == 320
    assert close.reply_text == "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    assert (close.class_id, close.method_id) == (0, 0)
    assert broker.queue("q").ready_count == 1
    client.send(commands.Connection.CloseOk())
    assert client.is_finished()


def test_shut_down_in_the_handshake(broker: MemoryBroker, cut: Cut) -> None:
    client = Client(broker, cut=cut)
    client.start()
    client.connection.shut_down("shutdown")
    assert client.take_bytes() == b""
    assert client.is_finished()


def test_shut_down_while_it_closes_already(client: Client) -> None:
    client.channel().send(commands.Channel.Open())
    client.connection.shut_down("shutdown")
    assert [one.expect(commands.Connection.Close).reply_code for one in client.received()] == [504]


def test_shut_down_twice(client: Client) -> None:
    client.connection.shut_down("shutdown")
    client.connection.shut_down("shutdown")
    assert len(client.received()) == 1


def test_one_shut_down_hands_its_messages_to_the_others(connect: Connect) -> None:
    client, other = connect(), connect()
    channel, waiting = client.channel(), other.channel()
    channel.declare("q")
    channel.publish("", "q", b"one")
    channel.get("q")
    waiting.consume("q")
    client.connection.shut_down("an administrator")
    received: list[Received] = waiting.deliveries()
    assert [one.body for one in received] == [b"one"]


# --- channels and their number


def test_channel_max_limits_the_count_not_the_number(broker: MemoryBroker, cut: Cut) -> None:
    client = Client(broker, cut=cut).open(channel_max=2)
    client.channel(1)
    client.channel(65535)
    client.send(commands.Channel.Open(), channel=2)
    close = client.closed_with()
    text = "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)"
    assert (close.reply_code, close.reply_text) == (530, text)


def test_a_closed_channel_makes_room_for_another(broker: MemoryBroker, cut: Cut) -> None:
    client = Client(broker, cut=cut).open(channel_max=1)
    for number in range(1, 6):
        client.channel(number).call(commands.Channel.Close(200, "bye", 0, 0))


def test_channel_methods_on_channel_0(client: Client) -> None:
    client.send(commands.Channel.Open())
    assert client.closed_with().reply_code == 504


def test_content_on_channel_0(client: Client) -> None:
    client.send(body.ContentBody(b"x"))
    assert client.closed_with().reply_code == 505


def test_connection_methods_on_a_channel(client: Client) -> None:
    client.channel().send(commands.Connection.Close(200, "bye", 0, 0))
    assert client.closed_with().reply_code == 503


def test_update_secret(client: Client) -> None:
    client.send(commands.Connection.UpdateSecret("secret", "it expired"))
    client.one(commands.Connection.UpdateSecretOk)


def test_flow_that_is_on_already(client: Client) -> None:
    answer = client.channel().call(commands.Channel.Flow(True))
    assert isinstance(answer, commands.Channel.FlowOk)
    assert answer.active is True
