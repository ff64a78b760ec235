"""Heartbeats both ways, by a clock that is moved by hand."""

from __future__ import annotations

import pytest
from pamqp import commands, heartbeat

from tests.support.client import Client, Cut
from tests.support.memory_broker import MemoryBroker


@pytest.fixture
def beating(broker: MemoryBroker, cut: Cut) -> Client:
    """A connection with a heartbeat every ten seconds."""
    return Client(broker, cut=cut).open(heartbeat_s=10)


def beats(client: Client) -> int:
    """How many heartbeats have come since it was asked last."""
    before = client.heartbeats
    client.read()
    return client.heartbeats - before


def test_the_first_is_sent_after_half_an_interval_whatever_was_said_before(beating: Client) -> None:
    beating.broker.advance(4_999)
    assert beats(beating) == 0
    beating.broker.advance(1)
    assert beats(beating) == 1


def test_a_silent_connection_sends_one_in_every_half_of_an_interval(beating: Client) -> None:
    beating.broker.advance(10_000)
    beats(beating)
    for _ in range(20):
        beating.send(heartbeat.Heartbeat())
        counts = []
        for _ in range(10):
            beating.broker.advance(1_000)
            counts.append(beats(beating))
        assert counts == [0, 0, 0, 0, 1] * 2


def test_none_is_put_behind_what_the_client_does_not_take(beating: Client) -> None:
    beating.broker.advance(10_000)
    waiting_bytes = beating.connection.waiting_bytes
    assert waiting_bytes
    beating.send(heartbeat.Heartbeat())
    beating.broker.advance(15_000)
    assert beating.connection.waiting_bytes == waiting_bytes


def test_none_is_sent_while_there_is_other_traffic(beating: Client) -> None:
    channel = beating.channel()
    beating.broker.advance(5_000)
    beats(beating)
    for _ in range(20):
        beating.broker.advance(2_000)
        channel.call(commands.Basic.Qos())
    assert beats(beating) == 0


def test_a_peer_that_is_silent_for_two_intervals_is_given_up(beating: Client) -> None:
    beating.broker.advance(10_000)  # of this interval the handshake was part
    beating.broker.advance(19_999)
    assert not beating.is_finished()
    beating.broker.advance(1)
    assert beating.is_finished()
    assert beating.connection.close_reason == "missed heartbeats from client, timeout: 10s"


def test_given_up_without_a_word(beating: Client) -> None:
    beating.broker.advance(60_000)
    assert beating.received() == []
    assert beating.is_finished()


def test_heartbeats_keep_it_alive(beating: Client) -> None:
    for _ in range(100):
        beating.broker.advance(10_000)
        beating.send(heartbeat.Heartbeat())
    assert not beating.is_finished()


def test_any_byte_keeps_it_alive(beating: Client) -> None:
    for byte in b"\x01\x00\x01\x00\x00\x00\x05":  # a frame that comes very slowly
        beating.broker.advance(15_000)
        beating.send_bytes(bytes((byte,)))
    assert not beating.is_finished()


def test_a_lost_peer_gives_its_messages_back(beating: Client, broker: MemoryBroker) -> None:
    channel = beating.channel()
    channel.declare("q")
    channel.publish("", "q", b"one")
    channel.get("q")
    assert (broker.queue("q").ready_count, broker.queue("q").unacknowledged_count) == (0, 1)
    broker.advance(40_000)
    assert beating.is_finished()
    assert (broker.queue("q").ready_count, broker.queue("q").unacknowledged_count) == (1, 0)


def test_without_a_heartbeat_silence_is_no_offence(broker: MemoryBroker, cut: Cut) -> None:
    client = Client(broker, cut=cut).open(heartbeat_s=0)
    broker.advance(24 * 3_600_000)
    assert not client.is_finished()
    assert beats(client) == 0


def test_they_end_with_the_connection(beating: Client) -> None:
    beating.send(commands.Connection.Close(200, "bye", 0, 0))
    beating.one(commands.Connection.CloseOk)
    beating.connection.lost("the client closed the TCP connection")
    assert beating.broker.timers.next_deadline_ms() is None


def test_one_on_another_channel_is_an_error(beating: Client) -> None:
    beating.send_bytes(b"\x08\x00\x01\x00\x00\x00\x00\xce")
    assert beating.closed_with().reply_code == 505


def test_one_with_a_payload_is_an_error(beating: Client) -> None:
    beating.send_bytes(b"\x08\x00\x00\x00\x00\x00\x01x\xce")
    assert beating.closed_with().reply_code == 501
